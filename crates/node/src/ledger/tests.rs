#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use fdrtd_mpc::microprotocol::Entry as Microprotocol;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::{Policy, Profile};
use crate::store::tests::Scratch;

fn ledger() -> Ledger {
    Ledger::open(&Store::ephemeral()).unwrap()
}

fn note() -> Note {
    Note::new(0, "anna", "task.charge", None, &json!({}))
}

fn rows(ledger: &Ledger, texts: &[&str]) -> Contributions {
    let configured = Microprotocol::find("SecureSum").unwrap().configure("{}").unwrap();
    ledger.contributions(&configured, texts).unwrap()
}

fn home(releases: Option<u32>, differencing: u8) -> Home {
    Home {
        releases,
        differencing,
        ..Policy::of(Profile::Standard).home
    }
}

fn peer(index: u8) -> (PeerKey, NodeUrl) {
    let url = NodeUrl::parse(&format!("https://p{index}.example")).unwrap();
    (PeerKey::from_bytes([index; 32]), url)
}

fn release_to(ledger: &Ledger, home: &Home, peers: &[(PeerKey, NodeUrl)], text: &str) -> Result<Uuid, Rule> {
    let peers: Vec<_> = peers.iter().map(|(key, url)| (*key, url)).collect();
    let task = Uuid::new_v4();
    match ledger.charge(&task, home, &peers, &rows(ledger, &[text]), note()) {
        Ok(_) => Ok(task),
        Err(refusal) => Err(refusal.rule),
    }
}

fn release(ledger: &Ledger, home: &Home, text: &str) -> Result<Uuid, Rule> {
    release_to(ledger, home, &[peer(1), peer(2)], text)
}

/// In how many rows two multisets differ.
fn differing(a: &[u8], b: &[u8]) -> usize {
    let mut counts: BTreeMap<u8, i64> = BTreeMap::new();
    a.iter().for_each(|row| *counts.entry(*row).or_default() += 1);
    b.iter().for_each(|row| *counts.entry(*row).or_default() -= 1);
    counts.values().map(|count| count.unsigned_abs() as usize).sum()
}

proptest! {
    #[test]
    fn releases_that_differ_in_a_few_rows_are_refused(
        a in proptest::collection::vec(0..6u8, 0..30),
        b in proptest::collection::vec(0..6u8, 0..30),
        least in 0..=MOST_DIFFERENCING,
    ) {
        let ledger = ledger();
        let home = home(None, least);
        prop_assert!(release(&ledger, &home, &json!(a).to_string()).is_ok());
        let differs = differing(&a, &b);
        let wanted = if (1..usize::from(least)).contains(&differs) { Err(Rule::Differencing) } else { Ok(()) };
        prop_assert_eq!(release(&ledger, &home, &json!(b).to_string()).map(|_| ()), wanted, "{} rows", differs);
    }

    #[test]
    fn the_number_of_differing_rows_is_exact(
        common in proptest::collection::vec(any::<u32>(), 0..20),
        more in proptest::collection::btree_set(1_u64 << 40..1 << 41, 0..20),
        here in 0..20usize,
    ) {
        let mut one: Vec<u64> = common.iter().map(|row| u64::from(*row)).collect();
        let mut other = one.clone();
        for (index, row) in more.iter().enumerate() {
            if index < here { one.push(*row) } else { other.push(*row) }
        }
        let ledger = ledger();
        let sums = |list: &[u64]| {
            let rows = rows(&ledger, &[&json!(list).to_string()]);
            rows.0.first().map_or(PowerSums::EMPTY, |column| column.rows)
        };
        let found = sums(&one).differing(&sums(&other), MOST);
        prop_assert_eq!(found, (more.len() < MOST).then_some(more.len()));
    }

    #[test]
    fn rows_are_the_same_however_they_are_written_and_ordered(
        mut list in proptest::collection::vec(1..1000u32, 1..20),
        rotation in 0..20usize,
    ) {
        let ledger = ledger();
        let text = json!(list).to_string();
        let rotation = rotation % list.len();
        list.rotate_left(rotation);
        let written: Vec<String> = list.iter().enumerate().map(|(index, row)| match index % 4 {
            0 => format!("{row}.0"),
            1 => format!("{row}e0"),
            2 => format!("{row}0E-1"),
            _ => format!("  {row}"),
        }).collect();
        let (first, second) = written.split_at(written.len() / 2);
        let (first, second) = (format!("[{}]", first.join(",")), format!("[{}]", second.join(" ,")));
        let (one, two) = (rows(&ledger, &[&text]), rows(&ledger, &[&first, &second]));
        prop_assert_eq!(one.0.len(), two.0.len());
        prop_assert_eq!(one.0[0].rows, two.0[0].rows);
    }
}

