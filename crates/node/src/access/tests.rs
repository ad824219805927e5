#![allow(clippy::unwrap_used)]
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::tokens::By;
use super::*;
use crate::principal::Role;
use crate::services::Clock;
use crate::store::StoreError;
use crate::store::tests::{Scratch, options};
use crate::store::{Store, load_or_create_key};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn tokens() -> (Tokens, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_800_000_000));
    (
        Tokens::open(Store::ephemeral(), Clock::Fixed(now.clone())).unwrap(),
        now,
    )
}

fn access(config: &AccessConfig, listen: IpAddr, tokens: Tokens) -> Result<Access, String> {
    let operator = OperatorToken::unknown().unwrap();
    Access::new(config, listen, tokens, operator, Audit::default()).map_err(|error| error.to_string())
}

fn with(anonymous: Anonymous) -> AccessConfig {
    AccessConfig {
        anonymous,
        ..AccessConfig::default()
    }
}

async fn refusal(access: &Access, credentials: Option<&[u8]>) -> (u16, &'static str) {
    let problem = access.admit(credentials, Some(HERE)).await.unwrap_err();
    (problem.status, problem.code)
}

#[tokio::test]
async fn who_is_admitted_without_credentials() {
    for (anonymous, listen, admitted) in [
        (Anonymous::Auto, HERE, true),
        (Anonymous::Yes, HERE, true),
        (Anonymous::Yes, THERE, true),
        (Anonymous::No, HERE, false),
        (Anonymous::No, THERE, false),
    ] {
        let access = access(&with(anonymous), listen, tokens().0).unwrap();
        assert_eq!(
            access.admit(None, Some(HERE)).await.is_ok(),
            admitted,
            "{anonymous:?} {listen}"
        );
        assert_eq!(access.admits_anonymous(), admitted);
    }
    let refused = access(&with(Anonymous::Auto), THERE, tokens().0).unwrap_err();
    // The tokens of these tests are in memory: one that somebody makes before the start is for another node.
    assert!(!refused.contains("token create"), "{refused}");
    assert!(refused.contains("[access.oidc]") && refused.contains("--anonymous yes"));
    let scratch = Scratch::new();
    let key = load_or_create_key(&scratch.path().join("storage.key")).unwrap();
    let store = Store::open(scratch.path(), key, &options()).unwrap();
    let kept = Tokens::open(store, Clock::System).unwrap();
    let refused = access(&with(Anonymous::Auto), THERE, kept).unwrap_err();
    assert!(
        refused.contains("fdrtd token create") && refused.contains("--anonymous yes"),
        "{refused}"
    );
    let (known, _) = tokens();
    known.create("anna", Role::Owner, None, By::Directory).await.unwrap();
    let access = access(&with(Anonymous::Auto), THERE, known).unwrap();
    assert_eq!(refusal(&access, None).await, (401, "CREDENTIALS_MISSING"));
}

#[tokio::test]
async fn an_issuer_alone_is_somebody_to_admit() {
    let oidc = "[oidc]\nissuer = \"https://idp.example\"\naudience = \"a\"\nroles = { a = \"owner\" }";
    let config: AccessConfig = toml::from_str(oidc).unwrap();
    for listen in [HERE, THERE] {
        let access = access(&config, listen, tokens().0).unwrap();
        assert_eq!(refusal(&access, None).await, (401, "CREDENTIALS_MISSING"));
    }
}

#[tokio::test]
async fn the_first_token_ends_anonymous_access_and_nothing_brings_it_back() {
    let access = access(&AccessConfig::default(), HERE, tokens().0).unwrap();
    let stranger = access.admit(None, None).await.unwrap();
    let waiting = tokio::spawn(stranger.lease.over());
    access
        .tokens
        .create("anna", Role::Analyst, None, By::Directory)
        .await
        .unwrap();
    waiting.await.unwrap();
    assert_eq!(refusal(&access, None).await, (401, "CREDENTIALS_MISSING"));
    access.tokens.revoke("anna", By::Directory).await.unwrap();
    assert_eq!(refusal(&access, None).await, (401, "CREDENTIALS_MISSING"));
}

