#![allow(clippy::unwrap_used)]
use uuid::Uuid;

use super::*;
use crate::descriptor::{Durations, PROTOCOL};
use crate::url::NodeUrl;

const RESULT: &str = r#"{"samples":3,"sum":31}"#;

fn identity(party: usize) -> Identity {
    Identity::from_seed(&[u8::try_from(party).unwrap() + 1; 32])
}

fn descriptor() -> Descriptor {
    Descriptor {
        protocol: PROTOCOL,
        task: Uuid::from_bytes([7; 16]),
        microprotocol: "SecureSum".to_owned(),
        parameters: "{}".to_owned(),
        nodes: (0..3)
            .map(|index| NodeUrl::parse(&format!("http://127.0.0.1:9/{index}")).unwrap())
            .collect(),
        durations: Durations::default(),
        meeting: None,
    }
}

fn unsigned(nonce: u8, result: &str) -> Receipt {
    let keys = (0..3).map(|party| identity(party).key()).collect();
    let nonces = (0..3).map(|party| [nonce + party; 32]);
    Receipt::new(&descriptor(), keys, "teaching".to_owned(), nonces, result)
}

fn signed() -> Receipt {
    let mut receipt = unsigned(1, RESULT);
    for party in 0..3 {
        receipt.sign(party, &identity(party));
    }
    receipt
}

fn parse(value: &Value) -> Receipt {
    Receipt::parse(&value.to_string()).unwrap()
}

#[test]
fn a_receipt_survives_its_json_and_is_valid() {
    let receipt = signed();
    let read = parse(&receipt.shown(true));
    assert_eq!(read, receipt);
    assert!(read.complete());
    assert_eq!(read.problems(Some(RESULT)), Vec::<String>::new());
    assert_eq!(parse(&receipt.shown(false)).problems(None), Vec::<String>::new());
}

#[test]
fn the_result_may_be_written_in_another_way_and_may_not_be_another_one() {
    let receipt = signed();
    for same in [
        r#"{"sum": 31, "samples": 3}"#,
        r#"{"inputs":3,"result":{"samples":3,"sum":31},"warnings":[]}"#,
        r#"{"inputs":3,"result":{"samples":3,"sum":31},"own":{"percentile":12.5}}"#,
        "{\n  \"inputs\": 3,\n  \"result\": {\"samples\": 3, \"sum\": 31}\n}",
    ] {
        assert_eq!(receipt.problems(Some(same)), Vec::<String>::new(), "{same}");
    }
    for other in [
        r#"{"samples":3,"sum":32}"#,
        r#"{"samples":3,"sum":31.5}"#,
        "31",
        "",
        r#"{"inputs":3,"result":31}"#,
    ] {
        assert_eq!(receipt.problems(Some(other)).len(), 1, "{other}");
    }
    let without = parse(&receipt.shown(false));
    assert!(without.problems(Some(RESULT))[0].contains("no salt"));
}

#[test]
fn every_member_counts() {
    let whole = signed().shown(true);
    let other = unsigned(9, RESULT).shown(true);
    let changes: [(&str, Value); 7] = [
        ("id", other["id"].clone()),
        ("task", Uuid::from_bytes([8; 16]).to_string().into()),
        (
            "description",
            descriptor().text().replace("127.0.0.1", "127.0.0.2").into(),
        ),
        ("keys", json!([identity(0).key(), identity(1).key(), identity(5).key()])),
        ("rules", "standard".into()),
        ("commitment", other["commitment"].clone()),
        ("salt", other["salt"].clone()),
    ];
    for (member, value) in changes {
        let mut changed = whole.clone();
        changed[member] = value;
        assert!(!parse(&changed).problems(Some(RESULT)).is_empty(), "{member}");
    }
    for (member, value) in [
        ("description", json!("x")),
        ("keys", json!([identity(0).key(), identity(0).key(), identity(2).key()])),
        ("keys", json!([])),
        ("signatures", json!([])),
    ] {
        let mut changed = whole.clone();
        changed[member] = value;
        assert!(!parse(&changed).problems(None).is_empty(), "{member}");
    }
}

#[test]
fn signatures_are_those_of_their_places() {
    let whole = signed();
    for party in 0..3 {
        let mut lacking = whole.clone();
        lacking.signatures[party] = None;
        assert_eq!(lacking.problems(None), [format!("party {party} has not signed")]);
        assert!(!lacking.complete());
        // Another's, one's own of another receipt, one that is damaged.
        let other = (party + 1) % 3;
        let mut foreign = unsigned(9, RESULT);
        foreign.sign(party, &identity(party));
        let mut damaged = whole.signatures[party].unwrap();
        damaged[5] ^= 1;
        let mut elsewhere = whole.clone();
        elsewhere.sign(other, &identity(party));
        for wrong in [
            whole.signatures[other].unwrap(),
            foreign.signatures[party].unwrap(),
            damaged,
            elsewhere.signatures[other].unwrap(),
        ] {
            assert!(!lacking.countersign(party, &wrong));
            lacking.signatures[party] = Some(wrong);
            assert_eq!(
                lacking.problems(None),
                [format!("the signature of party {party} does not hold")]
            );
            lacking.signatures[party] = None;
        }
        assert!(lacking.countersign(party, &whole.signatures[party].unwrap()));
        assert!(
            !lacking.countersign(party, &whole.signatures[party].unwrap()),
            "no news"
        );
        assert_eq!(lacking, whole);
    }
    assert!(!signed().countersign(3, &whole.signatures[0].unwrap()));
}

#[test]
fn what_is_no_receipt_is_refused() {
    let whole = signed().shown(true);
    let mut cases = vec![
        json!([]),
        json!({}),
        json!({"fdrtd_receipt": 2}),
        json!({"fdrtd_receipt": 1}),
    ];
    for (member, value) in [
        ("keys", json!(["x"])),
        ("salt", json!("x")),
        ("signatures", json!(["x", null, null])),
        ("id", json!("")),
    ] {
        let mut changed = whole.clone();
        changed[member] = value;
        cases.push(changed);
    }
    for case in cases {
        assert!(Receipt::parse(&case.to_string()).is_err(), "{case}");
    }
    assert!(Receipt::parse(&" ".repeat(MAX_BYTES + 1)).is_err());
    assert!(Receipt::parse("").is_err());
}

#[test]
fn the_salt_depends_on_every_nonce_and_hides_the_result() {
    let (one, other) = (unsigned(1, RESULT), unsigned(2, RESULT));
    assert_ne!(one.commitment, other.commitment);
    assert_ne!(one.id, other.id);
    assert!(one.shown(false)["salt"].is_null());
    assert_eq!(format!("{one:?}"), format!("Receipt({}, 0 of 3)", one.id));
}
