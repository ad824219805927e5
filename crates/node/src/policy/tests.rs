#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use fdrtd_mpc::microprotocol::Release;
use fdrtd_mpc::number::Digits;
use fdrtd_mpc::threshold::Thresholds;
use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::identity::PeerKey;
use crate::url::NodeUrl;

fn profiles() -> impl Strategy<Value = Profile> {
    prop_oneof![Just(Profile::Teaching), Just(Profile::Standard), Just(Profile::Strict)]
}

fn rules() -> impl Strategy<Value = Rules> {
    let numbers = (0..12u32, 0..30u32, 0..30u32, 0..12u32);
    let small = (profiles(), 2..6u8, any::<[bool; 3]>(), 0..40u16, 0..40u16);
    (small, numbers).prop_map(|(small, numbers)| {
        let (profile, min_parties, [allow_two_party, allow_extremes, allow_names], max_digits_before, max_digits_after) = small;
        let (min_samples_own, min_samples_total, min_samples_others, min_cell) = numbers;
        Rules {
            profile,
            min_parties,
            allow_two_party,
            min_samples_own,
            min_samples_total,
            min_samples_others,
            min_cell,
            allow_extremes,
            allow_names,
            max_digits_before,
            max_digits_after,
        }
    })
}

fn approvals() -> impl Strategy<Value = Approval> {
    prop_oneof![Just(Approval::Auto), Just(Approval::FirstTime), Just(Approval::Always)]
}

fn policies() -> impl Strategy<Value = Policy> {
    let names = || option::of(btree_set("[abc]", 0..4));
    let home = (names(), 1..4u8, names(), option::of(1..9u32), 0..16u8, approvals());
    (rules(), home).prop_map(|(rules, home)| {
        let (microprotocols, min_organisations, peers, releases, differencing, approval) = home;
        Policy {
            rules,
            home: Home {
                microprotocols,
                min_organisations,
                peers,
                releases,
                differencing,
                approval,
            },
        }
    })
}

fn questions() -> impl Strategy<Value = Question> {
    const KINDS: [&[Release]; 6] = [
        &[Release::Statistic],
        &[Release::Cells],
        &[Release::Statistic, Release::Extremes],
        &[Release::Order],
        &[Release::Cells, Release::Names],
        &[],
    ];
    let kinds = (0..KINDS.len(), any::<bool>(), 1..40u16, 0..40u16, 2..7usize);
    kinds.prop_map(|(kind, compares, before, after, parties)| Question {
        microprotocol: "a",
        releases: KINDS[kind],
        compares,
        digits: Some(Digits::new(before, after).unwrap()),
        parties,
    })
}

/// What both can be compared by: everything that a rule could let through, asked one by one.
fn is_at_least_as_strict(one: &Policy, other: &Policy) -> bool {
    let (a, b) = (&one.rules, &other.rules);
    let subset = |a: &Option<BTreeSet<String>>, b: &Option<BTreeSet<String>>| match (a, b) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(a), Some(b)) => a.is_subset(b),
    };
    a.profile >= b.profile
        && a.min_parties >= b.min_parties
        && a.allow_two_party <= b.allow_two_party
        && a.min_samples_own >= b.min_samples_own
        && a.min_samples_total >= b.min_samples_total
        && a.min_samples_others >= b.min_samples_others
        && a.min_cell >= b.min_cell
        && a.allow_extremes <= b.allow_extremes
        && a.allow_names <= b.allow_names
        && a.max_digits_before <= b.max_digits_before
        && a.max_digits_after <= b.max_digits_after
        && subset(&one.home.microprotocols, &other.home.microprotocols)
        && one.home.min_organisations >= other.home.min_organisations
        && subset(&one.home.peers, &other.home.peers)
        && one.home.releases.unwrap_or(u32::MAX) <= other.home.releases.unwrap_or(u32::MAX)
        && one.home.differencing >= other.home.differencing
        && one.home.approval >= other.home.approval
}