#[tokio::test]
async fn a_token_admits_until_its_end_and_all_refusals_are_alike() {
    let (tokens, now) = tokens();
    let end = now.load(Ordering::Relaxed) + 100;
    let (anna, shown) = tokens
        .create("anna", Role::Analyst, Some(end), By::Directory)
        .await
        .unwrap();
    let (ben, _) = tokens.create("ben", Role::Owner, None, By::Directory).await.unwrap();
    assert!(anna.starts_with(tokens::PREFIX) && anna.len() == tokens::PREFIX.len() + 52);
    assert!(!shown.to_string().contains(&anna[6..]) && !format!("{tokens:?}").contains(&anna[6..]));
    let access = access(&AccessConfig::default(), HERE, tokens).unwrap();

    // Every character counts.
    for at in 0..anna.len() {
        let instead = if &anna[at..=at] == "a" { "b" } else { "a" };
        let other = format!("{}{instead}{}", &anna[..at], &anna[at + 1..]);
        assert!(matches!(access.tokens.check(&other), Checked::Unknown), "{at}");
    }
    let caller = access.admit(Some(anna.as_bytes()), None).await.unwrap();
    assert_eq!((caller.who.shown(), caller.who.role()), ("token:anna", Role::Analyst));
    let caller = access.admit(Some(ben.as_bytes()), None).await.unwrap();
    assert_eq!((caller.who.shown(), caller.who.role()), ("token:ben", Role::Owner));
    let waiting = tokio::spawn(caller.lease.over());
    access.tokens.revoke("ben", By::Directory).await.unwrap();
    waiting.await.unwrap();

    now.store(end - 1, Ordering::Relaxed);
    assert!(access.admit(Some(anna.as_bytes()), None).await.is_ok());
    now.store(end, Ordering::Relaxed);
    let mut answers = Vec::new();
    let longer = format!("{}a", *anna);
    let stranger = format!("{}{}", tokens::PREFIX, "a".repeat(52));
    let all: [&[u8]; 8] = [
        anna.as_bytes(),
        ben.as_bytes(),
        b"",
        b"\xff\xfe",
        longer.as_bytes(),
        &anna.as_bytes()[..57],
        stranger.as_bytes(),
        b"a.b.c",
    ];
    for credentials in all {
        answers.push(access.admit(Some(credentials), None).await.unwrap_err().body());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(
        (answers[0]["status"].as_u64(), answers[0]["code"].as_str()),
        (Some(401), Some("CREDENTIALS_REFUSED"))
    );
}

#[tokio::test]
async fn names_and_times_of_tokens() {
    let (tokens, now) = tokens();
    let code = |result: Result<(zeroize::Zeroizing<String>, serde_json::Value), Problem>| result.unwrap_err().code;
    for name in ["", "a b", "a/b", "ä", "a\n", &"a".repeat(65)] {
        assert_eq!(
            code(tokens.create(name, Role::Viewer, None, By::Directory).await),
            "TOKEN_NAME_UNUSABLE",
            "{name}"
        );
    }
    let start = now.load(Ordering::Relaxed);
    for expires in [0, start, u64::MAX] {
        assert_eq!(
            code(tokens.create("a", Role::Viewer, Some(expires), By::Directory).await),
            "TOKEN_EXPIRY_UNUSABLE"
        );
    }
    tokens
        .create("a", Role::Viewer, Some(start + 10), By::Directory)
        .await
        .unwrap();
    assert_eq!(
        code(tokens.create("a", Role::Viewer, None, By::Directory).await),
        "TOKEN_NAME_TAKEN"
    );
    now.store(start + 10, Ordering::Relaxed);
    assert_eq!(
        tokens.revoke("a", By::Directory).await.unwrap_err().code,
        "TOKEN_UNKNOWN"
    );
    assert!(!tokens.any());
    tokens.create("a", Role::Owner, None, By::Directory).await.unwrap();
    let states: Vec<String> = tokens
        .list()
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["state"].to_string())
        .collect();
    assert_eq!(states, ["\"expired\"", "\"active\""]);
    tokens.revoke("a", By::Directory).await.unwrap();
    assert_eq!(tokens.sweep(start + 29 * 24 * 3600), 0);
    assert_eq!(tokens.sweep(start + 31 * 24 * 3600), 2);
}

