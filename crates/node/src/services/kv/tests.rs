#![allow(clippy::unwrap_used)]
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::tests::Scratch;

const QUOTA: KvQuota = KvQuota {
    max_objects: 3,
    max_bytes: 100,
    max_objects_each: 3,
    max_bytes_each: 100,
    ttl: Duration::from_secs(60),
};

struct Bench {
    service: KeyValueStorage,
    now: Arc<AtomicU64>,
    who: Principal,
}

impl Bench {
    fn new(store: Store) -> Bench {
        Bench::at(1000, store)
    }

    fn at(now: u64, store: Store) -> Bench {
        let now = Arc::new(AtomicU64::new(now));
        let clock = Clock::Fixed(now.clone());
        let service = KeyValueStorage::with_clock(store, QUOTA, clock).unwrap();
        Bench {
            service,
            now,
            who: Principal::anonymous(),
        }
    }

    fn ephemeral() -> Bench {
        Bench::new(Store::ephemeral())
    }

    async fn call(&self, function: &str, params: &str, callback: Option<&Callback>) -> Result<Reply, Problem> {
        let params = Parameters::parse(function, params).unwrap();
        self.service.call(&self.who, function, params, callback).await
    }

    async fn create(&self, value: &str) -> Callback {
        match self.call("create", &format!("{{\"value\": {value}}}"), None).await {
            Ok(Reply::Object(callback)) => callback,
            other => unreachable!("{other:?}"),
        }
    }

    async fn on(&self, callback: &Callback, function: &str) -> Result<Reply, Problem> {
        self.call(function, "{}", Some(callback)).await
    }

    async fn retrieve(&self, callback: &Callback) -> String {
        match self.on(callback, "retrieve").await.unwrap() {
            Reply::Value(text) => text,
            Reply::Shared(text) => String::clone(&text),
            other => unreachable!("{other:?}"),
        }
    }
}

fn value(text: &str) -> Result<Reply, Problem> {
    Ok(Reply::Value(text.to_owned()))
}

fn refusal(result: Result<Reply, Problem>) -> (u16, &'static str) {
    let problem = result.unwrap_err();
    (problem.status, problem.code)
}

const UNKNOWN: (u16, &str) = (404, "OBJECT_UNKNOWN");

#[tokio::test]
async fn values_come_back_to_the_byte() {
    let values = [
        r#"{"a": [1, 2.5, "x", null, true]}"#,
        "\"text\"",
        "42",
        "4.5",
        "true",
        "false",
        "0",
        "\"\"",
        "[]",
        "{}",
        "1180591620717411303424",
        "1e+300",
        "0.10",
        "\"\\u00fc\\u2028\"",
        "\"ü\"",
        "\"\\ud800\"",
    ];
    for text in values {
        let bench = Bench::ephemeral();
        let callback = bench.create(text).await;
        assert_eq!(bench.on(&callback, "retrieve").await, value(text), "{text}");
        assert_eq!(
            bench.service.value_text(&bench.who, &callback, false).unwrap().as_str(),
            text
        );
    }
}

#[tokio::test]
async fn null_is_retrieved_as_nothing_and_exists() {
    let bench = Bench::ephemeral();
    let callback = bench.create("null").await;
    assert_eq!(bench.on(&callback, "retrieve").await, Ok(Reply::Nothing));
    assert_eq!(bench.on(&callback, "exists").await, value("true"));
    assert_eq!(
        bench.service.value_text(&bench.who, &callback, false).unwrap().as_str(),
        "null"
    );
}