proptest! {
    #[test]
    fn the_strictest_is_a_semilattice(a in policies(), b in policies(), c in policies()) {
        let join = |a: &Policy, b: &Policy| a.clone().strictest(b.clone());
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert!(is_at_least_as_strict(&join(&a, &b), &a));
        prop_assert!(is_at_least_as_strict(&join(&a, &b), &b));
        // And no stricter than needed: whatever is as strict as both is as strict as their join.
        if is_at_least_as_strict(&c, &a) && is_at_least_as_strict(&c, &b) {
            prop_assert!(is_at_least_as_strict(&c, &join(&a, &b)));
        }
    }

    #[test]
    fn what_a_party_breaks_all_break(mine in rules(), theirs in rules(), question in questions()) {
        // A rule that is broken under one party's rules is broken under all parties'; only what could not be checked may become certain.
        if let Some(refusal) = mine.refusal(&question)
            && !refusal.cannot_check
        {
            let both = mine.strictest(theirs).refusal(&question);
            prop_assert!(both.is_some_and(|both| !both.cannot_check));
        }
        // And parties that each allow a task allow it together: nobody learns at the end that it was for nothing.
        if mine.refusal(&question).is_none() && theirs.refusal(&question).is_none() {
            prop_assert_eq!(mine.strictest(theirs).refusal(&question), None);
        }
    }

    #[test]
    fn thresholds_are_those_of_the_strictest(mine in rules(), theirs in rules(), parties in 2..7usize, samples in 0..40u64) {
        let both = mine.strictest(theirs).thresholds(parties);
        // A greater minimum of one may make certain what another one wants compared; so no field is just the greater of the two.
        for rules in [mine, theirs] {
            let alone = rules.thresholds(parties);
            prop_assert!(both.cell >= alone.cell && both.beyond >= alone.beyond);
        }
        // Whatever all have: if each has its minimum, and what is compared is met, all rules are.
        let strictest = mine.strictest(theirs);
        let own = samples.max(u64::from(strictest.min_samples_own));
        let parties = parties as u64;
        if parties * own >= both.samples_total {
            prop_assert!(parties * own >= u64::from(strictest.min_samples_total));
        }
        if (parties - 1) * own >= both.samples_others {
            prop_assert!((parties - 1) * own >= u64::from(strictest.min_samples_others));
        }
    }

    #[test]
    fn what_compares_is_refused_for_no_more_than_what_does_not(rules in rules(), question in questions()) {
        let compares = Question { compares: true, ..question.clone() };
        let blind = Question { compares: false, ..question };
        if let Some(refusal) = rules.refusal(&compares) {
            prop_assert!(!refusal.cannot_check);
            prop_assert_eq!(rules.refusal(&blind), Some(refusal));
        }
    }

    #[test]
    fn rules_travel(rules in rules()) {
        let bytes = rules.to_bytes();
        let mut rest = [0; Rules::REST];
        rest.copy_from_slice(&bytes[1..]);
        prop_assert_eq!(Rules::from_bytes(bytes[0], &rest), Ok(rules));
    }

    #[test]
    fn whatever_a_peer_sends_is_written_in_one_way(profile: u8, rest: [u8; Rules::REST]) {
        match Rules::from_bytes(profile, &rest) {
            Ok(rules) => {
                let mut sent = vec![profile];
                sent.extend_from_slice(&rest);
                prop_assert_eq!(rules.to_bytes().to_vec(), sent);
            }
            Err(_) => prop_assert!(profile > 2 || rest[1] > 3),
        }
    }

    #[test]
    fn all_parties_name_the_same_rule_and_party(all in proptest::collection::vec(rules(), 2..5), rotated in 0..5usize) {
        let effective = Effective::of(all.iter().copied().map(Some).collect());
        let mut order: Vec<_> = all.clone();
        let rotation = rotated % all.len();
        order.rotate_left(rotation);
        let strictest = order.into_iter().reduce(Rules::strictest).unwrap();
        prop_assert_eq!(effective.rules, strictest);
        for rule in Rule::COMMON {
            let by = effective.set_by(rule);
            prop_assert!(by.is_some_and(|party| all[party].value(rule) == strictest.value(rule)), "{:?}", rule);
        }
    }

    #[test]
    fn requesters_only_tighten(own in policies(), asked in policies()) {
        prop_assert!(is_at_least_as_strict(&own.clone().strictest(asked), &own));
    }
}

fn sum(parties: usize) -> Question {
    Question {
        microprotocol: "SecureSum",
        releases: &[Release::Statistic],
        compares: false,
        digits: Some(Digits::default()),
        parties,
    }
}

