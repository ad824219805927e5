//! Frequencies and contingency tables against plaintext: declared and found categories, hidden cells, what is refused.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::excessive_precision,
    clippy::needless_range_loop
)]

#[path = "../simulated/mod.rs"]
mod simulated;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use fdrtd_mpc::data::Category;
use fdrtd_mpc::microprotocol::{Column, Entry, Release};
use fdrtd_mpc::sketch;
use fdrtd_mpc::threshold::{Cell, Thresholds, suppress, suppress_table};
use proptest::prelude::*;
use serde_json::{Value, json};
use simulated::{lists, result, result_with, texts};

const FREQUENCY: &str = "StatisticsFrequency";
const CONTINGENCY: &str = "StatisticsContingency";

fn cell(least: u64) -> Thresholds {
    Thresholds {
        cell: least,
        ..Thresholds::default()
    }
}

#[test]
fn numbers_and_texts_are_two_categories() {
    let inputs = lists(&[r#"[1, "1", 1, null]"#, r#"["1", 1.0, "a"]"#, "[]"]);
    let declared = result(FREQUENCY, r#"{"categories": ["1", 1, "a", "b"]}"#, &inputs);
    let expected = json!({
        "samples": 6, "missing": 1, "mode": 1, "modes": [1], "categories": ["1", 1, "a", "b"], "counts": [2, 3, 1, 0], "other": 0,
        "histogram": {"\"1\"": 2, "1": 3, "a": 1, "b": 0},
    });
    assert_eq!(declared, expected);
    // Found ones come in their own order, and nobody has "b".
    let found = result(FREQUENCY, "{}", &inputs);
    let expected = json!({
        "samples": 6, "missing": 1, "mode": 1, "modes": [1], "categories": [1, "1", "a"], "counts": [3, 2, 1], "other": 0,
        "histogram": {"1": 3, "\"1\"": 2, "a": 1},
    });
    assert_eq!(found, expected);
}

#[test]
fn a_mode_that_is_tied_is_the_same_everywhere() {
    // Each party has another one in front.
    let inputs = lists(&[r#"["b", "b", "a"]"#, r#"["a", "c"]"#, r#"["c"]"#]);
    let categories = |order: &str| result(FREQUENCY, &format!(r#"{{"categories": {order}}}"#), &inputs);
    let declared = categories(r#"["c", "b", "a"]"#);
    assert_eq!(
        (&declared["mode"], &declared["modes"]),
        (&json!("c"), &json!(["c", "b", "a"]))
    );
    let declared = categories(r#"["a", "b", "c"]"#);
    assert_eq!(
        (&declared["mode"], &declared["modes"]),
        (&json!("a"), &json!(["a", "b", "c"]))
    );
    let found = result(FREQUENCY, "{}", &inputs);
    assert_eq!(
        (&found["mode"], &found["modes"]),
        (&json!("a"), &json!(["a", "b", "c"]))
    );
    let none = result(FREQUENCY, r#"{"categories": ["a"]}"#, &lists(&["[]", "[null]"]));
    let reasons = json!({"mode": "NO_VALUES", "modes": "NO_VALUES"});
    let expected = json!({"samples": 0, "missing": 1, "mode": null, "modes": null, "categories": ["a"], "counts": [0], "other": 0, "histogram": {"a": 0}, "reasons": reasons});
    assert_eq!(none, expected);
}

#[test]
fn keys_of_pairs_do_not_run_together() {
    let inputs = lists(&[
        r#"[["a_b", "c"], ["a", "b_c"]]"#,
        r#"[["a", "b_c"], ["a_b", "b_c"], ["a", null], [null, null]]"#,
    ]);
    let parameters = r#"{"categories": {"rows": ["a", "a_b"], "columns": ["b_c", "c"]}}"#;
    let table = result(CONTINGENCY, parameters, &inputs);
    assert_eq!(table["table"], json!([[2, 0], [1, 1]]));
    assert_eq!((&table["samples"], &table["missing"]), (&json!(4), &json!(2)));
    assert_eq!(table["mode"], json!(["a", "b_c"]));
    assert_eq!(
        (&table["row_totals"], &table["column_totals"]),
        (&json!([2, 2]), &json!([3, 1]))
    );
    let found = result(CONTINGENCY, "{}", &inputs);
    assert_eq!(found["table"], table["table"]);
    assert_eq!(
        (&found["rows"], &found["columns"]),
        (&json!(["a", "a_b"]), &json!(["b_c", "c"]))
    );
}

#[test]
fn a_table_of_two_by_two_has_its_tests() {
    let rows = |counts: [[usize; 2]; 2]| -> Value {
        let mut rows = Vec::new();
        for (row, name) in ["treated", "control"].iter().enumerate() {
            for column in 0..2 {
                rows.extend(vec![json!([name, column]); counts[row][column]]);
            }
        }
        rows.into()
    };
    let parameters = r#"{"categories": {"rows": ["treated", "control"], "columns": [0, 1]}}"#;
    let all = result(
        CONTINGENCY,
        parameters,
        &texts(&[rows([[5, 1], [0, 2]]), rows([[3, 1], [1, 3]])]),
    );
    // mpmath.
    let close = |value: &Value, expected: f64| {
        assert!(
            (value.as_f64().unwrap() / expected - 1.0).abs() < 1e-12,
            "{value} {expected}"
        )
    };
    close(&all["odds_ratio"]["value"], 20.0);
    close(&all["odds_ratio"]["confidence_interval"][0], 1.4161851393939528);
    close(&all["odds_ratio"]["confidence_interval"][1], 282.44894602634891);
    close(&all["risk_ratio"]["value"], 4.8);
    close(&all["risk_ratio"]["confidence_interval"][1], 29.501752054560958);
    close(&all["fisher_exact"]["p"], 0.034965034965034965);
    assert_eq!(all["chi_square"]["degrees_of_freedom"], json!(1));
    assert_eq!(all.get("reasons"), None);
    let names: Vec<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "chi_square",
        "column_totals",
        "columns",
        "fisher_exact",
        "missing",
        "mode",
        "modes",
        "odds_ratio",
        "risk_ratio",
        "row_totals",
        "rows",
        "samples",
        "table",
    ];
    assert_eq!(names, expected);
    let zero = result(
        CONTINGENCY,
        parameters,
        &texts(&[rows([[5, 0], [0, 0]]), rows([[0, 0], [1, 0]])]),
    );
    let reasons = json!({
        "chi_square.statistic": "NO_VALUES", "chi_square.degrees_of_freedom": "NO_VALUES", "chi_square.p": "NO_VALUES",
        "odds_ratio.value": "NOT_POSITIVE", "odds_ratio.confidence_interval": "NOT_POSITIVE",
    });
    assert_eq!(zero["reasons"], reasons);
    assert_eq!(
        (&zero["fisher_exact"]["p"], &zero["risk_ratio"]["value"]),
        (&json!(1.0), &json!(1.0))
    );
    // Not for other tables.
    let wide = result(
        CONTINGENCY,
        r#"{"categories": {"rows": ["treated", "control"], "columns": [0, 1, 2]}}"#,
        &texts(&[rows([[2, 3], [4, 1]]), json!([["control", 2]])]),
    );
    assert_eq!((wide.get("odds_ratio"), wide.get("fisher_exact")), (None, None));
    assert_eq!(wide["chi_square"]["degrees_of_freedom"], json!(2));
}

#[test]
fn all_forms_of_tables() {
    let parameters = r#"{"categories": {"rows": ["f", "m"], "columns": [1, 2]}}"#;
    let named = [
        json!({"columns": ["sex", "stage"], "rows": [["f", 1], ["m", 2]]}),
        json!({"columns": {"sex": ["m"], "stage": [null]}}),
        json!({"sex": [], "stage": []}),
    ];
    let table = result(CONTINGENCY, parameters, &texts(&named));
    assert_eq!(
        (&table["table"], &table["missing"]),
        (&json!([[1, 0], [0, 1]]), &json!(1))
    );
    let empty = result(CONTINGENCY, "{}", &texts(&[json!([]), json!([])]));
    assert_eq!(
        (&empty["rows"], &empty["table"], &empty["samples"]),
        (&json!([]), &json!([]), &json!(0))
    );
    assert_eq!(empty["reasons"]["chi_square.p"], json!("NO_VALUES"));
    let none = result(FREQUENCY, "{}", &texts(&[json!([]), json!([null])]));
    assert_eq!(
        (&none["categories"], &none["counts"], &none["histogram"]),
        (&json!([]), &json!([]), &json!({}))
    );
    let column = result(
        FREQUENCY,
        r#"{"categories": ["f"]}"#,
        &texts(&[
            json!({"sex": ["f"]}),
            json!({"columns": ["sex"], "rows": [["f"], [null]]}),
        ]),
    );
    assert_eq!((&column["samples"], &column["missing"]), (&json!(2), &json!(1)));
}

#[test]
fn inputs_are_refused_with_their_position() {
    let refusal = |name: &str, parameters: &str, text: &str| {
        let refusal = Entry::find(name)
            .unwrap()
            .configure(parameters)
            .unwrap()
            .input(3, &[text])
            .unwrap_err();
        assert!(
            !refusal.message.contains("secret") && !refusal.hint.contains("secret"),
            "{refusal:?}"
        );
        (refusal.code, refusal.at)
    };
    let is = |code: &'static str, at: &str| (code, at.to_owned());
    let declared = r#"{"categories": ["a", 1]}"#;
    for (text, expected) in [
        (r#"["a", "secret"]"#, is("CATEGORY_UNKNOWN", "[1]")),
        (r#"["a", "1"]"#, is("CATEGORY_UNKNOWN", "[1]")),
        (r#"[1, 1.5]"#, is("CATEGORY_EXPECTED", "[1]")),
        (r#"["a", true]"#, is("CATEGORY_EXPECTED", "[1]")),
        (r#"{"x": ["a", "secret"]}"#, is("CATEGORY_UNKNOWN", "x[1]")),
        (r#"[["a", 1]]"#, is("INPUT_SHAPE", "")),
        (r#"{"x": ["a"], "y": ["a"]}"#, is("INPUT_SHAPE", "")),
    ] {
        assert_eq!(refusal(FREQUENCY, declared, text), expected, "{text}");
    }
    let two = r#"{"categories": {"rows": ["a"], "columns": ["b"]}}"#;
    for (text, expected) in [
        (r#"[["a", "b"], ["a", "secret"]]"#, is("CATEGORY_UNKNOWN", "[1][1]")),
        (r#"[["b", "b"]]"#, is("CATEGORY_UNKNOWN", "[0][0]")),
        // Also where the row would not count.
        (
            r#"{"columns": ["x", "y"], "rows": [["secret", null]]}"#,
            is("CATEGORY_UNKNOWN", "rows[0][0]"),
        ),
        (r#"[["a", "b"], ["a"]]"#, is("ROWS_RAGGED", "[1]")),
        (r#"{"x": ["a"], "y": []}"#, is("COLUMNS_UNEVEN", "y")),
        (r#"["a", "a"]"#, is("INPUT_SHAPE", "")),
    ] {
        assert_eq!(refusal(CONTINGENCY, two, text), expected, "{text}");
    }
    // Too long to be found; declared it is not.
    let long = "x".repeat(sketch::MAX_TEXT_BYTES + 1);
    let input = json!(["a", "b", long]).to_string();
    let found = Entry::find(FREQUENCY).unwrap().configure("{}").unwrap();
    let refusal = found.input(3, &[&input]).unwrap_err();
    assert_eq!((refusal.code, refusal.at.as_str()), ("CATEGORY_LENGTH", "[2]"));
    assert!(
        refusal.hint.contains("declare") && !refusal.message.contains("xxx"),
        "{refusal:?}"
    );
    let parameters = json!({"categories": ["a", "b", long]}).to_string();
    assert!(
        Entry::find(FREQUENCY)
            .unwrap()
            .configure(&parameters)
            .unwrap()
            .input(3, &[&input])
            .is_ok()
    );
    // Others may be counted together.
    let other = result(
        FREQUENCY,
        r#"{"categories": ["a"], "other": true}"#,
        &lists(&[r#"["a", "b", 1]"#, r#"["a", "c", null]"#]),
    );
    assert_eq!(
        (&other["counts"], &other["other"], &other["samples"], &other["missing"]),
        (&json!([2]), &json!(3), &json!(5), &json!(1))
    );
    let parameters = r#"{"categories": {"rows": ["a"], "columns": ["b"]}, "other": true}"#;
    let other = result(
        CONTINGENCY,
        parameters,
        &lists(&[r#"[["a", "b"], ["a", "c"]]"#, r#"[["c", "b"], ["a", "b"], [null, 1]]"#]),
    );
    assert_eq!(
        (&other["table"], &other["other"], &other["samples"], &other["missing"]),
        (&json!([[2]]), &json!(2), &json!(4), &json!(1))
    );
}

#[test]
fn parameters_are_refused_with_their_position() {
    let refused = |name: &str, parameters: &str| Entry::find(name).unwrap().configure(parameters).unwrap_err().at;
    assert_eq!(refused(FREQUENCY, r#"{"categories": ["a", 1.5]}"#), "categories[1]");
    assert_eq!(
        refused(FREQUENCY, r#"{"categories": {"rows": [1], "columns": [1]}}"#),
        "categories"
    );
    assert_eq!(refused(FREQUENCY, r#"{"other": true}"#), "other");
    assert_eq!(refused(FREQUENCY, r#"{"categories": [1], "other": 1}"#), "other");
    assert_eq!(refused(CONTINGENCY, r#"{"categories": ["a"]}"#), "categories");
    assert_eq!(refused(CONTINGENCY, r#"{"categories": {"rows": ["a"]}}"#), "categories");
    assert_eq!(
        refused(
            CONTINGENCY,
            r#"{"categories": {"rows": ["a"], "columns": ["b"], "x": []}}"#
        ),
        "categories"
    );
    assert_eq!(
        refused(CONTINGENCY, r#"{"categories": {"rows": ["a"], "columns": ["b", "b"]}}"#),
        "categories.columns[1]"
    );
    let many = |count: i64| (0..count).collect::<Vec<_>>();
    let large = json!({"categories": {"rows": many(200), "columns": many(51)}}).to_string();
    assert_eq!(refused(CONTINGENCY, &large), "categories");
    // One form of the same parameters, in the given order.
    let canonical = |name: &str, parameters: &str| Entry::find(name).unwrap().configure(parameters).unwrap().canonical;
    let expected = r#"{"categories":["b",1,"a"],"digits_after":12,"digits_before":18,"min_cell":3,"other":true}"#;
    assert_eq!(
        canonical(
            FREQUENCY,
            r#"{"other": true, "min_cell": 3, "categories": ["\u0062", 1.0, "a"]}"#
        ),
        expected
    );
    assert_eq!(canonical(FREQUENCY, r#"{"other": false}"#), canonical(FREQUENCY, "{}"));
    for (name, parameters) in [
        (FREQUENCY, expected),
        (CONTINGENCY, r#"{"categories": {"columns": ["b"], "rows": [1]}}"#),
    ] {
        let once = canonical(name, parameters);
        assert_eq!(canonical(name, &once), once);
    }
    let releases = |parameters: &str| Entry::find(FREQUENCY).unwrap().configure(parameters).unwrap().releases;
    assert_eq!(releases("{}"), [Release::Cells, Release::Names]);
    assert_eq!(releases(r#"{"categories": [1]}"#), [Release::Cells]);
}

/// The record of releases tells rows apart that differ, 1 and "1" among them, and no others.
#[test]
fn rows_for_the_record() {
    let rows = |name: &str, text: &str| {
        let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
        let mut see = |column: Column<'_>, row: Option<&[u8]>| {
            if let Some(row) = row {
                seen.push((format!("{column:?}"), row.to_vec()));
            }
        };
        Entry::find(name)
            .unwrap()
            .configure("{}")
            .unwrap()
            .rows(&[text], &mut see)
            .unwrap();
        seen
    };
    let forms = rows(FREQUENCY, r#"[1, "1", null, "\u0061", "a", 1.0, ""]"#);
    assert_eq!(forms.len(), 6);
    assert_eq!((&forms[0], &forms[2]), (&forms[4], &forms[3]));
    assert_eq!(forms.iter().collect::<BTreeSet<_>>().len(), 4);
    let columns: Vec<String> = rows(CONTINGENCY, r#"{"x": ["a"], "y": [1]}"#)
        .into_iter()
        .map(|(column, _)| column)
        .collect();
    assert_eq!(columns, ["Named(\"x\")", "Named(\"y\")"]);
    assert_eq!(rows(CONTINGENCY, r#"[["a", 1]]"#).len(), 2);
}

fn category() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        1 => Just(None),
        4 => (0..3_i64).prop_map(|number| Some(number.into())),
        4 => (0..3_i64).prop_map(|number| Some(number.to_string().into())),
        2 => Just(Some("a".into())),
    ]
}

/// As the results sort them.
fn order(value: &Value) -> Category {
    Category::read(value.to_string().as_bytes()).unwrap()
}

fn declared() -> Vec<Value> {
    vec![
        json!("a"),
        json!(2),
        json!("2"),
        json!(1),
        json!("1"),
        json!(0),
        json!("0"),
        json!("nobody"),
    ]
}

fn tally<Key: Ord>(all: impl Iterator<Item = Key>) -> BTreeMap<Key, u64> {
    let mut counts = BTreeMap::new();
    all.for_each(|key| *counts.entry(key).or_insert(0) += 1);
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frequencies_are_those_of_the_pooled_data(
        inputs in proptest::collection::vec(proptest::collection::vec(category(), 0..25), 2..9),
        least in prop_oneof![Just(0_u64), Just(0), 2..6_u64],
        find in any::<bool>(),
    ) {
        let pooled: Vec<&Value> = inputs.iter().flatten().flatten().collect();
        let missing = inputs.iter().flatten().filter(|value| value.is_none()).count() as u64;
        let counts = tally(pooled.iter().map(|value| order(value)));
        let names: Vec<Value> = if find {
            // Those that are common enough at one party.
            let common = |input: &Vec<Option<Value>>| {
                let own = tally(input.iter().flatten().map(order));
                own.into_iter().filter(|(_, count)| *count >= least.max(1)).map(|(name, _)| name).collect::<Vec<_>>()
            };
            let all: BTreeSet<Category> = inputs.iter().flat_map(common).collect();
            all.iter().map(Category::to_json).collect()
        } else {
            declared()
        };
        let parameters = if find { json!({}) } else { json!({"categories": names}) };
        let found = result_with(FREQUENCY, &parameters.to_string(), &texts(&inputs), cell(least));
        prop_assert_eq!(&found["categories"], &json!(names));
        let mut expected: Vec<u64> = names.iter().map(|name| counts.get(&order(name)).copied().unwrap_or(0)).collect();
        let other = pooled.len() as u64 - expected.iter().sum::<u64>();
        if find {
            expected.push(other);
        }
        let bits: Vec<Cell> = expected.iter().map(|count| Cell { small: (1..least).contains(count), empty: *count == 0 }).collect();
        let hidden = if bits.iter().any(|cell| cell.small) { suppress(&bits) } else { vec![false; bits.len()] };
        for (index, name) in names.iter().enumerate() {
            let count = if hidden[index] { Value::Null } else { expected[index].into() };
            prop_assert_eq!(&found["counts"][index], &count, "{}", name);
            let key = match name.as_str() {
                Some(text) if text.parse::<i64>().is_ok() => name.to_string(),
                Some(text) => text.to_owned(),
                None => name.to_string(),
            };
            prop_assert_eq!(&found["histogram"][&key], &count);
        }
        let shown = !hidden.contains(&true);
        prop_assert_eq!(found["samples"].as_u64(), shown.then_some(pooled.len() as u64));
        prop_assert_eq!(found["missing"].as_u64(), (!(1..least).contains(&missing)).then_some(missing));
        if !find || !hidden.last().unwrap() {
            prop_assert_eq!(&found["other"], &json!(other));
        }
        let greatest = expected[..names.len()].iter().max().copied().unwrap_or(0);
        if shown && greatest > 0 {
            let modes: Vec<&Value> = names.iter().zip(&expected).filter(|(_, count)| **count == greatest).map(|(name, _)| name).collect();
            prop_assert_eq!((&found["mode"], &found["modes"]), (modes[0], &json!(modes)));
        } else {
            let why = if shown { "NO_VALUES" } else { "FEW_IN_CELL" };
            prop_assert_eq!((&found["mode"], &found["modes"]), (&Value::Null, &Value::Null));
            prop_assert_eq!((&found["reasons"]["mode"], &found["reasons"]["modes"]), (&json!(why), &json!(why)));
        }
    }

    #[test]
    fn tables_are_those_of_the_pooled_data(
        inputs in proptest::collection::vec(proptest::collection::vec((category(), category()), 0..30), 2..6),
        least in prop_oneof![Just(0_u64), Just(0), 2..4_u64],
        find in any::<bool>(),
    ) {
        let rows: Vec<Vec<[&Option<Value>; 2]>> = inputs.iter().map(|input| input.iter().map(|(x, y)| [x, y]).collect()).collect();
        let complete = |input: &[[&Option<Value>; 2]]| -> Vec<[Category; 2]> {
            let pairs = input.iter().filter_map(|[x, y]| Some([order(x.as_ref()?), order(y.as_ref()?)]));
            pairs.collect()
        };
        let pooled: Vec<[Category; 2]> = rows.iter().flat_map(|input| complete(input)).collect();
        let missing = (rows.iter().map(Vec::len).sum::<usize>() - pooled.len()) as u64;
        let names: Vec<Vec<Value>> = (0..2).map(|side: usize| {
            if !find {
                return declared();
            }
            let common = |input: &Vec<[&Option<Value>; 2]>| {
                let own = tally(complete(input).into_iter().map(|pair| pair[side].clone()));
                own.into_iter().filter(|(_, count)| *count >= least.max(1)).map(|(name, _)| name).collect::<Vec<_>>()
            };
            let all: BTreeSet<Category> = rows.iter().flat_map(common).collect();
            all.iter().map(Category::to_json).collect()
        }).collect();
        let parameters = if find { json!({}) } else { json!({"categories": {"rows": names[0], "columns": names[1]}}) };
        let found = result_with(CONTINGENCY, &parameters.to_string(), &texts(&rows), cell(least));
        prop_assert_eq!((&found["rows"], &found["columns"]), (&json!(names[0]), &json!(names[1])));
        let counts = tally(pooled.iter().cloned());
        let table: Vec<u64> = names[0].iter().flat_map(|x| names[1].iter().map(move |y| [order(x), order(y)]))
            .map(|pair| counts.get(&pair).copied().unwrap_or(0)).collect();
        let bits: Vec<Cell> = table.iter().map(|count| Cell { small: (1..least).contains(count), empty: *count == 0 }).collect();
        let width = names[1].len();
        let hidden = suppress_table(&bits, width);
        for (index, count) in table.iter().enumerate() {
            let expected = if hidden[index] { Value::Null } else { (*count).into() };
            prop_assert_eq!(&found["table"][index / width][index % width], &expected);
        }
        let other = pooled.len() as u64 - table.iter().sum::<u64>();
        let other_shown = !(1..least).contains(&other);
        if find {
            prop_assert_eq!(found["other"].as_u64(), other_shown.then_some(other));
        }
        let shown = !hidden.contains(&true);
        prop_assert_eq!(found["samples"].as_u64(), (shown && other_shown).then_some(pooled.len() as u64));
        prop_assert_eq!(found["missing"].as_u64(), (!(1..least).contains(&missing)).then_some(missing));
        if shown {
            let totals: Vec<u64> = (0..names[0].len()).map(|row| table[row * width..(row + 1) * width].iter().sum()).collect();
            prop_assert_eq!(&found["row_totals"], &json!(totals));
            let greatest = table.iter().max().copied().unwrap_or(0);
            prop_assert_eq!(found["mode"].is_null(), greatest == 0);
            if let Some(mode) = table.iter().position(|count| *count == greatest && greatest > 0) {
                prop_assert_eq!(&found["mode"], &json!([names[0][mode / width], names[1][mode % width]]));
            }
        } else {
            for field in ["row_totals", "column_totals", "mode", "modes"] {
                prop_assert_eq!(&found[field], &Value::Null);
                prop_assert_eq!(&found["reasons"][field], &json!("FEW_IN_CELL"));
            }
            prop_assert_eq!(&found["chi_square"], &json!({"statistic": null, "degrees_of_freedom": null, "p": null}));
        }
    }
}

#[test]
fn too_few_samples_open_nothing() {
    let few = Thresholds {
        samples_total: 10,
        cell: 2,
        ..Thresholds::default()
    };
    let inputs = lists(&[r#"["a", "a", "a", null]"#, r#"["a", "b"]"#]);
    let declared = result_with(FREQUENCY, r#"{"categories": ["a", "b"]}"#, &inputs, few);
    for field in ["samples", "missing", "mode", "modes", "other"] {
        assert_eq!(
            (&declared[field], &declared["reasons"][field]),
            (&Value::Null, &json!("FEW_SAMPLES")),
            "{field}"
        );
    }
    assert_eq!(
        (&declared["counts"], &declared["categories"]),
        (&json!([null, null]), &json!(["a", "b"]))
    );
    // No names, either.
    let found = result_with(FREQUENCY, "{}", &inputs, few);
    assert_eq!(
        (&found["categories"], &found["histogram"], &found["counts"]),
        (&Value::Null, &Value::Null, &json!([]))
    );
    assert!(!found.to_string().contains("\"a\""));
    let rows = lists(&[r#"[["a", "b"], ["a", "b"]]"#, r#"[["a", "b"]]"#]);
    let found = result_with(CONTINGENCY, "{}", &rows, few);
    for field in ["samples", "rows", "columns", "table", "row_totals", "mode"] {
        assert_eq!(
            (&found[field], &found["reasons"][field]),
            (&Value::Null, &json!("FEW_SAMPLES")),
            "{field}"
        );
    }
    assert!(!found.to_string().contains("\"a\""));
}

#[test]
fn a_small_count_is_not_hidden_alone() {
    let inputs = texts(&[
        json!(["a", "a", "a", "b", "c"]),
        json!(["a", "a", "b", "b", "c", "c", "c", "c"]),
    ]);
    let parameters = r#"{"categories": ["c", "empty", "b", "nobody", "a"]}"#;
    let found = result_with(FREQUENCY, parameters, &inputs, cell(5));
    assert_eq!(found["counts"], json!([5, 0, null, 0, null]));
    for field in [
        "counts[2]",
        "counts[4]",
        "histogram.a",
        "histogram.b",
        "samples",
        "mode",
        "modes",
    ] {
        assert_eq!(found["reasons"][field], json!("FEW_IN_CELL"), "{field}");
    }
    assert_eq!(found["reasons"].as_object().unwrap().len(), 7);
}

/// A name that only a few of each party's samples have is proposed by nobody, however many they are together.
#[test]
fn rare_names_stay_at_home() {
    let inputs = texts(&[
        json!(["common", "common", "common", "common", "common", "rare", "rare"]),
        json!(["common", "rare", "rare", "rare", "rare"]),
        json!(["rare", "rare", "unique"]),
    ]);
    let found = result_with(FREQUENCY, "{}", &inputs, cell(5));
    assert_eq!(
        (&found["categories"], &found["counts"], &found["other"]),
        (&json!(["common"]), &json!([6]), &json!(9))
    );
    assert!(!found.to_string().contains("rare") && !found.to_string().contains("unique"));
    let asked = result(FREQUENCY, r#"{"min_cell": 5}"#, &inputs);
    assert_eq!(asked, found);
}