fn list(range: std::ops::Range<u32>) -> Value {
    range.collect::<Vec<_>>().into()
}

#[test]
fn a_row_more_is_refused_and_enough_rows_more_are_not() {
    let (ledger, home) = (ledger(), home(None, 5));
    let text = |range| list(range).to_string();
    assert!(release(&ledger, &home, &text(0..10)).is_ok());
    assert!(release(&ledger, &home, &text(0..10)).is_ok(), "the same again");
    for more in 1..5 {
        assert_eq!(release(&ledger, &home, &text(0..10 + more)), Err(Rule::Differencing));
        assert_eq!(release(&ledger, &home, &text(more..10)), Err(Rule::Differencing));
    }
    // One row instead of another are two.
    assert_eq!(release(&ledger, &home, &text(1..11)), Err(Rule::Differencing));
    assert!(release(&ledger, &home, &text(0..15)).is_ok());
    // Close to a release that is not the last.
    assert_eq!(release(&ledger, &home, &text(0..11)), Err(Rule::Differencing));
}

#[test]
fn columns_are_told_apart() {
    let (ledger, home) = (ledger(), home(None, 5));
    let columns = |age: Value, bmi: Value| json!({"age": age, "bmi": bmi}).to_string();
    assert!(release(&ledger, &home, &columns(list(0..10), list(0..10))).is_ok());
    assert_eq!(
        release(&ledger, &home, &columns(list(20..40), list(0..11))),
        Err(Rule::Differencing)
    );
    assert!(release(&ledger, &home, &json!({"weight": list(0..11)}).to_string()).is_ok());
    assert!(release(&ledger, &home, &list(0..11).to_string()).is_ok());
    let vectors = |last: u32| json!({"vectors": (0..10).map(|row| json!([row, row * last])).collect::<Vec<_>>()});
    assert!(release(&ledger, &home, &vectors(3).to_string()).is_ok());
    let changed = |mut vectors: Value, place: usize| {
        vectors["vectors"][0][place] = json!(1_000);
        release(&ledger, &home, &vectors.to_string())
    };
    assert_eq!(changed(vectors(3), 0), Err(Rule::Differencing));
    assert!(changed(vectors(7), 1).is_ok());
}

#[test]
fn a_column_is_released_so_often_to_each_peer() {
    let (ledger, home) = (ledger(), home(Some(2), 0));
    let text = list(0..10).to_string();
    assert!(release(&ledger, &home, &text).is_ok());
    assert!(release_to(&ledger, &home, &[peer(3)], &text).is_ok());
    assert!(release(&ledger, &home, &text).is_ok());
    assert_eq!(release(&ledger, &home, &text), Err(Rule::Releases));
    assert!(release_to(&ledger, &home, &[peer(3)], &text).is_ok());
    assert_eq!(
        release_to(&ledger, &home, &[peer(4), peer(3)], &text),
        Err(Rule::Releases)
    );
    // A new key at the old place, and the old key at a new place.
    let (one, three) = (peer(1), peer(5));
    assert_eq!(
        release_to(&ledger, &home, &[(three.0, one.1.clone())], &text),
        Err(Rule::Releases)
    );
    assert_eq!(
        release_to(&ledger, &home, &[(one.0, three.1)], &text),
        Err(Rule::Releases)
    );
    let other = json!({"age": list(0..10)}).to_string();
    assert!(release(&ledger, &home, &other).is_ok());
}

