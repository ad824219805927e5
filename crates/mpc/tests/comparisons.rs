//! The microprotocols that compare, against plaintext: minimum and maximum, ranks, median, quantiles, histograms, benchmarks, thresholds.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod simulated;

use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::{HEADER, Machine};
use fdrtd_mpc::sim::{self, End, FaultAt, Outcome};
use fdrtd_mpc::threshold::Thresholds;
use proptest::prelude::*;
use serde_json::{Value, json};
use simulated::{lists, machines, result, result_with, simulate, texts};

/// The pooled numbers in order.
fn pooled(inputs: &[Vec<i64>]) -> Vec<i64> {
    let mut all: Vec<i64> = inputs.iter().flatten().copied().collect();
    all.sort_unstable();
    all
}

#[test]
fn three_numbers() {
    let inputs = texts(&[10, 5, 16]);
    assert_eq!(
        result("MinimumMaximum", "{}", &inputs),
        json!({"minimum": 5, "maximum": 16})
    );
    assert_eq!(
        result("SecureMedian", "{}", &inputs),
        json!({"samples": 3, "median": 10})
    );
    let second = result("KthElement", r#"{"rank": 2}"#, &inputs);
    assert_eq!(second, json!({"samples": 3, "rank": 2, "value": 10}));
}

#[test]
fn numbers_that_an_earlier_system_got_wrong() {
    // It never ended.
    let median = |inputs: &[&str]| result("SecureMedian", "{}", &lists(inputs))["median"].clone();
    assert_eq!(median(&["[-1.15,-2.35,4.05]", "[0.25,-0.55]"]), json!(-0.55));
    assert_eq!(median(&["[1e-05, 3e-05]", "[2e-05]"]), json!(2e-05));
    let long = ["[0.1234567890123456, 12.34567890123456]", "[1.234567890123456]"];
    assert_eq!(median(&long.map(|list| list)), json!(1.234567890123));
    let digits = r#"{"digits_after": 17}"#;
    let all = result(
        "SecureMedian",
        digits,
        &lists(&["[0.12345678901234567]", "[0.12345678901234566]", "[0.9]"]),
    );
    assert_eq!(all["median"], json!(0.12345678901234567));
    // It said 2.2e-308.
    let negative = result("MinimumMaximum", "{}", &lists(&["[-5, -3]", "[-7.5]", "-4"]));
    assert_eq!(negative, json!({"minimum": -7.5, "maximum": -3}));
    // It took its own list for granted.
    assert_eq!(
        result("MinimumMaximum", "{}", &lists(&["[]", "[2]"])),
        json!({"minimum": 2, "maximum": 2})
    );
    let nothing = result("MinimumMaximum", "{}", &lists(&["[]", "[]"]));
    let reasons = json!({"minimum": "NO_VALUES", "maximum": "NO_VALUES"});
    assert_eq!(nothing, json!({"minimum": null, "maximum": null, "reasons": reasons}));
    assert_eq!(
        result("SecureMedian", "{}", &lists(&["[]", "[]"])),
        json!({"samples": 0, "median": null, "reasons": {"median": "NO_VALUES"}})
    );
    // Refused with the digits that it needs; right when they are declared.
    let median = Entry::find("SecureMedian").unwrap();
    let refusal = median.configure("{}").unwrap().input(2, &["[1e300]"]).unwrap_err();
    assert_eq!((refusal.code, refusal.at.as_str()), ("NUMBER_TOO_LARGE", "[0]"));
    let huge = result(
        "MinimumMaximum",
        r#"{"digits_before": 301}"#,
        &lists(&["[1e300, -1e300]", "[0]"]),
    );
    assert_eq!(huge, json!({"minimum": -1e300, "maximum": 1e300}));
    let odd = lists(&["9007199254740993", "9007199254740992", "9007199254740994"]);
    assert_eq!(result("SecureMedian", "{}", &odd)["median"], json!(9007199254740993i64));
}

#[test]
fn every_rank_of_small_data() {
    let inputs = [vec![3, -1, 3], vec![], vec![7, 3, -1, 0]];
    let all = pooled(&inputs);
    for rank in 1..=8 {
        let found = result("KthElement", &json!({"rank": rank}).to_string(), &texts(&inputs));
        let expected = all.get(rank - 1);
        assert_eq!(found["value"], json!(expected), "rank {rank}");
        assert_eq!(found["samples"], 7);
        assert_eq!(found["reasons"]["value"] == json!("NO_VALUES"), expected.is_none());
        assert_eq!(
            result("KthElement", &json!({"k": rank}).to_string(), &texts(&inputs)),
            found
        );
    }
}

#[test]
fn columns_and_older_rows() {
    let inputs = texts(&[
        json!({"columns": {"age": [31, 40], "bmi": [20.5]}}),
        json!({"age": [25], "bmi": []}),
    ]);
    let expected = json!({"age": {"minimum": 25, "maximum": 40}, "bmi": {"minimum": 20.5, "maximum": 20.5}});
    assert_eq!(result("BasicMinMax", "{}", &inputs), expected);
    let medians = result("SecureMedian", "{}", &inputs);
    assert_eq!(medians["age"], json!({"samples": 3, "median": 31}));
    assert_eq!(medians["bmi"], json!({"samples": 1, "median": 20.5}));
    let rows = texts(&[
        json!({"minimum": 2, "maximum": 9}),
        json!([{"minimum": -1, "maximum": 3}, {"minimum": 4, "maximum": 12}]),
    ]);
    assert_eq!(
        result("MinimumMaximum", "{}", &rows),
        json!({"minimum": -1, "maximum": 12})
    );
}

/// R's type 1 and type 7 in rational arithmetic: the probability is `p` thousandths.
fn quantile(all: &[i64], p: u64, kind: u8) -> f64 {
    let n = all.len() as u64;
    if kind == 1 {
        return all[((n * p).div_ceil(1000).max(1) - 1) as usize] as f64;
    }
    let place = (n - 1) * p;
    let (k, rest) = ((place / 1000) as usize, place % 1000);
    let above = all[(k + 1).min(all.len() - 1)];
    // All of this is exact in doubles for small numbers.
    (all[k] * 1000 + (above - all[k]) * rest as i64) as f64 / 1000.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn order_statistics_are_those_of_the_pooled_data(
        inputs in proptest::collection::vec(proptest::collection::vec(-40i64..40, 0..12), 2..9),
        p in 0u64..=1000,
        kind in prop_oneof![Just(1u8), Just(7u8)],
    ) {
        let all = pooled(&inputs);
        let given = texts(&inputs);
        // Few declared digits: fewer rounds.
        let extremes = result("MinimumMaximum", r#"{"digits_before": 2, "digits_after": 0}"#, &given);
        prop_assert_eq!(&extremes["minimum"], &json!(all.first()));
        prop_assert_eq!(&extremes["maximum"], &json!(all.last()));
        let parameters = json!({"probabilities": [p as f64 / 1000.0, 0.5], "type": kind, "digits_before": 2, "digits_after": 1});
        let found = result("Quantiles", &parameters.to_string(), &given);
        prop_assert_eq!(&found["samples"], &json!(all.len()));
        if all.is_empty() {
            prop_assert_eq!(&found["quantiles"], &json!([null, null]));
        } else {
            for (index, p) in [p, 500].into_iter().enumerate() {
                prop_assert_eq!(found["quantiles"][index].as_f64().unwrap(), quantile(&all, p, kind), "{} of {:?}", p, all);
            }
        }
    }

    #[test]
    fn histograms_are_those_of_the_pooled_data(
        inputs in proptest::collection::vec(proptest::collection::vec(-5i64..35, 0..30), 2..6),
        min_cell in 0u64..6,
    ) {
        let edges = [0, 10, 11, 30];
        let all = pooled(&inputs);
        let parameters = json!({"edges": edges, "min_cell": min_cell, "digits_before": 4, "digits_after": 0});
        let found = result("Histogram", &parameters.to_string(), &texts(&inputs));
        let within = |low: i64, high: i64| all.iter().filter(|number| (low..high).contains(*number)).count() as u64;
        let cells = [within(-99, 0), within(0, 10), within(10, 11), within(11, 31), within(31, 99)];
        let small: Vec<bool> = cells.iter().map(|count| (1..min_cell).contains(count)).collect();
        let shown = [&found["below"], &found["counts"][0], &found["counts"][1], &found["counts"][2], &found["above"]];
        let hidden = shown.iter().filter(|cell| cell.is_null()).count();
        for ((cell, count), small) in shown.iter().zip(cells).zip(&small) {
            prop_assert!(!small || cell.is_null(), "{}", found);
            prop_assert!(cell.is_null() || **cell == json!(count), "{}", found);
        }
        prop_assert_eq!(hidden == 0, !small.contains(&true));
        // A small cell is hidden behind another one that counts something, if there is one.
        let counted = shown.iter().zip(cells).filter(|(cell, count)| cell.is_null() && *count > 0).count();
        prop_assert!(hidden != 1 && (counted != 1 || cells.iter().filter(|count| **count > 0).count() == 1), "{}", found);
        prop_assert_eq!(&found["samples"], &if hidden == 0 { json!(all.len()) } else { Value::Null });
    }

    #[test]
    fn sums_open_only_with_enough_samples(
        inputs in proptest::collection::vec(proptest::collection::vec(-40i64..40, 0..8), 2..6),
        total in 0u64..20,
        others in 0u64..12,
    ) {
        let counts: Vec<u64> = inputs.iter().map(|input| input.len() as u64).collect();
        let all: u64 = counts.iter().sum();
        let enough = all >= total && counts.iter().all(|count| all - count >= others);
        let thresholds = Thresholds { samples_total: total, samples_others: others, ..Thresholds::default() };
        let expected = if enough {
            json!({"samples": all, "sum": pooled(&inputs).iter().sum::<i64>()})
        } else {
            json!({"samples": null, "sum": null, "reasons": {"samples": "FEW_SAMPLES", "sum": "FEW_SAMPLES"}})
        };
        prop_assert_eq!(result_with("SecureSum", "{}", &texts(&inputs), thresholds), expected);
    }
}

#[test]
fn a_minimum_of_samples_may_be_asked_for_and_holds_for_each_column() {
    let inputs = texts(&[json!({"a": [1, 2], "b": [5]}), json!({"a": [3], "b": [7]})]);
    let found = result("SecureSum", r#"{"min_samples": 3}"#, &inputs);
    let reasons = json!({"samples": "FEW_SAMPLES", "sum": "FEW_SAMPLES"});
    assert_eq!(found["a"], json!({"samples": 3, "sum": 6}));
    assert_eq!(found["b"], json!({"samples": null, "sum": null, "reasons": reasons}));
    let found = result("SecureMedian", r#"{"min_samples": 3}"#, &inputs);
    assert_eq!(found["a"], json!({"samples": 3, "median": 2}));
    assert_eq!(found["b"]["reasons"]["median"], "FEW_SAMPLES");
    let found = result("MinimumMaximum", r#"{"min_samples": 3}"#, &inputs);
    assert_eq!(found["a"], json!({"minimum": 1, "maximum": 3}));
    assert_eq!(found["b"]["maximum"], Value::Null);
    assert_eq!(found["b"]["reasons"]["minimum"], "FEW_SAMPLES");
    let found = result(
        "Histogram",
        r#"{"min_samples": 9, "edges": [0, 10]}"#,
        &texts(&[[1, 2], [3, 4]]),
    );
    assert_eq!(found["counts"], json!([null]));
    assert_eq!(found["reasons"]["samples"], "FEW_SAMPLES");
}

#[test]
fn edges_are_shown_as_they_are() {
    let parameters = r#"{"digits_before": 351, "edges": [0, 9007199254740993, 1e350]}"#;
    let configured = Entry::find("Histogram").unwrap().configure(parameters).unwrap();
    let machines = sim::warm(sim::sessions(2, 1), 1).into_iter();
    let machines = machines.map(|session| configured.input(2, &["[5, 1e300]"]).unwrap().start(session));
    let End::Confirmed(text) = &sim::run(machines.collect(), 1, &[]).ends[0] else {
        panic!()
    };
    assert!(
        text.contains(r#""edges":[0,9007199254740993,10000000"#) && text.contains(r#""counts":[2,2]"#),
        "{text}"
    );
}

/// For parties with equally many numbers, so that what is compared is the same: if nothing opens, no byte depends on what the numbers are.
#[test]
fn what_must_not_open_does_not_go_into_the_computation() {
    let hidden = Thresholds {
        samples_total: 1000,
        ..Thresholds::default()
    };
    let digits = r#""digits_before": 2, "digits_after": 0"#;
    for (name, own) in [
        ("SecureSum", ""),
        ("MinimumMaximum", ""),
        ("SecureMedian", ""),
        ("KthElement", r#", "rank": 1"#),
        ("Histogram", r#", "edges": [0, 3, 9]"#),
        ("Histogram", r#", "edges": [0, 3, 9], "min_cell": 3"#),
    ] {
        let of = |data: [i64; 4]| {
            let parameters = format!("{{{digits}{own}}}");
            let outcome = simulate(name, &parameters, &texts(&[[1, 2, 3, 50], data, [7, 7, 8, 9]]), hidden);
            let End::Confirmed(result) = &outcome.ends[0] else {
                panic!("{name}: {:?}", outcome.ends)
            };
            assert!(result.contains("FEW_SAMPLES"), "{name}: {result}");
            let mut messages = outcome.delivered.clone();
            messages.sort_by_key(|(from, to, _)| (*from, *to));
            messages
        };
        assert!(of([1, 2, 3, 50]) == of([-9, -8, 7, 60]), "{name}{own}");
    }
}

/// What all parties' messages of a round open together.
fn opened(outcome: &Outcome, from_the_end: usize) -> Vec<u8> {
    let of = |from: usize, to: usize| {
        let channel = outcome
            .delivered
            .iter()
            .filter(|(a, b, _)| (a.index(), b.index()) == (from, to));
        let messages: Vec<_> = channel.map(|(_, _, message)| message[HEADER..].to_vec()).collect();
        messages[messages.len() - from_the_end].clone()
    };
    let parts = [of(0, 1), of(1, 0), of(2, 0)];
    (0..parts[0].len())
        .map(|at| parts.iter().fold(0, |sum, part| sum ^ part[at]))
        .collect()
}

#[test]
fn counts_that_are_too_small_do_not_open() {
    let run = |least: u64| {
        let thresholds = Thresholds {
            samples_total: least,
            ..Thresholds::default()
        };
        simulate("SecureSum", "{}", &texts(&[vec![1, 2], vec![3], vec![4]]), thresholds)
    };
    // The round of counts is followed by that of sums and by the closing digest.
    assert_eq!(opened(&run(4), 3), [4, 0, 0, 0]);
    assert_eq!(opened(&run(5), 3), [0, 0, 0, 0]);
    let cells = |least: u64| {
        let parameters = format!(r#"{{"edges": [0, 3, 9], "min_cell": {least}}}"#);
        simulate(
            "Histogram",
            &parameters,
            &texts(&[vec![1, 2, 4], vec![1, 5], vec![2, 5, 6]]),
            Thresholds::default(),
        )
    };
    // Two bins of four, nothing below and above; bit by bit, a nibble of cells for each bit.
    assert_eq!(opened(&cells(2), 2)[1], 0b0110);
    assert!(opened(&cells(5), 2).iter().all(|byte| *byte == 0));
}

#[test]
fn the_others_of_each_are_counted_with_few_parties_and_with_many() {
    for parties in [2usize, 8, 9, 12] {
        let inputs: Vec<Vec<i64>> = (0..parties)
            .map(|party| vec![1; 1 + usize::from(party == 1) * 5])
            .collect();
        let all = parties as u64 + 5;
        // Without the greatest there are all but six.
        for (others, enough) in [(all - 6, true), (all - 5, false)] {
            let thresholds = Thresholds {
                samples_others: others,
                ..Thresholds::default()
            };
            let found = result_with("SecureSum", "{}", &texts(&inputs), thresholds);
            assert_eq!(found["sum"].is_null(), !enough, "{parties} {others}");
        }
    }
}

#[test]
fn a_row_of_two_numbers_is_one_sample() {
    let configured = Entry::find("MinimumMaximum").unwrap().configure("{}").unwrap();
    let samples = |texts: &[&str]| configured.input(2, texts).unwrap().samples.to_vec();
    assert_eq!(
        samples(&[r#"[{"minimum": 1, "maximum": 9}, {"minimum": 2, "maximum": 3}]"#]),
        [2]
    );
    assert_eq!(samples(&["[4, 5, 6]", r#"{"minimum": 1, "maximum": 9}"#]), [4]);
    assert_eq!(samples(&[r#"{"minimum": [1], "maximum": [9, 9]}"#]), [2, 1]);
}

/// A party that asks other pivots than all others: what opens cannot come from any data.
#[test]
fn signs_that_contradict_each_other_end_it_for_all() {
    let inputs = texts(&[vec![1, 2, 3], vec![4, 5], vec![6]]);
    let parameters = r#"{"rank": 1, "digits_before": 1, "digits_after": 0}"#;
    let mut contradicted = 0;
    for seed in 0..40 {
        // A change of the signs' last round that all are told alike: a flipped bit at one receiver is found by the closing digest only.
        let mut parties = machines("KthElement", parameters, &inputs, seed, Thresholds::default());
        let mut sent = std::collections::HashMap::new();
        let mut mail = std::collections::VecDeque::new();
        let mut states: Vec<_> = parties.iter_mut().map(Machine::step).collect();
        let rounds = Entry::find("KthElement")
            .unwrap()
            .configure(parameters)
            .unwrap()
            .rounds(3, &Thresholds::default());
        loop {
            for (from, machine) in parties.iter_mut().enumerate() {
                for (to, message) in machine.outgoing() {
                    let number = sent.entry((from, to)).or_insert(0);
                    *number += 1;
                    let mut bytes = message.to_vec();
                    if from == 2 && *number == rounds {
                        // Two bits of 31: most pairs of changes leave signs that no data have.
                        bytes[HEADER] ^= 1 << (seed % 8);
                        bytes[HEADER + 1] ^= 1 << (seed % 7);
                    }
                    mail.push_back((from, to, bytes::Bytes::from(bytes)));
                }
            }
            let Some((from, to, message)) = mail.pop_front() else {
                break;
            };
            let from = fdrtd_mpc::net::Party::new(from, 3).unwrap();
            states[to.index()] = match parties[to.index()].deliver(from, message) {
                Ok(()) => parties[to.index()].step(),
                Err(abort) => fdrtd_mpc::net::State::Aborted(abort),
            };
        }
        // Found before the closing digests, which would have told as well: none is sent.
        let third = fdrtd_mpc::net::Party::new(2, 3).unwrap();
        let found = |party: usize| {
            let stories = fdrtd_mpc::net::Abort::StoriesDiffer;
            states[party] == fdrtd_mpc::net::State::Aborted(stories) && sent[&(party, third)] == rounds
        };
        contradicted += usize::from(found(0) && found(1));
        let confirmed = |state: &fdrtd_mpc::net::State| matches!(state, fdrtd_mpc::net::State::Confirmed(_));
        assert!(!confirmed(&states[0]) && !confirmed(&states[1]), "{states:?}");
    }
    assert!(contradicted > 20, "{contradicted}");
}

#[test]
fn inputs_in_parts_are_one_input_and_their_memory_is_bounded_together() {
    let median = Entry::find("SecureMedian").unwrap();
    let configured = median.configure("{}").unwrap();
    let of = |texts: &[&str]| configured.input(2, texts).map(|prepared| prepared.samples.to_vec());
    assert_eq!(of(&["[1, 2]", "3", "[]"]).unwrap(), [3]);
    assert_eq!(
        of(&[r#"{"a": 1, "b": [2]}"#, r#"{"columns": {"b": [], "a": [4, 5]}}"#]).unwrap(),
        [3, 1]
    );
    assert_eq!(of(&["[1]", r#"{"a": 1}"#]).unwrap_err().code, "INPUT_SHAPE");
    let wide = median
        .configure(r#"{"digits_before": 300, "digits_after": 300}"#)
        .unwrap();
    let part = format!("[{}1]", "1,".repeat(300_000));
    assert!(wide.input(2, &[&part]).is_ok());
    let parts = vec![part.as_str(); 4];
    assert_eq!(wide.input(2, &parts).unwrap_err().code, "TOO_MANY_SUMS");
}

#[test]
fn what_is_too_much_for_one_task_is_refused() {
    let columns = |count: usize| {
        json!(
            (0..count)
                .map(|n| (format!("c{n}"), json!([n])))
                .collect::<serde_json::Map<_, _>>()
        )
        .to_string()
    };
    let refused = |name: &str, parameters: &str, parties: usize, count: usize| {
        let configured = Entry::find(name).unwrap().configure(parameters).unwrap();
        configured
            .input(parties, &[&columns(count)])
            .err()
            .map(|refusal| refusal.code)
    };
    let wide = r#"{"digits_before": 300, "digits_after": 300}"#;
    assert_eq!(refused("SecureMedian", "{}", 3, 100), None);
    assert_eq!(refused("SecureMedian", "{}", 3, 600), Some("TOO_MANY_COLUMNS"));
    assert_eq!(refused("SecureMedian", wide, 64, 20), Some("TOO_MANY_COLUMNS"));
    assert_eq!(refused("MinimumMaximum", "{}", 3, 500), None);
    assert_eq!(refused("MinimumMaximum", wide, 64, 100), Some("TOO_MANY_COLUMNS"));
}

#[test]
fn a_thousand_cells_in_even_steps() {
    let parameters = json!({"edges": {"from": 0, "to": 1000, "step": 1}, "min_cell": 2}).to_string();
    let party = |party: i64| {
        (0..1000)
            .filter(|number| number % 3 != party)
            .map(|number| json!(number))
            .collect::<Vec<_>>()
    };
    let found = result("Histogram", &parameters, &texts(&[party(0), party(1), party(5)]));
    let counts = found["counts"].as_array().unwrap();
    assert_eq!(counts.len(), 1000);
    // Every number is there three times, or twice where one party has left it out.
    let expected = |number: usize| if number % 3 == 2 { 3 } else { 2 };
    assert!(
        counts
            .iter()
            .enumerate()
            .all(|(number, count)| *count == json!(expected(number)))
    );
    assert_eq!(found["samples"], 2333);
}

#[test]
fn single_values_open_only_with_others_on_both_sides() {
    let beyond = Thresholds {
        beyond: 2,
        ..Thresholds::default()
    };
    let inputs = texts(&[[1, 2, 3], [4, 5, 6]]);
    let rank = |rank: u64| result_with("KthElement", &json!({"rank": rank}).to_string(), &inputs, beyond);
    assert_eq!(rank(2)["reasons"]["value"], "FEW_BEYOND");
    assert_eq!(rank(3)["value"], 3);
    assert_eq!(rank(4)["value"], 4);
    assert_eq!(rank(5)["reasons"]["value"], "FEW_BEYOND");
    // Between 2 and 3: neither opens.
    let quartiles = result_with("Quantiles", r#"{"probabilities": [0.25, 0.5]}"#, &inputs, beyond);
    assert_eq!(quartiles["quantiles"], json!([null, 3.5]));
    assert_eq!(quartiles["reasons"], json!({"quantiles[0]": "FEW_BEYOND"}));
    let asked = result("KthElement", r#"{"rank": 1, "min_cell": 1}"#, &inputs);
    assert_eq!(asked["reasons"]["value"], "FEW_BEYOND");
}

#[test]
fn a_benchmark_tells_each_party_its_own_place_alone() {
    let numbers = [30.5, 12.0, 30.5, -4.0, 99.0];
    let inputs = texts(&numbers);
    let mut parties = machines("Benchmark", "{}", &inputs, 1, Thresholds::default());
    // Run by hand, to look at what each is told.
    let mut messages = std::collections::VecDeque::new();
    for (index, machine) in parties.iter_mut().enumerate() {
        machine.step();
        messages.extend(machine.outgoing().into_iter().map(|(to, message)| (index, to, message)));
    }
    while let Some((from, to, message)) = messages.pop_front() {
        let machine = &mut parties[to.index()];
        let from = fdrtd_mpc::net::Party::new(from, 5).unwrap();
        machine.deliver(from, message).unwrap();
        machine.step();
        messages.extend(
            machine
                .outgoing()
                .into_iter()
                .map(|(next, message)| (to.index(), next, message)),
        );
    }
    for (machine, number) in parties.iter_mut().zip(numbers) {
        let own: Value = serde_json::from_str(&machine.own().unwrap()).unwrap();
        let smaller = numbers.iter().filter(|other| **other < number).count();
        let equal = numbers.iter().filter(|other| **other == number).count();
        assert_eq!(
            (&own["smaller"], &own["equal"]),
            (&json!(smaller), &json!(equal)),
            "{number}"
        );
        let rank = 100.0 * (smaller as f64 + equal as f64 / 2.0) / 5.0;
        assert_eq!(own["percentile_rank"], json!(rank));
        let fdrtd_mpc::net::State::Confirmed(result) = machine.step() else {
            panic!()
        };
        assert_eq!(result, r#"{"samples":5,"quartiles":[12,30.5,30.5]}"#);
    }
}

#[test]
fn parameters_and_inputs_that_cannot_be_used() {
    let refused = |name: &str, parameters: &str| {
        let refusal = Entry::find(name).unwrap().configure(parameters).unwrap_err();
        assert_eq!(refusal.code, "PARAMETERS_UNUSABLE", "{name} {parameters}");
        refusal.message
    };
    assert!(refused("KthElement", "{}").contains("needs the parameter rank"));
    assert!(refused("KthElement", r#"{"rank": 0}"#).contains("from 1 to"));
    assert!(refused("KthElement", r#"{"rank": 1.5}"#).contains("whole number"));
    assert!(refused("KthElement", r#"{"rank": 1, "k": 1}"#).contains("same parameter"));
    assert!(refused("SecureMedian", r#"{"rank": 1}"#).contains("min_cell"));
    assert!(refused("MinimumMaximum", "[]").contains("JSON object"));
    for probabilities in [
        "[]",
        "0.5",
        "[1.5]",
        "[-0.1]",
        "[0.1234567890123456789]",
        r#"["0.5"]"#,
        "[null]",
    ] {
        assert!(
            refused("Quantiles", &format!(r#"{{"probabilities": {probabilities}}}"#)).contains("from 0 to 1"),
            "{probabilities}"
        );
    }
    assert!(refused("Quantiles", r#"{"probabilities": [0.5], "type": 6}"#).contains("numbered as in R"));
    let digits = r#"{"probabilities": [0.123], "digits_before": 300, "digits_after": 306}"#;
    assert!(refused("Quantiles", digits).contains("609 digits"));
    let steps = |members: &str| refused("Histogram", &format!(r#"{{"edges": {members}}}"#));
    assert!(steps(r#"{"from": 0, "to": 10, "step": 3}"#).contains("whole number of steps"));
    assert!(steps(r#"{"from": 0, "to": 10, "step": 0}"#).contains("greater than 0"));
    assert!(steps(r#"{"from": 10, "to": 0, "step": 1}"#).contains("to is greater"));
    assert!(steps(r#"{"from": 0, "to": 10}"#).contains("members from, to and step"));
    assert!(steps(r#"{"from": 0, "to": 1, "step": 1e-12}"#).contains("more than 10001"));
    for edges in ["[1]", "[2, 1]", "[1, 1]", "1", r#"["a", 1]"#, "[1, 1e99]"] {
        refused("Histogram", &format!(r#"{{"edges": {edges}}}"#));
    }
    let input = |name: &str, parameters: &str, text: &str| {
        let configured = Entry::find(name).unwrap().configure(parameters).unwrap();
        configured.input(3, &[text]).unwrap_err()
    };
    assert_eq!(
        input("SecureMedian", "{}", r#"{"vectors": [[1, 2]]}"#).code,
        "INPUT_SHAPE"
    );
    assert_eq!(input("SecureMedian", "{}", "[1, null]").at, "[1]");
    assert_eq!(
        input("Histogram", r#"{"edges": [0, 1]}"#, r#"{"a": [1]}"#).code,
        "INPUT_SHAPE"
    );
    assert_eq!(input("Benchmark", "{}", "[1, 2]").code, "INPUT_SHAPE");
    assert_eq!(input("Benchmark", "{}", "[]").code, "INPUT_SHAPE");
    assert_eq!(
        input("MinimumMaximum", "{}", r#"[{"minimum": 1}]"#).code,
        "NUMBER_EXPECTED"
    );
}

#[test]
fn parameters_have_one_form() {
    let canonical = |name: &str, parameters: &str| Entry::find(name).unwrap().configure(parameters).unwrap().canonical;
    let parameters = r#"{"probabilities": [0.50, 25e-2, 1, 0], "min_cell": 5}"#;
    let form = r#"{"digits_after":12,"digits_before":18,"min_cell":5,"probabilities":[0.5,0.25,1,0],"type":7}"#;
    assert_eq!(canonical("Quantiles", parameters), form);
    assert_eq!(canonical("Quantiles", form), form);
    let form = r#"{"digits_after":12,"digits_before":18,"edges":[-1.5,0,100]}"#;
    assert_eq!(canonical("Histogram", r#"{"edges": [-1.50, 0, 1e2]}"#), form);
    assert_eq!(canonical("Histogram", form), form);
    assert_eq!(
        canonical("KthElement", r#"{"k": 3}"#),
        r#"{"digits_after":12,"digits_before":18,"rank":3}"#
    );
    assert_eq!(
        canonical("SecureSum", r#"{"min_samples": 0}"#),
        r#"{"digits_after":12,"digits_before":18}"#
    );
}

/// Sender, receiver, length of every message on each channel in order.
fn shape(outcome: &Outcome) -> Vec<(usize, usize, usize)> {
    let mut shape: Vec<_> = outcome
        .delivered
        .iter()
        .map(|(from, to, message)| (from.index(), to.index(), message.len()))
        .collect();
    shape.sort_by_key(|(from, to, _)| (*from, *to));
    shape
}

#[test]
fn messages_and_rounds_depend_on_public_parameters_only() {
    let all = Thresholds {
        samples_total: 8,
        samples_others: 4,
        cell: 3,
        beyond: 1,
        ..Thresholds::default()
    };
    let cases = [
        ("SecureSum", "{}"),
        ("MinimumMaximum", "{}"),
        ("SecureMedian", r#"{"digits_before": 4, "digits_after": 2}"#),
        (
            "Quantiles",
            r#"{"probabilities": [0.1, 0.9], "type": 1, "digits_before": 4, "digits_after": 2}"#,
        ),
        ("KthElement", r#"{"rank": 4, "digits_before": 4, "digits_after": 2}"#),
        (
            "Histogram",
            r#"{"edges": [0, 5, 10], "digits_before": 4, "digits_after": 2}"#,
        ),
    ];
    let data: [[Vec<i64>; 3]; 4] = [
        [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8, 9]],
        [vec![], vec![-9000, 9000], vec![0]],
        [vec![], vec![], vec![]],
        [vec![3; 40], vec![3; 2], vec![3; 7]],
    ];
    for (name, parameters) in cases {
        for thresholds in [Thresholds::default(), all] {
            let of = |inputs: &[Vec<i64>; 3]| {
                let outcome = simulate(name, parameters, &texts(inputs), thresholds);
                assert!(
                    matches!(outcome.ends[0], End::Confirmed(_)),
                    "{name}: {:?}",
                    outcome.ends[0]
                );
                shape(&outcome)
            };
            let first = of(&data[0]);
            assert!(
                data[1..].iter().all(|inputs| of(inputs) == first),
                "{name} {thresholds:?}"
            );
            let configured = Entry::find(name).unwrap().configure(parameters).unwrap();
            let messages = first.iter().filter(|(from, to, _)| (*from, *to) == (0, 1)).count();
            // And the closing digest.
            assert_eq!(
                messages,
                configured.rounds(3, &thresholds) as usize + 1,
                "{name} {thresholds:?}"
            );
        }
    }
}

#[test]
fn a_broken_peer_leads_to_an_end_with_a_reason() {
    let inputs = texts(&[vec![1, 2, 3], vec![4, 5], vec![6]]);
    let parameters = r#"{"digits_before": 2, "digits_after": 0, "min_samples": 2}"#;
    for name in ["MinimumMaximum", "SecureMedian", "SecureSum"] {
        let right = result(name, parameters, &inputs).to_string();
        for index in (0..12).chain((12..150).step_by(9)) {
            for fault in [
                sim::Fault::Drop,
                sim::Fault::Truncate(1),
                sim::Fault::Flip(5 + 37 * index),
                sim::Fault::Repeat,
                sim::Fault::Delay,
            ] {
                let faults = [FaultAt {
                    from: 1,
                    to: 0,
                    index,
                    fault,
                }];
                let outcome = sim::run(
                    machines(name, parameters, &inputs, 1, Thresholds::default()),
                    index as u64,
                    &faults,
                );
                let confirmed: Vec<&String> = outcome
                    .ends
                    .iter()
                    .filter_map(|end| {
                        if let End::Confirmed(result) = end {
                            Some(result)
                        } else {
                            None
                        }
                    })
                    .collect();
                let same = confirmed.iter().all(|result| **result == *confirmed[0]);
                assert!(same, "{name} {index} {fault:?}: {confirmed:?}");
                if matches!(fault, sim::Fault::Delay) {
                    assert_eq!(confirmed.len(), 3);
                    let value: Value = serde_json::from_str(confirmed[0]).unwrap();
                    assert_eq!(value.to_string(), right);
                }
            }
        }
    }
}