fn refused(rules: Rules, question: &Question) -> Option<(Rule, bool)> {
    let refusal = rules.refusal(question)?;
    Some((refusal.rule, refusal.cannot_check))
}

#[test]
fn the_profiles_are_ordered() {
    for (lenient, strict) in [
        (Profile::Teaching, Profile::Standard),
        (Profile::Standard, Profile::Strict),
    ] {
        assert!(is_at_least_as_strict(&Policy::of(strict), &Policy::of(lenient)));
    }
    for profile in [Profile::Teaching, Profile::Standard, Profile::Strict] {
        assert_eq!(Profile::from_byte(profile.to_byte()), Some(profile));
        assert_eq!(profile.name().parse(), Ok(profile));
        assert!(Policy::of(profile).looser().is_empty());
    }
    assert_eq!(Profile::from_byte(3), None);
}

#[test]
fn own_minimums_make_totals_certain() {
    for (profile, least) in [(Profile::Teaching, 2), (Profile::Standard, 3), (Profile::Strict, 4)] {
        for parties in 2..8 {
            let answer = refused(profile.into(), &sum(parties));
            let wanted = (parties < least).then_some((Rule::MinParties, false));
            assert_eq!(answer, wanted, "{profile} with {parties}");
        }
    }
    let with = |own, total, others| Rules {
        min_samples_own: own,
        min_samples_total: total,
        min_samples_others: others,
        ..Profile::Standard.into()
    };
    assert_eq!(refused(with(1, 20, 0), &sum(3)), Some((Rule::MinSamplesTotal, true)));
    assert_eq!(refused(with(1, 20, 0), &sum(20)), None);
    assert_eq!(refused(with(7, 21, 14), &sum(3)), None);
    assert_eq!(refused(with(7, 22, 0), &sum(3)), Some((Rule::MinSamplesTotal, true)));
    assert_eq!(refused(with(7, 0, 15), &sum(3)), Some((Rule::MinSamplesOthers, true)));
    let large = with(u32::MAX, u32::MAX, u32::MAX);
    assert_eq!(refused(large, &sum(usize::MAX)), None);
}

#[test]
fn each_rule_says_no_to_its_own() {
    let standard: Rules = Profile::Standard.into();
    let two = Rules {
        min_parties: 2,
        ..standard
    };
    assert_eq!(refused(two, &sum(2)), Some((Rule::AllowTwoParty, false)));
    let digits = |before, after| Question {
        digits: Some(Digits::new(before, after).unwrap()),
        ..sum(3)
    };
    assert_eq!(refused(standard, &digits(36, 18)), None);
    assert_eq!(refused(standard, &digits(37, 0)), Some((Rule::MaxDigitsBefore, false)));
    assert_eq!(refused(standard, &digits(1, 19)), Some((Rule::MaxDigitsAfter, false)));
    let opens = |releases| Question { releases, ..sum(3) };
    assert_eq!(
        refused(standard, &opens(&[Release::Extremes])),
        Some((Rule::AllowExtremes, false))
    );
    assert_eq!(
        refused(standard, &opens(&[Release::Cells])),
        Some((Rule::MinCell, true))
    );
    let found = Question {
        compares: true,
        ..opens(&[Release::Cells, Release::Names])
    };
    assert_eq!(refused(standard, &found), Some((Rule::AllowNames, false)));
    let teaching: Rules = Profile::Teaching.into();
    assert_eq!(refused(teaching, &found), None);
    assert_eq!(
        refused(
            Rules {
                allow_names: false,
                ..teaching
            },
            &found
        ),
        Some((Rule::AllowNames, false))
    );
    assert_eq!(refused(teaching, &opens(&[Release::Cells, Release::Extremes])), None);
}

