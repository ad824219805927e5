#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use proptest::prelude::*;

use super::record::{Cut, Part, write_data};
use super::*;

pub(super) fn task(n: u8) -> TaskId {
    [n; 16]
}

pub(super) fn config(window: usize, limit: usize) -> LinkConfig {
    LinkConfig {
        window_bytes: window,
        default_limit: limit,
        max_streams: 3,
        ..LinkConfig::default()
    }
}

fn pair(config: &LinkConfig) -> (Link, Link) {
    let mut a = Link::new(1, config.clone());
    let mut b = Link::new(2, config.clone());
    meet(&mut a, &mut b);
    (a, b)
}

fn meet(a: &mut Link, b: &mut Link) -> (Connected, Connected) {
    let (from_a, from_b) = (a.hello(), b.hello());
    (a.connected(0, from_b).unwrap(), b.connected(0, from_a).unwrap())
}

/// Moves records both ways, at one time, until both are quiet; counts the records of each direction.
fn run(now: u64, a: &mut Link, b: &mut Link) -> (usize, usize) {
    let (mut out, mut counts) = (Vec::new(), (0, 0));
    loop {
        let before = counts;
        while a.next_record(now, &mut out) {
            b.record(now, &out).unwrap();
            counts.0 += 1;
        }
        while b.next_record(now, &mut out) {
            a.record(now, &out).unwrap();
            counts.1 += 1;
        }
        if counts == before {
            return counts;
        }
    }
}

/// The same while time goes on, until everything is acknowledged.
fn deliver(a: &mut Link, b: &mut Link) {
    for now in (20..10_000).step_by(20) {
        run(now, a, b);
        if a.all_acknowledged() && b.all_acknowledged() {
            return;
        }
    }
    panic!("no progress: {a:?}, {b:?}");
}

fn data(seq: u64, task: TaskId, part: Part, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let payload = Bytes::copy_from_slice(payload);
    write_data(&mut out, 0, seq, &Cut { task, part, payload });
    out
}

/// Bytes that differ with the number and all along their length.
pub(super) fn pattern(number: u64, len: usize) -> Bytes {
    let start = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..len as u64)
        .map(|i| (start.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 32) as u8)
        .collect()
}

#[test]
fn messages_arrive_both_ways_and_are_acknowledged() {
    let (mut a, mut b) = pair(&config(8 << 20, 1 << 20));
    let long = pattern(1, 300_000);
    a.send(task(1), long.clone());
    a.send(task(1), Bytes::new());
    b.send(task(2), Bytes::from_static(b"hello"));
    assert_eq!(a.queued(task(1)), 300_000);
    assert_eq!(run(0, &mut a, &mut b), (6, 1));
    assert_eq!(b.next_message(), Some((task(1), long)));
    assert_eq!(b.next_message(), Some((task(1), Bytes::new())));
    assert_eq!(b.next_message(), None);
    assert_eq!(a.next_message().unwrap().1, "hello");
    // Acknowledgements wait for a record to ride on, until their time has come.
    assert!(a.all_acknowledged() && !b.all_acknowledged());
    assert_eq!(a.next_wakeup(0), Some(20));
    deliver(&mut a, &mut b);
    assert!(a.all_acknowledged() && b.all_acknowledged());
    assert_eq!((a.total_queued(), a.queued(task(1))), (0, 0));
    assert_eq!(b.next_wakeup(20), Some(20 + 25_000));
}

