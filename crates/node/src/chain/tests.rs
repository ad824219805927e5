#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed(&[seed; 32]))
}

fn chain(count: u64) -> Vec<Entry> {
    let mut chain = Chain::new(identity(1), 0, Hash::default());
    let entry = |seq| {
        let task = (seq % 2 == 0).then(|| format!("task-{seq}"));
        chain.append(&Note::new(
            100 + seq,
            "token:anna",
            "task.create",
            task,
            &json!({"n": seq}),
        ))
    };
    (0..count).map(entry).collect()
}

fn verify(entries: &[Entry]) -> Result<(), Broken> {
    let mut verifier = Verifier::new(Some(identity(1).key()));
    entries.iter().try_for_each(|entry| verifier.take(entry))
}

fn broken_at(entries: &[Entry]) -> u64 {
    verify(entries).unwrap_err().seq
}

#[test]
fn what_was_written_is_whole() {
    verify(&chain(20)).unwrap();
    verify(&[]).unwrap();
}

#[test]
fn every_exchanged_character_of_an_export_is_noticed() {
    let entries = chain(3);
    let lines: Vec<String> = entries
        .iter()
        .map(|entry| serde_json::to_string(entry).unwrap())
        .collect();
    for (place, line) in lines.iter().enumerate() {
        for index in 0..line.len() {
            for bit in [1, 2, 32] {
                let mut bytes = line.clone().into_bytes();
                bytes[index] ^= bit;
                // What is no entry any more is refused before the chain is looked at.
                let Ok(changed) = serde_json::from_slice::<Entry>(&bytes) else {
                    continue;
                };
                if changed == entries[place] {
                    continue; // upper case of base32
                }
                let mut forged = entries.clone();
                forged[place] = changed;
                let found = broken_at(&forged);
                assert!(found == place as u64 + 1, "{place} {index} {found}");
            }
        }
    }
}

#[test]
fn removed_swapped_inserted_and_repeated_entries_are_noticed() {
    let entries = chain(6);
    for place in 0..5 {
        let mut removed = entries.clone();
        removed.remove(place);
        assert_eq!(broken_at(&removed), place as u64 + 1);
        let mut swapped = entries.clone();
        swapped.swap(place, place + 1);
        assert_eq!(broken_at(&swapped), place as u64 + 1);
        let mut repeated = entries.clone();
        repeated.insert(place, entries[place].clone());
        assert_eq!(broken_at(&repeated), place as u64 + 2);
    }
    // The end that is cut off is a shorter chain, and whole: an earlier export tells.
    verify(&entries[..4]).unwrap();
}

#[test]
fn a_chain_of_somebody_else_is_noticed() {
    let mut entries = chain(2);
    let (seq, head) = (2, entries[1].hash);
    let mut stranger = Chain::new(identity(2), seq, head);
    entries.push(stranger.append(&Note::new(1, "x", "task.create", None, &json!({}))));
    assert_eq!(broken_at(&entries), 3);
    // The right key said, and not the one that signed.
    entries[2].key = identity(1).key();
    assert_eq!(broken_at(&entries), 3);
    entries[2].hash = entries[2].computed_hash();
    let broken = verify(&entries).unwrap_err();
    assert!(broken.what.contains("signature"), "{broken}");
}

#[test]
fn a_key_may_name_the_next_one() {
    let next = identity(2);
    let mut chain = Chain::new(identity(1), 0, Hash::default());
    let rotation = Note::new(1, "operator", ROTATION, None, &json!({"key": next.key()}));
    let mut entries = vec![chain.append(&rotation)];
    let (seq, head) = chain.head();
    let mut chain = Chain::new(next, seq, head);
    entries.push(chain.append(&Note::new(2, "node", "node.start", None, &json!({}))));
    entries.push(chain.append(&Note::new(3, "node", "node.stop", None, &json!({}))));
    let mut verifier = Verifier::new(Some(identity(1).key()));
    entries.iter().for_each(|entry| verifier.take(entry).unwrap());
    assert_eq!(verifier.key(), Some(identity(2).key()));
    assert!(verifier.is_of(identity(2).key()) && !verifier.is_of(identity(1).key()));
    let mut verifier = Verifier::default();
    verifier.take(&entries[0]).unwrap();
    assert!(verifier.is_of(identity(2).key()) && verifier.is_of(identity(1).key()));
    // Cut off after the announcement, the old key goes on, and the chain is its own.
    let mut old = Chain::new(identity(1), 1, entries[0].hash);
    let on = old.append(&Note::new(2, "node", "node.start", None, &json!({})));
    let mut verifier = Verifier::default();
    [&entries[0], &on]
        .into_iter()
        .for_each(|entry| verifier.take(entry).unwrap());
    assert!(verifier.is_of(identity(1).key()) && !verifier.is_of(identity(2).key()));
    // Once the new key has signed, the old one signs nothing more.
    let mut old = Chain::new(identity(1), 2, entries[1].hash);
    let late = old.append(&Note::new(2, "node", "node.start", None, &json!({})));
    assert_eq!(broken_at(&[entries[0].clone(), entries[1].clone(), late]), 3);
}

#[test]
fn names_are_cut_and_details_bounded() {
    let long = "ü".repeat(10_000);
    let note = Note::new(1, &long, "x", None, &json!({"name": long, "list": vec![1; 1000]}));
    assert_eq!(note.who.chars().count(), LONGEST_TEXT + 1);
    assert_eq!(note.detail["name"].as_str().unwrap().chars().count(), LONGEST_TEXT + 1);
    assert_eq!(note.detail["list"].as_array().unwrap().len(), MOST_MEMBERS + 1);
    let many: serde_json::Map<_, _> = (0..70)
        .map(|n| (format!("{n}{}", "x".repeat(190)), json!("y".repeat(200))))
        .collect();
    let note = Note::new(1, "w", "x", None, &many.into());
    assert_eq!(note.detail, json!({"cut": true}));
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    assert!(Note::new(1, "w", "x", None, &deep).detail.to_string().len() < 30);
}

fn any_detail() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        any::<f64>().prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,5}", inner, 0..5)
                .prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_entries_are_whole_after_a_way_through_json(
        details in prop::collection::vec((any_detail(), ".{0,30}", prop::option::of(".{0,10}")), 1..6)
    ) {
        let mut chain = Chain::new(identity(1), 0, Hash::default());
        let mut entries = Vec::new();
        for (detail, who, task) in details {
            entries.push(chain.append(&Note::new(5, &who, "x", task, &detail)));
        }
        let read: Vec<Entry> = entries.iter().map(|entry| serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap()).collect();
        prop_assert_eq!(&read, &entries);
        prop_assert!(verify(&read).is_ok());
    }

    #[test]
    fn any_change_of_a_member_is_noticed(place in 0_usize..4, member in 0..6, text in ".{0,10}", number in any::<u64>()) {
        let entries = chain(4);
        let mut forged = entries.clone();
        let entry = &mut forged[place];
        match member {
            0 => entry.time = number,
            1 => entry.who = text,
            2 => entry.action = text,
            3 => entry.task = Some(text),
            4 => entry.detail = json!({"n": number}),
            _ => entry.previous = Hash(*blake3::hash(text.as_bytes()).as_bytes()),
        }
        prop_assume!(forged != entries);
        prop_assert_eq!(broken_at(&forged), place as u64 + 1);
        // With a new hash it still lacks the signature.
        forged[place].hash = forged[place].computed_hash();
        prop_assert_eq!(broken_at(&forged), place as u64 + 1);
    }
}