#[test]
fn what_is_compared_inside_the_protocol_is_not_refused() {
    let standard: Rules = Profile::Standard.into();
    let few = Rules {
        min_samples_own: 1,
        min_samples_total: 20,
        ..standard
    };
    let opens = |releases, compares| Question {
        releases,
        compares,
        ..sum(3)
    };
    let order: &[Release] = &[Release::Order];
    let cells: &[Release] = &[Release::Cells];
    // Single values with others beyond them: the microprotocol sees to that, or they are extremes.
    assert_eq!(refused(standard, &opens(order, true)), None);
    assert_eq!(
        refused(standard, &opens(order, false)),
        Some((Rule::AllowExtremes, false))
    );
    assert_eq!(
        refused(standard, &opens(&[Release::Order, Release::Extremes], true)),
        Some((Rule::AllowExtremes, false))
    );
    assert_eq!(refused(standard, &opens(cells, true)), None);
    assert_eq!(refused(standard, &opens(cells, false)), Some((Rule::MinCell, true)));
    // Totals concern every kind of release.
    for releases in [&[Release::Statistic], order, cells, &[Release::Extremes]] {
        let few = Rules {
            min_cell: 0,
            allow_extremes: true,
            ..few
        };
        assert_eq!(refused(few, &opens(releases, true)), None);
        assert_eq!(
            refused(few, &opens(releases, false)),
            Some((Rule::MinSamplesTotal, true))
        );
    }
}

#[test]
fn only_what_does_not_follow_is_compared() {
    let thresholds = |samples_total, samples_others, cell, beyond| Thresholds {
        samples_total,
        samples_others,
        cell,
        beyond,
        no_extremes: beyond > 0,
        ..Thresholds::default()
    };
    // What every party checks of its own samples says nothing of a group of them: that is always compared.
    let of_groups = Rules::from(Profile::Standard).thresholds(3).of_groups();
    assert_eq!((of_groups.samples_total, of_groups.samples_others), (10, 5));
    let of = |rules: Rules, parties| Thresholds {
        group_total: 0,
        group_others: 0,
        ..rules.thresholds(parties)
    };
    assert_eq!(of(Profile::Teaching.into(), 2), Thresholds::default());
    assert_eq!(of(Profile::Standard.into(), 3), thresholds(0, 0, 5, 5));
    assert_eq!(of(Profile::Strict.into(), 4), thresholds(0, 0, 10, 10));
    let rules = |own, total, others| Rules {
        min_samples_own: own,
        min_samples_total: total,
        min_samples_others: others,
        min_cell: 0,
        ..Profile::Standard.into()
    };
    // Extremes stay hidden even where cells may be small.
    assert_eq!(of(rules(7, 21, 14), 3), thresholds(0, 0, 0, 1));
    assert_eq!(of(rules(7, 22, 14), 3), thresholds(22, 0, 0, 1));
    assert_eq!(of(rules(7, 22, 15), 3), thresholds(22, 15, 0, 1));
    assert_eq!(of(rules(0, 1, 0), 3), thresholds(1, 0, 0, 1));
    assert_eq!(
        of(rules(u32::MAX, u32::MAX, u32::MAX), usize::MAX),
        thresholds(0, 0, 0, 1)
    );
}

#[test]
fn the_rules_are_told_in_words() {
    let words = |changes: &str| {
        let changes: Changes = toml::from_str(changes).unwrap();
        words::all(&changes.apply(Policy::of(Profile::Teaching)).unwrap()).join(" ")
    };
    let lenient = words("");
    assert!(lenient.contains("A party may have any number of samples."), "{lenient}");
    assert!(lenient.contains("Smallest and greatest values may open."), "{lenient}");
    assert!(!lenient.contains("compared inside"), "{lenient}");
    let total = words("min_samples_total = 20\nallow_extremes = false");
    assert!(
        total.contains("Samples in each column: all together at least 20."),
        "{total}"
    );
    assert!(total.contains("compared inside the computation"), "{total}");
    assert!(total.contains("at least 1 other values"), "{total}");
}

#[test]
fn a_dry_run_tells_what_is_compared() {
    let policy = Policy::of(Profile::Standard);
    let order = Question {
        releases: &[Release::Order],
        compares: true,
        ..sum(3)
    };
    assert_eq!(policy.compared(&order), json!({"beyond": 5}));
    let cells = Question {
        releases: &[Release::Cells],
        ..order.clone()
    };
    assert_eq!(policy.compared(&cells), json!({"cell": 5}));
    let blind = Question {
        compares: false,
        ..order
    };
    assert_eq!(policy.compared(&blind), json!({}));
    let mut few = policy;
    few.rules.min_samples_own = 1;
    assert_eq!(
        few.compared(&cells),
        json!({"cell": 5, "samples_total": 10, "samples_others": 5})
    );
}