#[test]
fn what_is_refused_is_not_charged_and_a_task_is_charged_once() {
    let (ledger, home) = (ledger(), home(Some(1), 5));
    let (key, url) = peer(1);
    let peers = [(key, &url)];
    let first = rows(&ledger, &[&list(0..10).to_string()]);
    let task = Uuid::new_v4();
    let close = rows(&ledger, &[&json!({"age": list(0..9), "bmi": list(0..10)}).to_string()]);
    let columns = rows(&ledger, &[&json!({"age": list(0..10)}).to_string()]);
    assert!(ledger.charge(&Uuid::new_v4(), &home, &peers, &columns, note()).is_ok());
    assert!(ledger.charge(&task, &home, &peers, &close, note()).is_err());
    let bmi = rows(&ledger, &[&json!({"bmi": list(0..10)}).to_string()]);
    assert!(ledger.check(&task, &home, &peers, &bmi).is_ok());
    for _ in 0..3 {
        assert!(ledger.charge(&task, &home, &peers, &first, note()).is_ok());
    }
    assert!(ledger.charge(&Uuid::new_v4(), &home, &peers, &first, note()).is_err());
    let twice = Home {
        releases: Some(2),
        ..home.clone()
    };
    assert!(
        ledger.charge(&Uuid::new_v4(), &twice, &peers, &first, note()).is_ok(),
        "three times is once"
    );
    assert!(ledger.charge(&Uuid::new_v4(), &twice, &peers, &first, note()).is_err());
}

#[test]
fn there_is_an_end_to_it() {
    let (ledger, home) = (ledger(), home(None, 5));
    let vector: Vec<usize> = (0..=MAX_COLUMNS).collect();
    let text = |length: usize| json!({"vectors": [vector[..length]]}).to_string();
    assert_eq!(release(&ledger, &home, &text(MAX_COLUMNS + 1)), Err(Rule::Releases));
    for _ in 0..MAX_ENTRIES / MAX_COLUMNS {
        assert!(release(&ledger, &home, &text(MAX_COLUMNS)).is_ok());
    }
    assert_eq!(release(&ledger, &home, &text(1)), Err(Rule::Releases));
}

#[tokio::test]
async fn it_survives_a_restart() {
    let dir = Scratch::new();
    let home = home(Some(1), 5);
    let (key_of_peer, url) = peer(1);
    let peers = [(key_of_peer, &url)];
    {
        let store = dir.open();
        let ledger = Ledger::open(&store).unwrap();
        let rows = rows(&ledger, &[&list(0..10).to_string()]);
        let written = ledger.charge(&Uuid::new_v4(), &home, &peers, &rows, note()).unwrap();
        written.await.unwrap();
    }
    let store = dir.open();
    let ledger = Ledger::open(&store).unwrap();
    let again = |range, peer: &(PeerKey, NodeUrl)| {
        release_to(&ledger, &home, &[(peer.0, peer.1.clone())], &list(range).to_string())
    };
    assert_eq!(again(0..10, &peer(1)), Err(Rule::Releases));
    assert_eq!(again(0..11, &peer(2)), Err(Rule::Differencing));
    assert!(again(0..10, &peer(2)).is_ok());
}

#[tokio::test]
async fn what_was_released_is_not_forgotten_silently() {
    for kind in [KEY, RELEASE] {
        let dir = Scratch::new();
        let store = dir.open();
        let ledger = Ledger::open(&store).unwrap();
        let home = home(None, 5);
        let (key_of_peer, url) = peer(1);
        let rows = rows(&ledger, &[&list(0..10).to_string()]);
        let task = Uuid::new_v4();
        ledger
            .charge(&task, &home, &[(key_of_peer, &url)], &rows, note())
            .unwrap()
            .await
            .unwrap();
        if kind == KEY {
            store.delete(KEY, "1".to_owned()).await.unwrap();
        } else {
            store
                .put(RELEASE, task.to_string(), vec![1, 2, 3], u64::MAX >> 1)
                .await
                .unwrap();
        }
        assert!(matches!(Ledger::open(&store), Err(LedgerError::Unreadable)), "{kind}");
    }
}

/// Values that clients store must not keep the key from being written: what is released under a key that is lost cannot be read again.
#[test]
fn its_key_is_written_whatever_the_quota_says() {
    let dir = Scratch::new();
    let full = crate::store::Options {
        max_bytes: 1,
        ..crate::store::tests::options()
    };
    let key = || Zeroizing::new([1; 32]);
    let first = Ledger::open(&Store::open(dir.path(), key(), &full).unwrap()).unwrap();
    let column = first.column_id(Column::Unnamed);
    drop(first);
    let again = Ledger::open(&Store::open(dir.path(), key(), &full).unwrap()).unwrap();
    assert_eq!(again.column_id(Column::Unnamed), column);
}
