//! The table by itself: what gets in, what that pushes out, and when it leaves.
#![allow(clippy::unwrap_used, clippy::panic)]

use fdrtd_mpc::wire::put_text;

use super::*;
use crate::descriptor::Durations;
use crate::policy::Profile;
use crate::url::NodeUrl;

const QUOTA: Quota = Quota {
    parties: 64,
    tasks: 10,
    tasks_each: 10,
    hellos: 6,
    hellos_per_peer: 3,
};
const ABORT: &[u8] = b"\x04\x00{\"code\":\"STORIES_DIFFER\"}";
const TTL: Duration = Duration::from_secs(100);

fn peer(number: u8) -> PeerKey {
    PeerKey::from_bytes([number; 32])
}

fn task(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

fn descriptor(number: u8) -> Descriptor {
    Descriptor {
        protocol: PROTOCOL,
        task: task(number),
        microprotocol: "SecureSum".to_owned(),
        parameters: "{\"digits_after\":12,\"digits_before\":18}".to_owned(),
        nodes: urls(3),
        durations: Durations::default(),
        meeting: None,
    }
}

fn urls(count: usize) -> Vec<NodeUrl> {
    let url = |index: usize| NodeUrl::parse(&format!("http://127.0.0.1:9/{index}")).unwrap();
    (0..count).map(url).collect()
}

/// Kind, profile, "I have not heard yours", nonce, seed, rules, descriptor.
fn hello_of(descriptor: &Descriptor, nonce: u8) -> Bytes {
    let mut message = vec![1, 0, 0];
    message.extend_from_slice(&[nonce; 64]);
    message.extend_from_slice(&Rules::from(Profile::Teaching).to_bytes()[1..]);
    put_text(&mut message, &descriptor.text());
    message.into()
}

fn hello(number: u8) -> Bytes {
    hello_of(&descriptor(number), 7)
}

struct Table {
    pending: Pending,
    now: Instant,
}

impl Table {
    fn new() -> Table {
        Table {
            pending: Pending::default(),
            now: Instant::now(),
        }
    }

    fn keep(&mut self, from: u8, number: u8) {
        self.keep_bytes(from, number, hello(number));
    }

    fn keep_bytes(&mut self, from: u8, number: u8, bytes: Bytes) {
        self.pending
            .keep_hello(&QUOTA, peer(from), task(number), bytes, self.now);
    }

    fn abort(&mut self, from: u8, number: u8, joined: bool) {
        let bytes = Bytes::from_static(ABORT);
        self.pending
            .keep_abort(&QUOTA, peer(from), task(number), bytes, joined, self.now);
    }

    fn take(&mut self, from: u8, number: u8) -> Option<Bytes> {
        self.pending.take(&task(number), &peer(from))
    }

    fn count(&self) -> usize {
        assert!(self.pending.0.values().all(|words| !words.is_empty()));
        self.pending.0.values().flatten().count()
    }
}

#[test]
fn a_hello_is_kept_until_it_is_taken_once() {
    let mut table = Table::new();
    table.keep(1, 1);
    table.keep(2, 1);
    assert_eq!(table.take(3, 1), None);
    assert_eq!(table.take(1, 2), None);
    assert_eq!(table.take(1, 1), Some(hello(1)));
    assert_eq!(table.take(1, 1), None);
    assert_eq!(table.pending.take_all(&task(1)), [(peer(2), hello(1))]);
    assert_eq!(table.count(), 0);
}

#[test]
fn the_last_hello_of_a_sender_counts() {
    let mut table = Table::new();
    table.keep(1, 1);
    let second = hello_of(&descriptor(1), 8);
    table.keep_bytes(1, 1, second.clone());
    assert_eq!(table.count(), 1);
    // What is no Hello leaves it.
    table.keep_bytes(1, 1, second.slice(1..));
    assert_eq!(table.take(1, 1), Some(second));
}

#[test]
fn they_are_bounded_per_sender_and_in_all() {
    let mut table = Table::new();
    for number in 0..10 {
        table.keep(1, number);
    }
    assert_eq!(table.count(), QUOTA.hellos_per_peer);
    for from in 2..10 {
        table.keep(from, 1);
    }
    assert_eq!(table.count(), QUOTA.hellos);
    // Replacing one needs no room.
    table.keep_bytes(1, 1, hello_of(&descriptor(1), 8));
    assert_eq!(table.take(1, 1), Some(hello_of(&descriptor(1), 8)));
    // And what is gone makes room.
    table.keep(9, 5);
    assert_eq!(table.count(), QUOTA.hellos);
    assert_eq!(table.take(9, 5), Some(hello(5)));
}

#[test]
fn those_of_one_task_are_bounded() {
    let mut table = Table::new();
    let quota = Quota { hellos: 1_000, ..QUOTA };
    for from in 0..200 {
        table
            .pending
            .keep_hello(&quota, peer(from), task(1), hello(1), table.now);
    }
    assert_eq!(table.count(), MAX_PARTIES);
}

#[test]
fn aborts_are_bounded_like_hellos() {
    let mut table = Table::new();
    for number in 0..10 {
        table.abort(1, number, true);
    }
    assert_eq!(table.count(), QUOTA.hellos_per_peer);
    let long = Bytes::from(vec![4; CONTROL_BYTES + 1]);
    table
        .pending
        .keep_abort(&QUOTA, peer(2), task(1), long, true, table.now);
    assert_eq!(table.take(2, 1), None);
}

#[test]
fn an_abort_makes_a_hello_void() {
    let mut table = Table::new();
    table.keep(1, 1);
    table.keep(2, 1);
    table.abort(1, 1, false);
    assert_eq!(table.take(1, 1), None);
    assert_eq!(table.take(2, 1), Some(hello(1)));
    assert_eq!(table.count(), 0);
}

#[test]
fn an_abort_of_a_joined_task_waits_until_its_sender_is_known() {
    let mut table = Table::new();
    table.keep(1, 1);
    table.abort(1, 1, true);
    table.abort(2, 1, true);
    assert!(table.pending.invitations(|_| false).is_empty());
    assert_eq!(table.take(1, 1).as_deref(), Some(ABORT));
    assert_eq!(table.take(2, 1).as_deref(), Some(ABORT));
    // It may come back.
    table.abort(1, 1, true);
    table.keep(1, 1);
    assert_eq!(table.take(1, 1), Some(hello(1)));
}

#[test]
fn a_sender_that_was_started_anew_has_said_nothing() {
    let mut table = Table::new();
    table.keep(1, 1);
    table.keep(1, 2);
    table.abort(1, 3, true);
    table.keep(2, 1);
    table.pending.forget_peer(&peer(1));
    assert_eq!(table.count(), 1);
    assert_eq!(table.take(2, 1), Some(hello(1)));
}

#[test]
fn they_expire() {
    let mut table = Table::new();
    let short = Descriptor {
        durations: Durations {
            join: 50_000,
            ..Durations::default()
        },
        ..descriptor(1)
    };
    table.keep_bytes(1, 1, hello_of(&short, 7));
    table.keep(1, 2);
    table.abort(1, 3, true);
    let start = table.now;
    for (age, left) in [(0, 3), (49_999, 3), (50_000, 2), (99_999, 2), (100_000, 0)] {
        table.pending.expire(TTL, start + Duration::from_millis(age));
        assert_eq!(table.count(), left, "after {age} ms");
    }
    // One that came later lives longer.
    table.now = start + TTL;
    table.keep(1, 2);
    table.pending.expire(TTL, start + TTL + TTL / 2);
    assert_eq!(table.count(), 1);
    // A time to live beyond all clocks.
    table.pending.expire(Duration::MAX, start + TTL + TTL);
    assert_eq!(table.count(), 1);
}

#[test]
fn what_cannot_be_joined_is_dropped() {
    let good = descriptor(1);
    let bad = [
        Descriptor {
            task: task(2),
            ..good.clone()
        },
        Descriptor {
            protocol: PROTOCOL + 1,
            ..good.clone()
        },
        Descriptor {
            microprotocol: "SecureProduct".to_owned(),
            ..good.clone()
        },
        Descriptor {
            parameters: "{\"digits\":1}".to_owned(),
            ..good.clone()
        },
        Descriptor {
            parameters: "[".to_owned(),
            ..good.clone()
        },
        Descriptor {
            nodes: urls(1),
            ..good.clone()
        },
        Descriptor {
            nodes: urls(MAX_PARTIES + 1),
            ..good.clone()
        },
        Descriptor {
            durations: Durations {
                silence: 0,
                ..Durations::default()
            },
            ..good.clone()
        },
    ];
    let mut table = Table::new();
    for descriptor in bad {
        table.keep_bytes(1, 1, hello_of(&descriptor, 7));
        assert_eq!(table.count(), 0, "{descriptor:?}");
    }
    let whole = hello(1);
    for cut in 0..whole.len() {
        table.keep_bytes(1, 1, whole.slice(..cut));
    }
    table.keep_bytes(1, 1, Bytes::from([&whole[..], &[0]].concat()));
    table.keep_bytes(1, 1, Bytes::from(vec![1; CONTROL_BYTES + 1]));
    for kind in [0, 2, 3, 5, 255] {
        table.keep_bytes(1, 1, Bytes::from([&[kind], &whole[1..]].concat()));
    }
    assert_eq!(table.count(), 0);
    table.keep_bytes(1, 1, whole);
    assert_eq!(table.count(), 1);
}

#[test]
fn people_see_what_they_can_join() {
    let mut table = Table::new();
    table.abort(3, 1, true);
    table.keep(1, 1);
    table.keep(2, 1);
    table.keep(1, 2);
    let found = table.pending.invitations(|id| *id == task(2));
    let [entry] = &found[..] else { panic!("{found:?}") };
    let invitation = entry.shown(None);
    assert_eq!(invitation["task"], task(1).to_string());
    assert_eq!(invitation["microprotocol"], "SecureSum");
    assert_eq!(invitation["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(
        invitation["hellos"],
        json!([peer(1).fingerprint(), peer(2).fingerprint()])
    );
    let link: Link = invitation["link"].as_str().unwrap().parse().unwrap();
    assert_eq!((link.key, link.url.as_ref()), (peer(1), None));
    assert!(link.fits(&descriptor(1)));
    // Who sent it is known by its key only; which party that is, it does not say.
    assert_eq!(invitation.get("from"), None);
    assert_eq!(table.pending.invitations(|_| false).len(), 2);
}

#[test]
fn somebody_elses_description_hides_none_and_the_newest_comes_first() {
    let mut table = Table::new();
    let other = Descriptor {
        nodes: urls(2),
        ..descriptor(1)
    };
    table.keep_bytes(9, 1, hello_of(&other, 7));
    table.now += Duration::from_millis(1);
    table.keep(1, 1);
    table.now += Duration::from_millis(1);
    table.keep(2, 2);
    table.keep(3, 1);
    let found = table.pending.invitations(|_| false);
    let seen: Vec<_> = found
        .iter()
        .map(|entry| (entry.descriptor.clone(), entry.from.clone()))
        .collect();
    let expected = [
        (descriptor(2), vec![peer(2)]),
        (descriptor(1), vec![peer(1), peer(3)]),
        (other, vec![peer(9)]),
    ];
    assert_eq!(seen, expected);
}