#[tokio::test]
async fn tokens_survive_a_restart_and_are_nowhere_in_the_file() {
    let scratch = Scratch::new();
    let key = || load_or_create_key(&scratch.path().join("storage.key")).unwrap();
    let open = || Tokens::open(Store::open(scratch.path(), key(), &options()).unwrap(), Clock::System).unwrap();
    let tokens = open();
    let (anna, _) = tokens
        .create("annabella", Role::Analyst, None, By::Directory)
        .await
        .unwrap();
    let (ben, _) = tokens.create("ben", Role::Analyst, None, By::Directory).await.unwrap();
    tokens.revoke("ben", By::Directory).await.unwrap();
    drop(tokens);
    for file in std::fs::read_dir(scratch.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        // The names are in the audit.
        for secret in [&anna.as_bytes()[6..], &ben.as_bytes()[6..]] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        }
    }
    let tokens = open();
    assert!(matches!(tokens.check(&anna), Checked::Good(_)));
    assert!(matches!(tokens.check(&ben), Checked::Revoked(name) if name == "ben"));
    assert!(*tokens.made().borrow() && tokens.any());
    let used = &tokens.list()[0]["last_used"];
    assert_eq!(
        used.as_str().map(str::len),
        Some("2026-11-25".len()),
        "a day, not a time"
    );
    drop(tokens);
    let tokens = open();
    tokens.revoke("annabella", By::Directory).await.unwrap();
    drop(tokens);
    // Long after, nothing is left of them but that there were some.
    let store = Store::open(scratch.path(), key(), &options()).unwrap();
    store.purge(u64::MAX >> 2).await.unwrap();
    let tokens = Tokens::open(store, Clock::System).unwrap();
    assert_eq!(tokens.list(), serde_json::json!([]));
    assert!(*tokens.made().borrow() && !tokens.any());
}

#[tokio::test]
async fn failures_are_slowed_down_and_lock_nobody_out() {
    let (tokens, _) = tokens();
    let (anna, _) = tokens.create("anna", Role::Analyst, None, By::Directory).await.unwrap();
    let config = AccessConfig {
        failures_per_minute: 3.0,
        ..AccessConfig::default()
    };
    let access = access(&config, HERE, tokens).unwrap();
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(refusal(&access, Some(b"wrong")).await);
    }
    assert_eq!(codes[..3], [(401, "CREDENTIALS_REFUSED"); 3]);
    assert_eq!(codes[3], (429, "RATE_LIMITED"));
    assert!(access.admit(Some(anna.as_bytes()), Some(HERE)).await.is_ok());
    let elsewhere = access.admit(Some(b"wrong"), Some(THERE)).await.unwrap_err();
    assert_eq!(elsewhere.code, "CREDENTIALS_REFUSED");
}

#[tokio::test]
async fn principals_and_addresses_have_limits_of_their_own() {
    let config = AccessConfig {
        requests_per_second: 0.001,
        burst: 2.0,
        ..AccessConfig::default()
    };
    let access = access(&config, HERE, tokens().0).unwrap();
    let anna = Principal::new("token:anna", Role::Analyst);
    assert!(access.count(&anna).is_ok() && access.count(&anna).is_ok());
    let refused = access.count(&anna).unwrap_err();
    assert_eq!((refused.status, refused.code), (429, "RATE_LIMITED"));
    assert!(refused.body()["retry_after"].as_u64().unwrap() > 900);
    assert!(access.count(&Principal::new("token:ben", Role::Analyst)).is_ok());
    for _ in 0..5 {
        assert!(
            access.count(&Principal::anonymous()).is_ok(),
            "they are many, and counted by address"
        );
    }
    assert!(access.count_address(Some(HERE)).is_ok() && access.count_address(Some(HERE)).is_ok());
    assert!(access.count_address(Some(HERE)).is_err() && access.count_address(Some(THERE)).is_ok());
}

