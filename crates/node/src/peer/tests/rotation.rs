//! Nodes with new keys, and those who say they were somebody else before.

use super::*;
use crate::rotation::Succession;

/// Those with the old key and its successors.
fn successor(seeds: &[u8]) -> Identity {
    let identity = |seed: u8| Identity::from_seed(&[seed; 32]);
    let pairs = seeds.windows(2).zip(1..);
    let chain = pairs.map(|(pair, serial)| Succession::make(&identity(pair[0]), &identity(pair[1]), serial, serial));
    identity(*seeds.last().unwrap()).with_chain(chain.collect())
}

fn key(seed: u8) -> PeerKey {
    Identity::from_seed(&[seed; 32]).key()
}

/// A node that has known the nodes behind these URLs as that key.
async fn knowing(seed: u8, old: PeerKey, urls: &[&NodeUrl], trust: Trust) -> Node {
    let config = PeerConfig {
        trust,
        pinned: urls.iter().map(|url| ((*url).clone(), old)).collect(),
        ..config()
    };
    Node::with(seed, config).await
}

#[tokio::test]
async fn a_new_key_is_learnt_when_the_node_is_asked_or_dialled() {
    let b = Node::of(successor(&[2, 3, 4]), config(), false).await;
    for trust in [Trust::Pinned, Trust::Tofu] {
        let a = knowing(1, key(2), &[&b.url], trust).await;
        assert_eq!(within(a.peers.resolve(&b.url)).await, Ok(key(4)));
        assert!(a.peers.welcomes(&key(4)) && !a.peers.welcomes(&key(2)) && !a.peers.welcomes(&key(3)));
        assert_eq!(a.peers.known()[0].key, key(4));
    }
    // A task was made with the old key: whoever dials learns of the new one, and the task is told.
    let mut a = knowing(1, key(2), &[&b.url], Trust::Pinned).await;
    a.peers.want(key(2), &b.url, TASK);
    a.until(Event::Rotated { old: key(2) }).await;
    assert_eq!(a.event().await, Event::Rotated { old: key(3) });
    a.peers.forget(key(2), TASK);
    a.want(&b);
    a.send(&b, TASK, "hello");
    a.until(Event::Up { peer: key(4) }).await;
}

#[tokio::test]
async fn a_node_with_a_new_key_that_dials_is_let_in_after_it_was_asked() {
    let b = Node::of(successor(&[2, 3]), config(), true).await;
    let mut a = knowing(1, key(2), &[&b.url], Trust::Pinned).await;
    b.want(&a);
    b.send(&a, TASK, "hello");
    a.until(Event::Rotated { old: key(2) }).await;
    a.until(Event::Up { peer: key(3) }).await;
    assert_eq!(a.message().await.1, "hello");
    assert!(a.peers.counters().refused >= 1);
}

#[tokio::test]
async fn a_stolen_key_names_no_second_successor() {
    let (owner, thief) = (
        Node::of(successor(&[2, 3]), config(), false).await,
        Node::of(successor(&[2, 9]), config(), false).await,
    );
    let old = Node::with(2, config()).await;
    let a = knowing(1, key(2), &[&owner.url, &thief.url, &old.url], Trust::Tofu).await;
    assert_eq!(within(a.peers.resolve(&owner.url)).await, Ok(key(3)));
    let forked = PeerError::KeyForked {
        old: key(2),
        known: key(3),
        found: key(9),
    };
    assert_eq!(within(a.peers.resolve(&thief.url)).await, Err(forked.clone()));
    assert_eq!(forked.code(), "PEER_KEY_FORKED");
    // The old key itself is worth nothing either: not where it was, and not as a caller.
    let found = within(a.peers.resolve(&old.url)).await.unwrap_err();
    assert_eq!(found.code(), "PEER_KEY_CHANGED");
    old.want(&a);
    within(async {
        while !matches!(old.peers.status(a.key()).last_error, Some(PeerError::Closed(_))) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!a.peers.status(old.key()).connected && a.peers.counters().refused >= 1);
}

#[tokio::test]
async fn a_probe_tells_the_keys_that_were_before() {
    let b = Node::of(successor(&[2, 3]), config(), false).await;
    let a = knowing(1, key(2), &[&b.url], Trust::Pinned).await;
    let found = within(a.peers.probe(&b.url, Some(key(2)))).await;
    assert!(found.ok, "{found:?}");
    assert_eq!((found.key, found.former), (Some(key(3)), vec![key(2)]));
    assert_eq!(a.peers.known()[0].key, key(2), "nothing is remembered");
    let stranger = within(a.peers.probe(&b.url, Some(key(7)))).await;
    assert_eq!(stranger.error.unwrap().code, "PEER_KEY_CHANGED");
}

#[tokio::test]
async fn who_is_forgotten_is_sent_away() {
    let mut b = Node::with(2, config()).await;
    let config = PeerConfig {
        trust: Trust::Pinned,
        ..config()
    };
    let mut a = Node::with(1, config).await;
    a.peers.pin(&b.url, b.key()).unwrap();
    b.want(&a);
    a.until(Event::Up { peer: b.key() }).await;
    b.until(Event::Up { peer: a.key() }).await;
    a.peers.forget_url(&b.url).unwrap();
    a.until(Event::Down { peer: b.key() }).await;
    assert!(!a.peers.welcomes(&b.key()));
}