#[test]
fn messages_under_way_share_a_bounded_memory() {
    let bounded = LinkConfig {
        inbox_bytes: 500_000,
        ..config(8 << 20, 1 << 30)
    };
    let (mut a, mut b) = pair(&bounded);
    for t in 1..=2 {
        a.send(task(t), pattern(u64::from(t), 300_000));
    }
    run(0, &mut a, &mut b);
    // The tasks take turns, so the second needs what is left while the first is not whole; then there is room again.
    assert_eq!((b.no_room(), b.no_room(), b.overflows()), (Some(task(2)), None, 1));
    assert_eq!(b.too_long(), None, "the peer did nothing wrong");
    assert_eq!(b.next_message(), Some((task(1), pattern(1, 300_000))));
    assert_eq!((b.next_message(), b.incoming.reserved()), (None, 0));
    a.send(task(2), pattern(3, 300_000));
    run(20, &mut a, &mut b);
    assert_eq!(b.next_message(), Some((task(2), pattern(3, 300_000))));
    // One message alone can be too long as well.
    a.send(task(3), pattern(4, 600_000));
    run(40, &mut a, &mut b);
    assert_eq!((b.no_room(), b.next_message(), b.overflows()), (Some(task(3)), None, 2));
    assert_eq!(b.incoming.reserved(), 0);
}

#[test]
fn a_small_message_overtakes_a_large_one() {
    let (mut a, mut b) = pair(&config(8 << 20, 1 << 30));
    let mut out = Vec::new();
    a.send(task(1), Bytes::from(vec![7; 50_000_000]));
    for _ in 0..10 {
        assert!(a.next_record(0, &mut out));
        b.record(0, &out).unwrap();
    }
    a.send(task(2), Bytes::from_static(b"control"));
    let mut records = 0;
    while b.next_message().is_none() {
        assert!(a.next_record(0, &mut out));
        b.record(0, &out).unwrap();
        records += 1;
    }
    assert!(records <= 2, "{records}");
}

#[test]
fn pure_acknowledgements_are_few() {
    let window = 8 << 20;
    let (mut a, mut b) = pair(&config(window, 1 << 30));
    a.send(task(1), Bytes::from(vec![7; 50_000_000]));
    let mut out = Vec::new();
    let (mut sent, mut acks) = (0, 0);
    while b.next_message().is_none() {
        // A record at a time, so that b has every opportunity to acknowledge.
        assert!(a.next_record(0, &mut out));
        b.record(0, &out).unwrap();
        sent += 1;
        if b.next_record(0, &mut out) {
            a.record(0, &out).unwrap();
            acks += 1;
        }
    }
    assert_eq!(sent, 50_000_000_usize.div_ceil(MAX_RECORD - 34));
    assert!(acks <= 50_000_000 / (window / 4) + 1, "{acks}");
}

#[test]
fn acknowledgements_ride_on_data() {
    let (mut a, mut b) = pair(&config(1 << 20, 1 << 20));
    let mut out = Vec::new();
    for _ in 0..1000 {
        for _ in 0..2 {
            std::mem::swap(&mut a, &mut b);
            a.send(task(1), pattern(1, 10_000));
            while a.next_record(0, &mut out) {
                assert_eq!(out[0], 0, "not a data record");
                b.record(0, &out).unwrap();
            }
            assert!(b.next_message().is_some());
        }
    }
}

#[test]
fn the_window_bounds_what_is_in_flight() {
    for window in [0, 128, 1000, 200_000] {
        let (mut a, mut b) = pair(&config(window, 1 << 20));
        a.send(task(1), pattern(1, 500_000));
        let (mut out, mut bytes) = (Vec::new(), 0);
        while a.next_record(0, &mut out) {
            bytes += out.len();
            b.record(0, &out).unwrap();
        }
        assert!(bytes > 34 && bytes <= window.max(128), "{bytes}");
        assert_eq!(a.outgoing.in_flight(), bytes);
        deliver(&mut a, &mut b);
        assert_eq!(b.next_message().unwrap().1, pattern(1, 500_000));
    }
}

#[test]
fn silence_is_broken_by_a_ping_and_its_answer() {
    let (mut a, mut b) = pair(&LinkConfig::default());
    b.set_keep_alive(None);
    assert_eq!((a.next_wakeup(0), b.next_wakeup(0)), (Some(25_000), None));
    assert_eq!(run(24_999, &mut a, &mut b), (0, 0));
    assert_eq!(run(25_000, &mut a, &mut b), (1, 1));
    assert_eq!((a.last_heard(), b.last_heard()), (Some(25_000), Some(25_000)));
    // Without an answer there is one ping each time, not more.
    let mut out = Vec::new();
    assert!(a.next_record(50_000, &mut out));
    assert!(!a.next_record(74_999, &mut out));
    assert_eq!(a.next_wakeup(50_000), Some(75_000));
    a.disconnected(75_000);
    assert_eq!(a.next_wakeup(75_000), None);
    assert!(!a.next_record(75_000, &mut out));
}

