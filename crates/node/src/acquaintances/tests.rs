#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use super::*;
use crate::config::Config;
use crate::identity::Identity;
use crate::policy::Profile;
use crate::store::tests::{Scratch, options};
use crate::store::{Options, load_or_create_key};

fn url(text: &str) -> NodeUrl {
    NodeUrl::parse(text).unwrap()
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn pinned(place: &str, key: PeerKey) -> Known {
    Known {
        url: url(place),
        key,
        source: Source::Pinned,
        since: Some(8),
    }
}

async fn actions(store: &Store) -> Vec<String> {
    let entries = store.audit(0, 100).await.unwrap();
    entries.into_iter().map(|entry| entry.action).collect()
}

/// A first use and a succession of two links are told to `store`.
async fn tell(store: &Store) {
    let keep = keep(store.clone(), Audit::new(store.clone()));
    let (first, second, third) = (identity(1), identity(2), identity(3));
    keep(News::FirstUse {
        url: &url("https://c.example"),
        key: first.key(),
        since: 7,
    });
    let links = [
        Succession::make(&first, &second, 1, 1),
        Succession::make(&second, &third, 2, 2),
    ];
    keep(News::Succeeded {
        url: &url("https://c.example"),
        links: &links,
    });
    store.flush().await.unwrap();
}

#[tokio::test]
async fn what_was_learnt_is_known_in_the_next_life() {
    let scratch = Scratch::new();
    let (old, new) = (identity(1).key(), identity(2).key());
    {
        let store = scratch.open();
        // As the first versions wrote it.
        let before = old.to_string().into_bytes();
        store
            .put(TRUST, "https://a.example".to_owned(), before, FOR_EVER)
            .await
            .unwrap();
        tell(&store).await;
        store
            .commit(put_trust(&pinned("https://d.example", new)))
            .await
            .unwrap();
    }
    let mut memory = load(&scratch.open()).unwrap();
    memory.known.sort_by(|a, b| a.url.cmp(&b.url));
    let told = |known: &Known| (known.url.to_string(), known.key, known.source, known.since);
    assert_eq!(
        memory.known.iter().map(told).collect::<Vec<_>>(),
        [
            ("https://a.example".to_owned(), old, Source::FirstUse, None),
            ("https://c.example".to_owned(), old, Source::FirstUse, Some(7)),
            ("https://d.example".to_owned(), new, Source::Pinned, Some(8)),
        ]
    );
    memory.successions.sort_by_key(|(old, _)| *old != identity(1).key());
    assert_eq!(memory.successions, [(old, new), (new, identity(3).key())]);
}

#[tokio::test]
async fn a_full_quota_makes_nobody_forget() {
    let scratch = Scratch::new();
    let store = scratch.open_small(1);
    let refused = store
        .put("kv", "a".to_owned(), vec![1; 10], FOR_EVER)
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    tell(&store).await;
    let memory = load(&store).unwrap();
    assert_eq!((memory.known.len(), memory.successions.len()), (1, 2));
    assert_eq!(
        actions(&store).await,
        ["peer.first-use", "peer.succeeded", "peer.succeeded"]
    );
}

#[tokio::test]
async fn what_is_learnt_and_its_entry_are_kept_together_or_not_at_all() {
    let scratch = Scratch::new();
    let store = scratch.open();
    scratch.refuse_rows("records");
    tell(&store).await;
    assert_eq!(actions(&store).await, [""; 0]);
    scratch.accept_rows("records");
    scratch.refuse_rows("audit");
    tell(&store).await;
    let memory = load(&store).unwrap();
    assert_eq!((memory.known.len(), memory.successions.len()), (0, 0));
    scratch.accept_rows("audit");
    tell(&store).await;
    assert_eq!(load(&store).unwrap().known.len(), 1);
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_not_trusted_anew() {
    let nonsense: [&[u8]; 4] = [b"", b"nonsense", b"{\"key\": 1}", b"\xff"];
    for bytes in nonsense {
        for (kind, id) in [
            (TRUST, "https://b.example".to_owned()),
            (SUCCESSION, identity(1).key().to_string()),
        ] {
            let scratch = Scratch::new();
            let store = scratch.open();
            store.put(kind, id.clone(), bytes.to_vec(), FOR_EVER).await.unwrap();
            let refused = load(&store).unwrap_err().to_string();
            assert!(refused.contains(&id) && refused.contains("from a backup"), "{refused}");
        }
    }
    // Under a name that this program never gives.
    for kind in [TRUST, SUCCESSION] {
        let scratch = Scratch::new();
        let store = scratch.open();
        let bytes = serde_json::to_vec(&json!({
            "key": identity(1).key(), "source": "pinned", "since": 1, "new": identity(2).key(), "succession": "",
        }));
        store.put(kind, "x".to_owned(), bytes.unwrap(), FOR_EVER).await.unwrap();
        assert!(matches!(load(&store), Err(LoadError::Unreadable(_))), "{kind}");
    }
    for kind in [TRUST, SUCCESSION] {
        let scratch = Scratch::new();
        let store = scratch.open();
        tell(&store).await;
        assert!(load(&store).is_ok());
        scratch.damage(kind);
        let refused = load(&store).unwrap_err().to_string();
        assert!(refused.contains(kind) && refused.contains("from a backup"), "{refused}");
    }
}

async fn start(scratch: &Scratch) -> Result<Arc<Node>, crate::node::StartError> {
    let mut config = Config {
        data_dir: scratch.path().to_owned(),
        policy: Profile::Teaching,
        ..Config::default()
    };
    config.storage.max_bytes = 4_000;
    Node::start(config).await
}

#[tokio::test]
async fn what_the_operator_says_is_kept_with_its_entry_or_not_at_all() {
    let scratch = Scratch::new();
    let node = start(&scratch).await.unwrap();
    let who = Caller::operator();
    let store = node.simon.tasks().context().store.clone();
    let kept = || load(&store).unwrap().known;
    let pin = async |place: &str, seed| {
        node.peer_pinned(&who, &url(place), &Expected::Key(identity(seed).key()))
            .await
    };
    // Nobody has room for anything.
    for id in 0..100 {
        drop(store.put("filler", id.to_string(), vec![1; 100], FOR_EVER));
    }
    let refused = store.put("filler", "x".to_owned(), vec![1; 100], FOR_EVER).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    pin("https://a.example", 1).await.unwrap();
    assert_eq!(kept().len(), 1);
    scratch.refuse_rows("audit");
    assert!(pin("https://b.example", 2).await.is_err());
    assert_eq!(kept().len(), 1, "nothing that the audit does not tell");
    assert!(node.peer_forgotten(&who, &url("https://a.example")).await.is_err());
    assert_eq!(kept().len(), 1, "nor is anything forgotten without it");
    scratch.accept_rows("audit");
    scratch.refuse_rows("records");
    let refused = pin("https://b.example", 2).await.unwrap_err();
    assert_eq!((refused.status, refused.code), (503, "STORAGE_FAILED"));
    scratch.accept_rows("records");
    pin("https://b.example", 2).await.unwrap();
    node.peer_forgotten(&who, &url("https://b.example")).await.unwrap();
    assert_eq!(kept().len(), 1);
    let mut told = actions(&store).await;
    told.retain(|action| action.starts_with("peer."));
    assert_eq!(told, ["peer.pin", "peer.pin", "peer.forget"]);
}

#[tokio::test]
async fn a_node_that_cannot_read_whom_it_trusts_does_not_start() {
    let scratch = Scratch::new();
    let options = Options {
        identity: Arc::new(Identity::open(scratch.path()).unwrap()),
        ..options()
    };
    let key = load_or_create_key(&scratch.path().join("storage.key")).unwrap();
    let store = Store::open(scratch.path(), key, &options).unwrap();
    store
        .commit(put_trust(&pinned("https://a.example", identity(1).key())))
        .await
        .unwrap();
    drop(store);
    scratch.damage(TRUST);
    let refused = start(&scratch).await.unwrap_err().to_string();
    assert!(refused.contains("peers' keys cannot be read"), "{refused}");
}