#[test]
fn refusals_name_their_rule() {
    let url = NodeUrl::parse("https://b.example/public2").unwrap();
    let others = [Other { url: &url, key: None }];
    let asked = |changes: Changes| {
        let policy = changes.apply(Policy::of(Profile::Standard)).unwrap();
        let all = policy.refusals(&sum(3), &Organisations::default(), &others);
        let named = all.iter().map(|problem| {
            assert_eq!(problem.status, 403);
            let rule = problem.extra.iter().find(|(name, _)| *name == "rule").unwrap();
            (problem.code, rule.1.as_str().unwrap().to_owned())
        });
        named.collect::<Vec<_>>()
    };
    let is = |code, rule: &str| vec![(code, rule.to_owned())];
    assert!(asked(Changes::default()).is_empty());
    let changes = Changes {
        microprotocols: Some(BTreeSet::new()),
        ..Changes::default()
    };
    assert_eq!(asked(changes), is("POLICY_MICROPROTOCOL", "microprotocols"));
    let changes = Changes {
        min_organisations: Some(3),
        ..Changes::default()
    };
    assert_eq!(asked(changes), is("POLICY_TOO_FEW_ORGANISATIONS", "min_organisations"));
    let changes = Changes {
        peers: Some(["https://c.example".to_owned()].into()),
        ..Changes::default()
    };
    assert_eq!(asked(changes), is("POLICY_PEER", "peers"));
    let changes = Changes {
        min_samples_own: Some(1),
        ..Changes::default()
    };
    assert_eq!(asked(changes), is("POLICY_CANNOT_CHECK", "min_samples_total"));
}

#[test]
fn organisations_that_nobody_has_written_down_count_as_one() {
    let urls = [
        "https://a.example",
        "https://b.example",
        "https://c.example",
        "https://d.example",
    ];
    let urls = urls.map(|url| NodeUrl::parse(url).unwrap());
    let key = |index: u8| PeerKey::from_bytes([index; 32]);
    let others: Vec<Other<'_>> = urls.iter().map(|url| Other { url, key: None }).collect();
    let none = Organisations::default();
    assert_eq!(none.count(&others), 2);
    assert_eq!(none.count(&[]), 1);
    let known = |own: Option<&str>, names: &[&str]| {
        let peers = names
            .iter()
            .zip(&urls)
            .zip(0..)
            .map(|((name, url), index)| (url.clone(), key(index), (*name).to_owned()));
        Organisations::new(own, peers)
    };
    // Own, North, South, and the rest.
    assert_eq!(known(None, &["North", "South"]).count(&others), 4);
    assert_eq!(known(Some("north "), &["North", "South"]).count(&others), 3);
    assert_eq!(known(Some("North"), &["North"; 4]).count(&others), 1);
    // By its key if that is known, wherever it is.
    let moved = [Other {
        url: &urls[3],
        key: Some(key(0)),
    }];
    assert_eq!(known(Some("North"), &["North"]).count(&moved), 1);
    let impostor = [Other {
        url: &urls[0],
        key: Some(key(9)),
    }];
    assert_eq!(known(Some("North"), &["North"]).count(&impostor), 2);
}

#[test]
fn peers_are_allowed_by_url_key_and_organisation() {
    let url = NodeUrl::parse("https://b.example/node/x").unwrap();
    let key = PeerKey::from_bytes([7; 32]);
    let book = Organisations::new(None, [(url.clone(), key, "South".to_owned())].into_iter());
    let nobody = Organisations::default();
    let allows = |book: &Organisations, entry: &str, key: Option<PeerKey>| {
        book.allows(&[entry.to_owned()].into(), &Other { url: &url, key })
    };
    for entry in ["https://b.example", "https://b.example/", "https://b.example/node/x"] {
        assert_eq!(allows(&nobody, entry, None), Some(true), "{entry}");
    }
    for entry in [
        "https://b.exampl",
        "https://b.example/nod",
        "https://b.example.evil",
        "South",
    ] {
        assert_eq!(allows(&nobody, entry, None), Some(false), "{entry}");
    }
    assert_eq!(allows(&book, "south", None), Some(true));
    assert_eq!(allows(&nobody, &key.to_string(), None), None);
    assert_eq!(allows(&nobody, &key.to_string(), Some(key)), Some(true));
    let other = PeerKey::from_bytes([8; 32]);
    assert_eq!(allows(&nobody, &key.to_string(), Some(other)), Some(false));
    assert_eq!(
        nobody.allows(&BTreeSet::new(), &Other { url: &url, key: None }),
        Some(false)
    );
}