#[test]
fn messages_beyond_their_limit_are_skipped_and_reported_once() {
    let (mut a, mut b) = pair(&config(8 << 20, 100));
    b.set_limit(task(2), 200_000);
    for (t, len) in [(1, 100), (1, 101), (1, 200_000), (1, 3), (2, 200_000), (2, 200_001)] {
        a.send(task(t), pattern(9, len));
    }
    deliver(&mut a, &mut b);
    let lens: Vec<_> = std::iter::from_fn(|| b.next_message())
        .map(|(t, m)| (t[0], m.len()))
        .collect();
    // Task by task in order.
    assert_eq!(lens, [(1, 100), (2, 200_000), (1, 3)]);
    let long: Vec<_> = std::iter::from_fn(|| b.too_long()).map(|t| t[0]).collect();
    assert_eq!(long, [1, 1, 2]);
    b.forget(task(2));
    a.send(task(2), pattern(9, 101));
    deliver(&mut a, &mut b);
    assert_eq!((b.next_message(), b.too_long()), (None, Some(task(2))));
}

#[test]
fn memory_follows_bytes_not_claims() {
    let mut link = Link::new(1, config(8 << 20, usize::MAX));
    link.connected(0, Link::new(2, LinkConfig::default()).hello()).unwrap();
    let claim = u64::MAX;
    link.record(0, &data(0, task(1), Part::First(claim), &[1; 1000]))
        .unwrap();
    assert!(link.incoming.reserved() <= 2000);
    for seq in 1..100 {
        link.record(0, &data(seq, task(1), Part::Middle, &[1; 1000])).unwrap();
        let received = 1000 * (seq as usize + 1);
        assert!(link.incoming.reserved() <= 2 * received);
    }
    // An honest length is not exceeded either.
    let (mut a, mut b) = pair(&config(8 << 20, 1 << 20));
    a.send(task(1), pattern(1, 200_000));
    let mut out = Vec::new();
    for _ in 0..3 {
        a.next_record(0, &mut out);
        b.record(0, &out).unwrap();
    }
    assert!(b.incoming.reserved() <= 200_000);
}

#[test]
fn a_stranger_cannot_have_much_kept() {
    // With the sizes of a node: as many messages begun as there may be, each as long as may be and never ended.
    let mut link = Link::new(1, LinkConfig::default());
    link.connected(0, Link::new(2, LinkConfig::default()).hello()).unwrap();
    let begin = |seq: u64| {
        let mut task = [0; 16];
        task[..8].copy_from_slice(&seq.to_le_bytes());
        data(seq, task, Part::First(4096), &[1; 4095])
    };
    let streams = LinkConfig::default().max_streams as u64;
    for seq in 0..streams {
        link.record(0, &begin(seq)).unwrap();
    }
    assert!(link.incoming.reserved() <= 1 << 20);
    assert_eq!(link.record(0, &begin(streams)), Err(Violation::TooManyStreams));
}