/// Tokens of a store, and what the audit says of them: who, what and the detail.
async fn kept(store: &Store) -> (Vec<String>, Vec<String>) {
    let reopened = Tokens::open(store.clone(), Clock::System).unwrap().list();
    let word = |token: &serde_json::Value, name: &str| token[name].as_str().unwrap().to_owned();
    let tokens = reopened.as_array().unwrap().iter();
    let tokens = tokens.map(|token| format!("{} {}", word(token, "name"), word(token, "state")));
    let entries = store.audit(0, 100).await.unwrap();
    let entries = entries
        .iter()
        .map(|entry| format!("{} {} {}", entry.who, entry.action, word(&entry.detail, "token")));
    (tokens.collect(), entries.collect())
}

#[tokio::test]
async fn a_token_and_its_entry_in_the_audit_are_kept_together_or_not_at_all() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let tokens = Tokens::open(store.clone(), Clock::System).unwrap();
    let operator = Principal::operator();
    let by = By::Caller(&operator);
    let nothing = (Vec::<String>::new(), Vec::<String>::new());
    for table in ["audit", "records"] {
        scratch.refuse_rows(table);
        let refused = tokens.create("anna", Role::Viewer, None, by).await.unwrap_err();
        assert_eq!(refused.code, "STORAGE_FAILED");
        assert_eq!(kept(&store).await, nothing, "{table}");
        assert_eq!(tokens.list(), serde_json::json!([]));
        scratch.accept_rows(table);
    }
    let (anna, _) = tokens.create("anna", Role::Viewer, None, by).await.unwrap();
    let made = (
        vec!["anna active".to_owned()],
        vec!["operator token.create anna".to_owned()],
    );
    assert_eq!(kept(&store).await, made);
    for table in ["audit", "records"] {
        scratch.refuse_rows(table);
        assert_eq!(tokens.revoke("anna", by).await.unwrap_err().code, "STORAGE_FAILED");
        assert_eq!(kept(&store).await, made, "{table}");
        assert!(
            matches!(tokens.check(&anna), Checked::Revoked(_)),
            "here it has ended all the same"
        );
        scratch.accept_rows(table);
    }
    // So the end is told again until it is kept, and no longer.
    tokens.revoke("anna", By::Directory).await.unwrap();
    let (states, entries) = kept(&store).await;
    assert_eq!(states, ["anna revoked"]);
    assert_eq!(entries, ["operator token.create anna", "operator token.revoke anna"]);
    assert_eq!(store.audit(1, 1).await.unwrap()[0].detail["offline"], true);
    assert_eq!(tokens.revoke("anna", by).await.unwrap_err().code, "TOKEN_UNKNOWN");
}

#[tokio::test]
async fn a_full_quota_keeps_no_token_valid() {
    let scratch = Scratch::new();
    let store = scratch.open_small(2_000);
    let tokens = Tokens::open(store.clone(), Clock::System).unwrap();
    tokens.create("anna", Role::Viewer, None, By::Directory).await.unwrap();
    for id in 0..100 {
        drop(store.put("filler", id.to_string(), vec![1], u64::MAX));
    }
    let full = store.put("filler", "x".to_owned(), vec![1], u64::MAX).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    let refused = tokens
        .create("ben", Role::Viewer, None, By::Directory)
        .await
        .unwrap_err();
    assert_eq!((refused.status, refused.code), (507, "STORAGE_FULL"));
    tokens.revoke("anna", By::Directory).await.unwrap();
    let (states, entries) = kept(&store).await;
    assert_eq!(states, ["anna revoked"]);
    assert_eq!(entries, ["operator token.create anna", "operator token.revoke anna"]);
}

#[tokio::test]
async fn tokens_that_cannot_be_read_were_some_all_the_same() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let tokens = Tokens::open(store.clone(), Clock::System).unwrap();
    tokens.create("anna", Role::Viewer, None, By::Directory).await.unwrap();
    scratch.damage("token");
    scratch.damage("token-made");
    let tokens = Tokens::open(store, Clock::System).unwrap();
    assert!(*tokens.made().borrow() && !tokens.any());
}