#[test]
fn owners_loosen_knowingly_and_requesters_cannot() {
    let changes: Changes = toml::from_str("min_samples_own = 3\nreleases = 0\nmin_parties = 5").unwrap();
    let own = changes.apply(Policy::of(Profile::Standard)).unwrap();
    assert_eq!(own.looser(), [Rule::MinSamplesOwn, Rule::Releases]);
    assert_eq!((own.rules.min_parties, own.home.releases), (5, None));
    let asked = |json: &str| own.clone().strictest(Changes::of_requester(json).unwrap());
    assert_eq!(asked("{}"), own);
    assert_eq!(asked("\"teaching\""), own);
    assert_eq!(asked("{\"min_samples_own\": 1}"), own);
    assert_eq!(asked("{\"min_samples_own\": 8}").rules.min_samples_own, 8);
    let strict = asked("\"strict\"");
    assert_eq!((strict.rules.profile, strict.rules.min_parties), (Profile::Strict, 5));
    assert_eq!(asked("{\"profile\": \"strict\", \"min_cell\": 30}").rules.min_cell, 30);
    for bad in [
        "1",
        "\"lenient\"",
        "{\"profile\": 1}",
        "{\"min_sampels\": 1}",
        "{\"min_parties\": 1}",
        "{\"min_samples_own\": -1}",
        "{\"differencing\": 17}",
        "{\"peers\": []}",
        "{\"approval\": \"auto\"}",
    ] {
        assert!(Changes::of_requester(bad).is_err(), "{bad}");
    }
    assert!(toml::from_str::<Changes>("min_sampels = 1").is_err());
}

#[test]
fn the_example_of_the_configuration_shows_the_rules_of_standard() {
    let text = include_str!("../../../../docs/fdrtd.example.toml");
    let lines = text.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line));
    let all = lines.collect::<Vec<_>>().join("\n");
    let mut shown = toml::from_str::<crate::config::Config>(&all).unwrap().rules;
    assert!(shown.peers.take().is_some() && shown.microprotocols.take().is_some());
    assert_eq!(
        shown.apply(Policy::of(Profile::Strict)).unwrap().home,
        Policy::of(Profile::Standard).home
    );
    let applied = shown.apply(Policy::of(Profile::Teaching)).unwrap().rules;
    let profile = Profile::Standard;
    assert_eq!(Rules { profile, ..applied }, profile.into());
}

#[test]
fn the_page_has_the_numbers_of_the_profiles() {
    let page = include_str!("../../../../docs/policy.md");
    let all = [Profile::Teaching, Profile::Standard, Profile::Strict].map(Policy::of);
    let mut found = 0;
    let named = Policy::of(Profile::Standard).shown(true);
    for rule in named.as_object().unwrap().keys() {
        let row = page
            .lines()
            .find(|line| line.starts_with('|') && line.contains(&format!("`{rule}`")));
        let cells: Vec<&str> = row
            .unwrap_or_else(|| panic!("{rule}"))
            .split('|')
            .map(str::trim)
            .collect();
        for (policy, cell) in all.iter().zip(&cells[2..5]) {
            let value = &policy.shown(true)[rule];
            if let (Some(number), Ok(shown)) = (value.as_u64(), cell.parse::<u64>()) {
                assert_eq!(number, shown, "{rule}");
                found += 1;
            }
        }
    }
    assert_eq!(found, 18);
}

#[test]
fn inputs_are_compared_with_the_effective_minimum() {
    let all = vec![Some(Profile::Teaching.into()), Some(Profile::Strict.into()), None];
    let rules = Effective::of(all);
    assert!(Policy::check_samples(&rules, 10, 0).is_ok());
    let problem = Policy::check_samples(&rules, 9, 0).unwrap_err();
    assert_eq!((problem.status, problem.code), (403, "POLICY_TOO_FEW_SAMPLES"));
    assert!(problem.message.contains("party 1") && problem.message.contains("10"));
    assert_eq!(rules.shown()["min_samples_own"], json!({"value": 10, "party": 1}));
}