#[test]
fn a_forgotten_task_leaves_nothing_behind() {
    let (mut a, mut b) = pair(&config(1000, 1 << 20));
    let mut out = Vec::new();
    // The sender forgets in the middle of a message: the peer drops its part.
    a.send(task(1), pattern(1, 5000));
    a.send(task(1), pattern(2, 5000));
    assert!(a.next_record(0, &mut out));
    b.record(0, &out).unwrap();
    assert!(b.incoming.reserved() > 0);
    a.forget(task(1));
    a.forget(task(1));
    a.send(task(1), pattern(3, 2000));
    deliver(&mut a, &mut b);
    assert_eq!(b.next_message(), Some((task(1), pattern(3, 2000))));
    assert_eq!(b.next_message(), None);
    assert_eq!(b.incoming.reserved(), 0);
    assert!(a.all_acknowledged() && a.total_queued() == 0);
    // The receiver forgets in the middle of a message: the rest is skipped, the next is taken.
    a.send(task(1), pattern(4, 5000));
    a.send(task(1), pattern(5, 50));
    assert!(a.next_record(20, &mut out));
    b.record(20, &out).unwrap();
    b.forget(task(1));
    assert_eq!(b.incoming.reserved(), 0);
    deliver(&mut a, &mut b);
    assert_eq!(b.next_message(), Some((task(1), pattern(5, 50))));
    assert_eq!((b.next_message(), b.too_long()), (None, None));
    // Forgetting what was never begun costs no record.
    a.send(task(2), pattern(6, 5000));
    a.forget(task(2));
    assert_eq!(run(40, &mut a, &mut b), (0, 0));
    assert!(a.all_acknowledged());
}

#[test]
fn no_more_long_messages_are_begun_than_the_peer_takes() {
    let (mut a, mut b) = pair(&config(8 << 20, 1 << 20));
    for t in 0..10 {
        a.send(task(t), pattern(t.into(), 200_000));
    }
    a.send(task(10), Bytes::from_static(b"short ones pass"));
    a.forget(task(4)); // one that would have waited
    deliver(&mut a, &mut b);
    assert_eq!(b.next_message().unwrap().0, task(10));
    assert_eq!(std::iter::from_fn(|| b.next_message()).count(), 9);
    assert!(a.all_acknowledged());
}

#[test]
fn a_waiting_message_starts_when_the_one_before_it_is_forgotten() {
    let mut one = config(8 << 20, 1 << 20);
    one.max_streams = 1;
    let (mut a, mut b) = pair(&one);
    let mut out = Vec::new();
    for t in 0..3 {
        a.send(task(t), pattern(t.into(), 200_000));
    }
    for _ in 0..3 {
        a.next_record(0, &mut out);
        b.record(0, &out).unwrap();
    }
    a.forget(task(0));
    a.next_record(0, &mut out); // the abort
    b.record(0, &out).unwrap();
    a.forget(task(1));
    deliver(&mut a, &mut b);
    assert_eq!(b.next_message(), Some((task(2), pattern(2, 200_000))));
}

#[test]
fn a_new_incarnation_is_told_from_a_new_connection() {
    let cfg = config(1000, 1 << 20);
    let (mut a, mut b) = (Link::new(1, cfg.clone()), Link::new(2, cfg.clone()));
    let first = Connected {
        peer_restarted: false,
        first: true,
    };
    let again = Connected {
        peer_restarted: false,
        first: false,
    };
    let restarted = Connected {
        peer_restarted: true,
        first: false,
    };
    // Queued before the first contact: kept.
    a.send(task(1), pattern(1, 10));
    assert_eq!(meet(&mut a, &mut b), (first, first));
    deliver(&mut a, &mut b);
    assert_eq!(b.next_message().unwrap().1, pattern(1, 10));
    assert_eq!(meet(&mut a, &mut b), (again, again));
    // Queued for an incarnation that is gone: dropped, and not even begun messages remain.
    a.send(task(1), pattern(2, 5000));
    let mut out = Vec::new();
    a.next_record(20, &mut out);
    b.record(20, &out).unwrap();
    b = Link::new(3, cfg);
    b.send(task(1), pattern(3, 10));
    assert_eq!(meet(&mut a, &mut b), (restarted, first));
    assert!(a.all_acknowledged());
    a.send(task(1), pattern(4, 5000));
    deliver(&mut a, &mut b);
    assert_eq!(b.next_message().unwrap().1, pattern(4, 5000));
    assert_eq!(a.next_message().unwrap().1, pattern(3, 10));
}