#[tokio::test]
async fn the_recorded_life_of_an_object() {
    let bench = Bench::ephemeral();
    let callback = bench.create("1").await;
    assert_eq!(callback["storage"], "default");
    assert_eq!(
        Uuid::try_parse(callback["uuid"].as_str().unwrap())
            .unwrap()
            .get_version_num(),
        4
    );
    assert_eq!(callback.as_object().unwrap().len(), 2);
    assert_eq!(bench.on(&callback, "exists").await, value("true"));
    assert_eq!(
        bench.call("store", r#"{"value": [1, 2, 3]}"#, Some(&callback)).await,
        Ok(Reply::Nothing)
    );
    assert_eq!(bench.on(&callback, "retrieve").await, value("[1, 2, 3]"));
    assert_eq!(bench.on(&callback, "delete").await, Ok(Reply::Nothing));
    assert_eq!(bench.on(&callback, "exists").await, value("false"));
    assert_eq!(refusal(bench.on(&callback, "retrieve").await), UNKNOWN);
    assert_eq!(refusal(bench.on(&callback, "delete").await), UNKNOWN);
    assert_eq!(
        refusal(bench.call("store", r#"{"value": 1}"#, Some(&callback)).await),
        UNKNOWN
    );
    assert!(bench.service.is_empty());
}

#[tokio::test]
async fn an_object_belongs_to_its_storage() {
    let bench = Bench::ephemeral();
    let reply = bench.call("create", r#"{"value": 1, "storage": "other"}"#, None).await;
    let Ok(Reply::Object(mut callback)) = reply else {
        unreachable!("{reply:?}")
    };
    assert_eq!(callback["storage"], "other");
    assert_eq!(bench.on(&callback, "retrieve").await, value("1"));
    callback["storage"] = "default".into();
    assert_eq!(refusal(bench.on(&callback, "retrieve").await), UNKNOWN);
    assert_eq!(bench.on(&callback, "exists").await, value("false"));
}

#[tokio::test]
async fn what_names_nothing_is_unknown() {
    let bench = Bench::ephemeral();
    bench.create("1").await;
    for (storage, uuid) in [
        ("default", "zzz"),
        ("zzz", "zzz"),
        ("default", "c12add2e-53aa-461b-ab2e-99fafb70979f"),
    ] {
        let callback = json!({"storage": storage, "uuid": uuid});
        for function in ["retrieve", "delete"] {
            assert_eq!(refusal(bench.on(&callback, function).await), UNKNOWN);
        }
        assert_eq!(bench.on(&callback, "exists").await, value("false"));
    }
}

#[tokio::test]
async fn anothers_object_looks_like_none() {
    let mut bench = Bench::ephemeral();
    let callback = bench.create("4711").await;
    bench.who = Principal::from_record("mallory");
    let absent = json!({"storage": "default", "uuid": Uuid::new_v4().to_string()});
    for function in ["retrieve", "delete", "exists"] {
        assert_eq!(bench.on(&callback, function).await, bench.on(&absent, function).await);
    }
    let store = |callback| bench.call("store", r#"{"value": 0}"#, Some(callback));
    assert_eq!(store(&callback).await, store(&absent).await);
    assert_eq!(
        bench
            .service
            .value_text(&bench.who, &callback, false)
            .unwrap_err()
            .status,
        404
    );
    let owner = Principal::anonymous();
    assert_eq!(
        bench.service.value_text(&owner, &callback, false).unwrap().as_str(),
        "4711"
    );
}

#[tokio::test]
async fn unusable_calls_are_refused_with_a_hint() {
    let bench = Bench::ephemeral();
    let callback = bench.create("1").await;
    let null = Callback::Null;
    let text = json!("zzz");
    let number = json!({"storage": 1, "uuid": 2});
    let cases = [
        ("frobnicate", "{}", Some(&callback), (403, "FUNCTION_NOT_PUBLIC")),
        ("callback", r#"{"callback": "x"}"#, None, (403, "FUNCTION_NOT_PUBLIC")),
        ("create", "{}", None, (422, "PARAMETER_MISSING")),
        ("create", r#"{"value": 1, "foo": 2}"#, None, (422, "PARAMETER_UNKNOWN")),
        ("create", r#"{"value": 1, "storage": 2}"#, None, (422, "WRONG_TYPE")),
        ("retrieve", "{}", None, (422, "CALLBACK_MISSING")),
        ("retrieve", "{}", Some(&null), (422, "CALLBACK_MISSING")),
        ("retrieve", "{}", Some(&text), (422, "CALLBACK_INVALID")),
        ("retrieve", "{}", Some(&number), (422, "CALLBACK_INVALID")),
        ("retrieve", r#"{"foo": 2}"#, Some(&callback), (422, "PARAMETER_UNKNOWN")),
        ("store", "{}", Some(&callback), (422, "PARAMETER_MISSING")),
    ];
    for (function, params, callback, expected) in cases {
        let problem = bench.call(function, params, callback).await.unwrap_err();
        assert_eq!((problem.status, problem.code), expected, "{function} {params}");
        assert!(!problem.hint.is_empty());
    }
    let long = format!(r#"{{"value": 1, "storage": "{}"}}"#, "x".repeat(256));
    assert_eq!(
        refusal(bench.call("create", &long, None).await),
        (422, "VALUE_OUT_OF_RANGE")
    );
    assert_eq!(bench.service.len(), 1);
}

#[tokio::test]
async fn what_goes_in_one_way_comes_back_to_nobody() {
    let scratch = Scratch::new();
    let mut bench = Bench::new(scratch.open());
    let Ok(Reply::Object(callback)) = bench.call("create", r#"{"value": 4711, "one_way": true}"#, None).await else {
        unreachable!()
    };
    drop(bench);
    bench = Bench::new(scratch.open());
    for value in ["4711", "4712"] {
        assert_eq!(refusal(bench.on(&callback, "retrieve").await), (403, "VALUE_ONE_WAY"));
        let text = |as_input| bench.service.value_text(&bench.who, &callback, as_input);
        assert_eq!(text(false).unwrap_err().code, "VALUE_ONE_WAY");
        assert_eq!(text(true).unwrap().as_str(), value);
        assert_eq!(bench.on(&callback, "exists").await, Ok(Reply::Value("true".into())));
        bench
            .call("store", r#"{"value": 4712}"#, Some(&callback))
            .await
            .unwrap();
    }
    // To a stranger it is not even that.
    let owner = std::mem::replace(&mut bench.who, Principal::from_record("mallory"));
    assert_eq!(refusal(bench.on(&callback, "retrieve").await), (404, "OBJECT_UNKNOWN"));
    assert_eq!(
        bench
            .service
            .value_text(&bench.who, &callback, true)
            .unwrap_err()
            .status,
        404
    );
    bench.who = owner;
    bench.on(&callback, "delete").await.unwrap();
    assert_eq!(bench.on(&callback, "exists").await, Ok(Reply::Value("false".into())));
    assert_eq!(
        refusal(bench.call("create", r#"{"value": 1, "one_way": 1}"#, None).await),
        (422, "WRONG_TYPE")
    );
}

#[tokio::test]
async fn one_owner_cannot_take_all_the_room() {
    let mut bench = Bench::ephemeral();
    bench.service.quota.max_objects_each = 2;
    bench.service.quota.max_bytes_each = 20;
    let first = bench.create("1").await;
    let second = bench.create("1").await;
    let full = (429, "QUOTA");
    let refused = bench.call("create", r#"{"value": 1}"#, None).await.unwrap_err();
    assert!(refused.message.contains("one caller"), "{}", refused.message);
    let store = |callback: &Callback, length: usize| {
        let params = format!(r#"{{"value": "{}"}}"#, "x".repeat(length - 2));
        let callback = callback.clone();
        let bench = &bench;
        async move { bench.call("store", &params, Some(&callback)).await }
    };
    store(&first, 19).await.unwrap();
    assert_eq!(refusal(store(&second, 2).await), full);
    store(&first, 10).await.unwrap();
    store(&second, 10).await.unwrap();
    bench.on(&first, "delete").await.unwrap();
    store(&second, 20).await.unwrap();
    bench.who = Principal::from_record("ben");
    bench.create("1").await;
    bench.create("1").await;
    assert_eq!(refusal(bench.call("create", r#"{"value": 1}"#, None).await), full);
    bench.now.store(2000, Ordering::Relaxed);
    bench.create("1").await;
    bench.service.sweep(5000);
    let state = bench.service.state();
    assert!(
        state.owned.is_empty() && state.bytes == 0,
        "nothing is left of shares that are gone"
    );
}

#[tokio::test]
async fn the_quota_counts_objects() {
    let bench = Bench::ephemeral();
    let first = bench.create("1").await;
    bench.create("2").await;
    bench.create("3").await;
    assert_eq!(
        refusal(bench.call("create", r#"{"value": 4}"#, None).await),
        (429, "QUOTA")
    );
    bench.on(&first, "delete").await.unwrap();
    bench.create("4").await;
}

#[tokio::test]
async fn the_quota_counts_bytes() {
    let bench = Bench::ephemeral();
    let text = |length: usize| format!("{{\"value\": \"{}\"}}", "x".repeat(length - 2));
    let first = bench.create(&format!("\"{}\"", "x".repeat(58))).await;
    assert_eq!(refusal(bench.call("create", &text(41), None).await), (429, "QUOTA"));
    bench.call("create", &text(40), None).await.unwrap();
    assert_eq!(
        refusal(bench.call("store", &text(61), Some(&first)).await),
        (429, "QUOTA")
    );
    assert_eq!(bench.retrieve(&first).await.len(), 60);
    bench.call("store", &text(30), Some(&first)).await.unwrap();
    bench.call("create", &text(30), None).await.unwrap();
}

#[tokio::test]
async fn a_value_lives_for_its_time_from_the_last_write() {
    let bench = Bench::ephemeral();
    let first = bench.create("1").await;
    let second = bench.create("2").await;
    bench.now.store(1030, Ordering::Relaxed);
    bench.call("store", r#"{"value": 3}"#, Some(&second)).await.unwrap();
    bench.on(&first, "retrieve").await.unwrap();
    bench.now.store(1060, Ordering::Relaxed);
    assert_eq!(refusal(bench.on(&first, "retrieve").await), UNKNOWN);
    assert_eq!(bench.on(&second, "retrieve").await, value("3"));
    assert_eq!(bench.service.len(), 2);
    assert_eq!(bench.service.sweep(1060), 1);
    assert_eq!(bench.service.len(), 1);
    assert_eq!(bench.service.sweep(1090), 1);
}

#[tokio::test]
async fn what_has_expired_makes_room() {
    let bench = Bench::ephemeral();
    for _ in 0..3 {
        bench.create("1").await;
    }
    bench.now.store(1060, Ordering::Relaxed);
    bench.create("2").await;
    assert_eq!(bench.service.len(), 1);
}

#[tokio::test]
async fn values_survive_a_restart_with_owner_storage_and_time() {
    let scratch = Scratch::new();
    let mut bench = Bench::new(scratch.open());
    bench.who = Principal::from_record("anna");
    let kept = bench.create("1180591620717411303424").await;
    let deleted = bench.create("2").await;
    bench.now.store(1030, Ordering::Relaxed);
    let reply = bench.call("create", r#"{"value": 0.10, "storage": "ü"}"#, None).await;
    let Ok(Reply::Object(named)) = reply else {
        unreachable!("{reply:?}")
    };
    bench.on(&deleted, "delete").await.unwrap();
    drop(bench);

    let mut bench = Bench::new(scratch.open());
    assert_eq!(bench.service.len(), 2);
    assert_eq!(refusal(bench.on(&kept, "retrieve").await), UNKNOWN);
    bench.who = Principal::from_record("anna");
    assert_eq!(bench.on(&kept, "retrieve").await, value("1180591620717411303424"));
    assert_eq!(bench.on(&named, "retrieve").await, value("0.10"));
    assert_eq!(refusal(bench.on(&deleted, "retrieve").await), UNKNOWN);
    bench.now.store(1060, Ordering::Relaxed);
    assert_eq!(refusal(bench.on(&kept, "retrieve").await), UNKNOWN);
    assert_eq!(bench.on(&named, "retrieve").await, value("0.10"));
    assert_eq!(
        bench.service.state().bytes,
        "1180591620717411303424".len() + "0.10".len()
    );
}

#[tokio::test]
async fn what_expired_meanwhile_is_not_loaded() {
    let scratch = Scratch::new();
    let bench = Bench::new(scratch.open());
    bench.create("1").await;
    drop(bench);
    assert_eq!(Bench::at(1059, scratch.open()).service.len(), 1);
    assert!(Bench::at(1060, scratch.open()).service.is_empty());
}

#[tokio::test]
async fn concurrent_writes_leave_memory_and_store_equal() {
    let scratch = Scratch::new();
    let bench = Bench::new(scratch.open());
    let callback = bench.create("0").await;
    let writes = (1..=50).map(|number| {
        let params = format!("{{\"value\": {number}}}");
        let (bench, callback) = (&bench, &callback);
        async move { bench.call("store", &params, Some(callback)).await }
    });
    for written in futures_util::future::join_all(writes).await {
        written.unwrap();
    }
    let in_memory = bench.retrieve(&callback).await;
    drop(bench);
    assert_eq!(Bench::new(scratch.open()).retrieve(&callback).await, in_memory);
}

#[test]
fn records_of_another_form_are_no_entries() {
    let entry = Entry {
        owner: Principal::from_record("anna"),
        storage: Arc::from("default"),
        kind: Kind::OneWay,
        text: Arc::new(Zeroizing::new("1".to_owned())),
        expires_at: 5,
    };
    let record = entry.to_record();
    let read = Entry::from_record(&record, 5).unwrap();
    assert_eq!(
        (read.owner, &*read.storage, read.kind, read.text.as_str()),
        (entry.owner, "default", Kind::OneWay, "1")
    );
    // As records were before values could be stored one way.
    let older = [&[1], &record[2..]].concat();
    let read = Entry::from_record(&older, 5).unwrap();
    assert_eq!(
        (&*read.storage, read.kind, read.text.as_str()),
        ("default", Kind::Value, "1")
    );
    for length in 0..record.len() - 1 {
        assert!(Entry::from_record(&record[..length], 5).is_none(), "{length}");
    }
    for damaged in [
        &[2, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[1, 255, 255, 255, 255],
        &[1, 1, 0, 0, 0, 0xff, 0, 0, 0, 0],
    ] {
        assert!(Entry::from_record(damaged, 5).is_none());
    }
}
