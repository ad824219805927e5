//! What shows only when several views of one URL are laid side by side.

use fdrtd::fingerprint::Expected;
use fdrtd::identity::PeerKey;
use fdrtd::peer::probe::{Obstacle, Probe};

use super::{Found, Target, Way};

const SAME_EVERYWHERE: &str = "give that node a URL that leads to it from everywhere: names and port forwardings must mean the same on all machines";
const LOOPBACK: &str = "127.0.0.1 and localhost mean, on every machine, that machine itself: write the address under which the others reach that node, for \
                        example http://192.168.1.5:55500/public1";

/// The key that was named on the command line.
pub(super) fn with_expected(found: &mut Probe, expected: Option<&Expected>) {
    let (Some(key), Some(expected)) = (found.key, expected) else {
        return;
    };
    if expected.is(&key) || found.former.iter().any(|former| expected.is(former)) {
        return;
    }
    // That a node meets itself says more.
    if found.error.as_ref().is_some_and(|error| error.code == "PEER_IS_MYSELF") {
        return;
    }
    blame(
        found,
        "PEER_KEY_CHANGED",
        format!(
            "another node answers: expected the key {expected}, found {}",
            match expected {
                Expected::Spoken(_) => key.spoken(),
                _ => key.fingerprint(),
            }
        ),
        "ask the people of that node for its key (fdrtd identity), and compare",
    );
}

/// What this machine has seen. `seen` are the keys by target.
pub(super) fn with_here(way: &mut Way, targets: &[Target], seen: &[Option<PeerKey>]) {
    let Some(from) = way.from else { return };
    let to = &targets[way.to].url;
    let start = &targets[from].url;
    let Found::Probe(found) = &mut way.found else { return };
    let code = found.error.as_ref().map_or("", |error| error.code.as_str());
    let layer = found.error.as_ref().map_or("", |error| error.layer.as_str());
    let remedy = if to.is_loopback() { LOOPBACK } else { SAME_EVERYWHERE };
    let myself = code == "PEER_IS_MYSELF" || (found.key.is_some() && found.key == seen[from]);
    if myself && seen[from] == seen[way.to] {
        blame(
            found,
            "KEY_TWICE",
            format!("{start} and {to} are the same node"),
            "give every party a node of its own, with a key of its own",
        );
    } else if myself {
        blame(
            found,
            "PEER_IS_MYSELF",
            format!("from {start}, this URL leads to {start} itself"),
            remedy,
        );
    } else if let (Some(there), Some(here)) = (found.key, seen[way.to])
        && there != here
    {
        blame(
            found,
            "KEYS_DIFFER",
            format!(
                "from {start}, another node (key {}) answers under this URL than from this machine (key {})",
                there.fingerprint(),
                here.fingerprint()
            ),
            remedy,
        );
    } else if layer == "TCP"
        && to.is_loopback()
        && !start.is_loopback()
        && let Some(error) = &mut found.error
    {
        error.hint = LOOPBACK.to_owned();
    }
}

fn blame(found: &mut Probe, code: &str, message: String, hint: &str) {
    found.ok = false;
    found.error = Some(Obstacle {
        layer: "key".to_owned(),
        code: code.to_owned(),
        message,
        hint: hint.to_owned(),
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: PeerKey = PeerKey::from_bytes([1; 32]);
    const B: PeerKey = PeerKey::from_bytes([2; 32]);
    const C: PeerKey = PeerKey::from_bytes([3; 32]);

    fn targets(urls: [&str; 2]) -> Vec<Target> {
        urls.iter().map(|url| url.parse().unwrap()).collect()
    }

    /// The verdict on the way from the first target to the second, at which `key` was found.
    fn verdict(
        urls: [&str; 2],
        key: Option<PeerKey>,
        code: Option<(&str, &str)>,
        seen: [PeerKey; 2],
    ) -> Option<Obstacle> {
        let error = code.map(|(layer, code)| Obstacle {
            layer: layer.to_owned(),
            code: code.to_owned(),
            message: "as it was".to_owned(),
            hint: "as it was".to_owned(),
        });
        let found = Probe {
            ok: error.is_none(),
            key,
            error,
            ..Probe::default()
        };
        let mut way = Way {
            from: Some(0),
            to: 1,
            found: Found::Probe(found),
        };
        with_here(&mut way, &targets(urls), &seen.map(Some));
        assert_eq!(way.is_ok(), way.obstacle().is_none());
        way.obstacle().cloned()
    }

    #[test]
    fn a_url_that_means_another_node_elsewhere() {
        const NAMES: [&str; 2] = ["http://a/1", "http://b/2"];
        assert_eq!(verdict(NAMES, Some(B), None, [A, B]), None);
        let split = verdict(NAMES, Some(C), None, [A, B]).unwrap();
        assert_eq!(
            (split.code.as_str(), split.hint.as_str()),
            ("KEYS_DIFFER", SAME_EVERYWHERE)
        );
        assert!(split.message.contains(&C.fingerprint()) && split.message.contains(&B.fingerprint()));
        let remembered = verdict(NAMES, Some(B), Some(("key", "PEER_KEY_CHANGED")), [A, B]).unwrap();
        assert_eq!(remembered.message, "as it was", "only that node's memory differs");
    }

    #[test]
    fn loopback_between_machines() {
        let urls = ["http://10.0.0.1:1/1", "http://127.0.0.1:1/2"];
        let itself = verdict(urls, Some(A), Some(("key", "PEER_IS_MYSELF")), [A, B]).unwrap();
        assert!(
            itself.message.ends_with("leads to http://10.0.0.1:1/1 itself"),
            "{itself:?}"
        );
        assert_eq!(itself.hint, LOOPBACK);
        let closed = verdict(urls, None, Some(("TCP", "PEER_UNREACHABLE")), [A, B]).unwrap();
        assert_eq!((closed.message.as_str(), closed.hint.as_str()), ("as it was", LOOPBACK));
    }

    #[test]
    fn one_node_under_two_urls() {
        let twice = verdict(
            ["http://a/1", "http://b/1"],
            Some(A),
            Some(("key", "PEER_IS_MYSELF")),
            [A, A],
        )
        .unwrap();
        assert_eq!(twice.code, "KEY_TWICE");
    }

    #[test]
    fn a_named_key_counts() {
        let found = || Probe {
            ok: true,
            key: Some(A),
            ..Probe::default()
        };
        for (expected, ok) in [
            (Expected::Key(A), true),
            (Expected::Key(B), false),
            (Expected::Short(A.fingerprint()), true),
            (Expected::Short(B.fingerprint()), false),
            (Expected::Spoken(A.spoken()), true),
            (Expected::Spoken(B.spoken()), false),
        ] {
            let mut found = found();
            with_expected(&mut found, Some(&expected));
            assert_eq!(found.ok, ok, "{expected:?}");
        }
        // Who knows an earlier key knows the node.
        let mut rotated = Probe {
            former: vec![B],
            ..found()
        };
        with_expected(&mut rotated, Some(&Expected::Key(B)));
        assert!(rotated.ok);
        with_expected(&mut rotated, Some(&Expected::Key(C)));
        assert!(!rotated.ok);
    }
}