#[test]
fn violations_are_named_and_both_ends_begin_anew() {
    let only = |seq| data(seq, task(1), Part::Only, b"x");
    let mut ahead = only(0);
    ahead[1] = 1;
    let first = |t, total| data(0, task(t), Part::First(total), b"xy");
    let cases: Vec<(Vec<Vec<u8>>, Violation)> = vec![
        (vec![vec![]], Violation::Truncated),
        (vec![vec![1; 8]], Violation::Truncated),
        (vec![only(0)[..33].to_vec()], Violation::Truncated),
        (vec![first(1, 9)[..41].to_vec()], Violation::Truncated),
        (vec![vec![0; MAX_RECORD + 1]], Violation::Oversized),
        (vec![[&[2; 1][..], &[0; 9]].concat()], Violation::Trailing),
        (vec![vec![4; 9]], Violation::UnknownKind(4)),
        (vec![only(1)], Violation::Gap { expected: 0, found: 1 }),
        (
            vec![only(0), only(u64::MAX)],
            Violation::Gap {
                expected: 1,
                found: u64::MAX,
            },
        ),
        (
            vec![ahead],
            Violation::AckAhead {
                acknowledged: 1,
                sent: 0,
            },
        ),
        (vec![data(0, task(1), Part::Abort, b"x")], Violation::Trailing),
    ];
    let bad_fragments = [
        vec![data(0, task(1), Part::Middle, b"x")],
        vec![data(0, task(1), Part::Last, b"x")],
        vec![data(0, task(1), Part::Abort, b"")],
        vec![first(1, 2)],
        vec![data(0, task(1), Part::First(2), b"")],
        vec![first(1, 4), data(1, task(1), Part::Middle, b"")],
        vec![first(1, 4), data(1, task(1), Part::Middle, b"zz")],
        vec![first(1, 4), data(1, task(1), Part::Middle, b"zzz")],
        vec![first(1, 4), data(1, task(1), Part::Last, b"z")],
        vec![first(1, 4), data(1, task(1), Part::Last, b"zzz")],
        vec![first(1, 4), data(1, task(2), Part::Last, b"zz")],
        vec![first(1, 4), only(1)],
        vec![first(1, 4), data(1, task(1), Part::First(4), b"zz")],
    ];
    let streams = (0..4).map(|t| data(t.into(), task(t), Part::First(9), b"z")).collect();
    let check = |records: Vec<Vec<u8>>, is: &dyn Fn(Violation) -> bool| {
        let (mut a, mut b) = pair(&config(1000, 1000));
        let (last, good) = records.split_last().unwrap();
        for record in good {
            a.record(0, record).unwrap();
        }
        let violation = a.record(0, last).unwrap_err();
        assert!(is(violation), "{violation}");
        assert_eq!(a.record(0, last), Err(Violation::NotConnected));
        while a.next_message().is_some() {}
        let (at_a, at_b) = meet(&mut a, &mut b);
        assert!(at_a.peer_restarted && at_b.peer_restarted);
        b.send(task(1), pattern(1, 500));
        deliver(&mut a, &mut b);
        assert_eq!(a.next_message().unwrap().1, pattern(1, 500));
    };
    for (records, violation) in cases {
        check(records, &|v| v == violation);
    }
    for records in bad_fragments {
        check(records, &|v| matches!(v, Violation::BadFragment(_)));
    }
    check(streams, &|v| v == Violation::TooManyStreams);
}

#[test]
fn an_impossible_greeting_is_refused_and_healed() {
    let (mut a, mut b) = pair(&config(1000, 1000));
    a.send(task(1), pattern(1, 10));
    deliver(&mut a, &mut b);
    let lie = Resume {
        received: 2,
        ..b.hello()
    };
    let refused = Violation::AckAhead {
        acknowledged: 2,
        sent: 1,
    };
    assert_eq!(a.connected(0, lie), Err(refused));
    let (at_a, at_b) = meet(&mut a, &mut b);
    assert!(at_a.peer_restarted && at_b.peer_restarted);
    // An unknown incarnation cannot have received anything.
    let stranger = Resume {
        epoch: 77,
        peer_epoch: Some(a.hello().epoch),
        received: 1,
    };
    assert!(a.connected(0, stranger).is_err());
    let unborn = Resume {
        epoch: 0,
        peer_epoch: None,
        received: 1,
    };
    assert_eq!(Resume::decode(&unborn.encode()), Err(Violation::BadResume));
    assert_eq!(Resume::decode(&[1; 23]), Err(Violation::BadResume));
    assert_eq!(Resume::decode(&stranger.encode()), Ok(stranger));
    assert_eq!(Resume::decode(&b.hello().encode()), Ok(b.hello()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn records_read_as_written(ack: u64, seq: u64, id: TaskId, which in 0..5, payload in proptest::collection::vec(any::<u8>(), 1..300)) {
        let (part, payload) = match which {
            0 => (Part::Middle, payload),
            1 => (Part::First(payload.len() as u64 + 1), payload),
            2 => (Part::Last, payload),
            3 => (Part::Only, payload),
            _ => (Part::Abort, Vec::new()),
        };
        let cut = Cut { task: id, part, payload: Bytes::from(payload.clone()) };
        let mut out = vec![9; 5];
        write_data(&mut out, ack, seq, &cut);
        prop_assert_eq!(out.len(), cut.size());
        let body = Body::Data { seq, task: id, part, payload: &payload };
        prop_assert_eq!(Record::decode(&out), Ok(Record { ack, body }));
    }

    #[test]
    fn arbitrary_records_do_no_harm(records in proptest::collection::vec(hostile_record(), 0..60)) {
        let (mut link, other) = pair(&config(1000, 100));
        link.send(task(1), pattern(1, 5000));
        let (mut out, mut bytes) = (Vec::new(), 0);
        for record in records {
            while link.next_record(0, &mut out) {}
            bytes += record.len();
            if link.record(0, &record).is_err() {
                link.connected(0, other.hello()).unwrap();
            }
            prop_assert!(link.incoming.reserved() <= 2 * bytes.min(3 * 100));
            prop_assert!(link.outgoing.in_flight() <= 1000);
            while link.next_message().is_some() || link.too_long().is_some() || link.no_room().is_some() {}
        }
    }

    #[test]
    fn arbitrary_greetings_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..30), epochs in any::<[u8; 24]>()) {
        prop_assert_eq!(Resume::decode(&bytes).is_ok(), bytes.len() == 24 && bytes[..8] != [0; 8]);
        let (mut link, _) = pair(&config(1000, 100));
        link.send(task(1), pattern(1, 500));
        // Small values meet the numbers in use.
        let small: Vec<u8> = (0..24).map(|i| if i % 8 == 0 { epochs[i] % 4 } else { 0 }).collect();
        for bytes in [&epochs[..], &small[..]] {
            if let Ok(resume) = Resume::decode(bytes) {
                let _ = link.connected(0, resume);
                let mut out = Vec::new();
                while link.next_record(0, &mut out) {}
            }
        }
    }
}

/// Records that get past the first checks often enough to reach the later ones.
fn hostile_record() -> impl Strategy<Value = Vec<u8>> {
    let parts = (
        prop_oneof![9 => Just(0_u8), 1 => any::<u8>()],
        prop_oneof![9 => Just(0_u64), 1 => 0..30_u64, 1 => any::<u64>()],
        prop_oneof![9 => 0..12_u64, 1 => any::<u64>()],
        0..4_u8,
        0..6_u8,
        prop_oneof![0..400_u64, any::<u64>()],
        proptest::collection::vec(any::<u8>(), 0..200),
        prop_oneof![9 => Just(usize::MAX), 1 => 0..50_usize],
    );
    parts.prop_map(|(kind, ack, seq, t, part, total, payload, len)| {
        let mut record = vec![kind];
        record.extend(ack.to_le_bytes());
        if kind == 0 {
            record.extend(seq.to_le_bytes());
            record.extend(task(t));
            record.push(part);
            if part == 1 {
                record.extend(total.to_le_bytes());
            }
            record.extend(payload);
        }
        record.truncate(len);
        record
    })
}
