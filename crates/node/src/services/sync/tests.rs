#![allow(clippy::unwrap_used)]
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const QUOTA: SyncQuota = SyncQuota {
    max_points: 2,
    max_parties: 3,
    max_message: 20,
    max_bytes: 400,
    max_points_each: 2,
    max_bytes_each: 400,
    ttl: Duration::from_secs(60),
};
type Call = dyn Fn(&str, &str, Option<&Callback>) -> Result<Reply, Problem>;

const UNKNOWN: (u16, &str) = (404, "OBJECT_UNKNOWN");

fn clock() -> (Clock, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1000));
    (Clock::Fixed(now.clone()), now)
}

fn barrier() -> impl Fn(&str, &str, Option<&Callback>) -> Result<Reply, Problem> {
    let service = Barrier::new(QUOTA, clock().0);
    move |function, params, callback| {
        let params = Parameters::parse(function, params).unwrap();
        service.call(&Principal::anonymous(), function, params, callback)
    }
}

fn broadcast() -> impl Fn(&str, &str, Option<&Callback>) -> Result<Reply, Problem> {
    let service = Broadcast::new(QUOTA, clock().0);
    move |function, params, callback| {
        let params = Parameters::parse(function, params).unwrap();
        service.call(&Principal::anonymous(), function, params, callback)
    }
}

fn value(text: &str) -> Result<Reply, Problem> {
    Ok(Reply::Value(text.to_owned()))
}

fn refusal(result: Result<Reply, Problem>) -> (u16, &'static str) {
    let problem = result.unwrap_err();
    (problem.status, problem.code)
}

const T12: &str = r#"{"tokens": ["t1", "t2"]}"#;

#[test]
fn callbacks_are_those_of_the_older_service() {
    let (barrier, broadcast) = (barrier(), broadcast());
    let object = |text: &str| Ok(Reply::Object(text.into()));
    assert_eq!(
        barrier("create", T12, None),
        object("21835283-d94e-5026-8922-16a4115f89a8")
    );
    assert_eq!(
        barrier("create", r#"{"tokens": null}"#, None),
        object("adb18b15-6fcb-5ca4-b626-8554745ccb3e")
    );
    assert_eq!(
        barrier("create", r#"{"tokens": []}"#, None),
        object("adb18b15-6fcb-5ca4-b626-8554745ccb3e")
    );
    assert_eq!(
        broadcast("create", T12, None),
        object("a469b12b-f66a-5c02-9c34-83876fbca8de")
    );
    assert_eq!(
        broadcast("create", r#"{"tokens": []}"#, None),
        object("167b7737-4063-5230-b4d2-582b124db0b5")
    );
}

#[test]
fn the_recorded_life_of_a_barrier() {
    let call = barrier();
    let Reply::Object(point) = call("create", T12, None).unwrap() else {
        unreachable!()
    };
    let on = |function: &str, params: &str| call(function, params, Some(&point));
    let alice = r#"{"party": "alice"}"#;
    assert_eq!(on("arrived", "{}"), value("0"));
    assert_eq!(on("arrive", alice), Ok(Reply::Nothing));
    assert_eq!(on("arrived", "{}"), value("1"));
    assert_eq!(on("arrive", alice), Ok(Reply::Nothing));
    assert_eq!(on("arrive", r#"{"party": "\u0061lice"}"#), Ok(Reply::Nothing));
    assert_eq!(on("arrived", "{}"), value("1"));
    assert_eq!(on("arrive", r#"{"party": 2}"#), Ok(Reply::Nothing));
    assert_eq!(on("arrived", "{}"), value("2"));
    assert_eq!(refusal(on("arrive", r#"{"party": [2]}"#)), (422, "WRONG_TYPE"));
    assert_eq!(on("depart", alice), Ok(Reply::Nothing));
    assert_eq!(on("departed", "{}"), value("1"));
    assert_eq!(call("create", T12, None), Ok(Reply::Object(point.clone())));
    assert_eq!(on("arrived", "{}"), value("2"), "create again changes nothing");
    assert_eq!(on("reset", "{}"), Ok(Reply::Nothing));
    assert_eq!(on("arrived", "{}"), value("0"));
    assert_eq!(on("departed", "{}"), value("1"));
    assert_eq!(on("delete", "{}"), Ok(Reply::Nothing));
    for function in ["arrived", "departed", "reset", "delete"] {
        assert_eq!(refusal(on(function, "{}")), UNKNOWN, "{function}");
    }
    assert_eq!(refusal(on("arrive", alice)), UNKNOWN);
}

#[test]
fn parties_of_different_types_are_different() {
    let call = barrier();
    let Reply::Object(point) = call("create", T12, None).unwrap() else {
        unreachable!()
    };
    for party in ["2", "\"2\"", "null"] {
        call("arrive", &format!("{{\"party\": {party}}}"), Some(&point)).unwrap();
    }
    assert_eq!(call("arrived", "{}", Some(&point)), value("3"));
}

#[test]
fn the_recorded_life_of_a_broadcast() {
    let call = broadcast();
    let Reply::Object(point) = call("create", T12, None).unwrap() else {
        unreachable!()
    };
    let on = |function: &str, params: &str| call(function, params, Some(&point));
    assert_eq!(on("receive", "{}"), Ok(Reply::Nothing));
    assert_eq!(on("send", r#"{"message": {"hello": [1, 0.10]}}"#), Ok(Reply::Nothing));
    assert_eq!(on("receive", "{}"), value(r#"{"hello": [1, 0.10]}"#));
    assert_eq!(call("create", T12, None), Ok(Reply::Object(point.clone())));
    assert_eq!(on("send", r#"{"message": "two"}"#), Ok(Reply::Nothing));
    assert_eq!(on("receive", "{}"), value("\"two\""));
    assert_eq!(on("receive", "{}"), value("\"two\""));
    assert_eq!(on("send", r#"{"message": null}"#), Ok(Reply::Nothing));
    assert_eq!(on("receive", "{}"), Ok(Reply::Nothing));
    assert_eq!(on("delete", "{}"), Ok(Reply::Nothing));
    assert_eq!(on("receive", "{}"), Ok(Reply::Nothing));
    assert_eq!(refusal(on("delete", "{}")), UNKNOWN);
    assert_eq!(refusal(on("send", r#"{"message": 1}"#)), UNKNOWN);
}

#[test]
fn unusable_calls_are_refused() {
    let (zzz, list) = (Callback::from("zzz"), Callback::from(vec![1]));
    let (barrier, broadcast) = (barrier(), broadcast());
    let both: [&Call; 2] = [&barrier, &broadcast];
    for call in both {
        assert_eq!(refusal(call("frobnicate", "{}", None)), (403, "FUNCTION_NOT_PUBLIC"));
        assert_eq!(refusal(call("create", "{}", None)), (422, "PARAMETER_MISSING"));
        for tokens in ["[1]", "\"t1\"", "1", "{}"] {
            let (status, _) = refusal(call("create", &format!("{{\"tokens\": {tokens}}}"), None));
            assert_eq!(status, 422, "{tokens}");
        }
        assert_eq!(refusal(call("delete", "{}", None)), (422, "CALLBACK_MISSING"));
        assert_eq!(
            refusal(call("delete", "{}", Some(&Callback::Null))),
            (422, "CALLBACK_MISSING")
        );
        assert_eq!(refusal(call("delete", "{}", Some(&list))), (422, "CALLBACK_INVALID"));
        assert_eq!(refusal(call("delete", "{}", Some(&zzz))), UNKNOWN);
        assert_eq!(
            refusal(call("delete", r#"{"x": 1}"#, Some(&zzz))),
            (422, "PARAMETER_UNKNOWN")
        );
    }
    assert_eq!(refusal(barrier("arrive", "{}", Some(&zzz))), (422, "PARAMETER_MISSING"));
    let long = format!("{{\"party\": \"{}\"}}", "x".repeat(MAX_PARTY));
    assert_eq!(
        refusal(barrier("arrive", &long, Some(&zzz))),
        (422, "VALUE_OUT_OF_RANGE")
    );
    assert_eq!(refusal(broadcast("send", "{}", Some(&zzz))), (422, "PARAMETER_MISSING"));
}

#[test]
fn points_are_bounded_in_number_and_time() {
    let (clock, now) = clock();
    let service = Barrier::new(QUOTA, clock);
    let who = Principal::anonymous();
    let call = |function: &str, params: &str, callback: Option<&Callback>| {
        service.call(&who, function, Parameters::parse(function, params).unwrap(), callback)
    };
    let create = |token: &str| call("create", &format!("{{\"tokens\": [\"{token}\"]}}"), None);
    let Reply::Object(a) = create("a").unwrap() else {
        unreachable!()
    };
    let Reply::Object(b) = create("b").unwrap() else {
        unreachable!()
    };
    assert_eq!(refusal(create("c")), (429, "QUOTA"));
    call("arrive", r#"{"party": 1}"#, Some(&a)).unwrap();
    now.store(1030, Ordering::Relaxed);
    create("b").unwrap();
    now.store(1060, Ordering::Relaxed);
    assert_eq!(refusal(call("arrived", "{}", Some(&a))), UNKNOWN);
    assert_eq!(refusal(call("delete", "{}", Some(&a))), UNKNOWN);
    assert_eq!(call("arrived", "{}", Some(&b)), value("0"), "create prolongs");
    assert_eq!(service.len(), 2);
    create("a").unwrap();
    assert_eq!(
        call("arrived", "{}", Some(&a)),
        value("0"),
        "an expired point is made anew"
    );
    now.store(1090, Ordering::Relaxed);
    create("c").unwrap();
    assert_eq!(service.sweep(1119), 0);
    assert_eq!(service.sweep(1120), 1);
    assert_eq!(service.sweep(1150), 1);
    assert!(service.is_empty());
    assert_eq!(service.points.lock().ledger.bytes, 0);
}

#[test]
fn parties_are_bounded_in_number_and_size() {
    let call = barrier();
    let Reply::Object(point) = call("create", T12, None).unwrap() else {
        unreachable!()
    };
    let arrive = |party: &str| call("arrive", &format!("{{\"party\": \"{party}\"}}"), Some(&point));
    for party in ["a", "b", "c"] {
        arrive(party).unwrap();
    }
    assert_eq!(refusal(arrive("d")), (429, "QUOTA"));
    arrive("a").unwrap();
    call("reset", "{}", Some(&point)).unwrap();
    let long = "x".repeat(400 - PARTY_OVERHEAD - 2);
    assert_eq!(refusal(arrive(&format!("{long}x"))), (429, "QUOTA"));
    arrive(&long).unwrap();
    assert_eq!(refusal(arrive("a")), (429, "QUOTA"));
    call("delete", "{}", Some(&point)).unwrap();
    call("create", T12, None).unwrap();
    arrive(&long).unwrap();
}

#[test]
fn messages_are_bounded_one_and_all() {
    let quota = SyncQuota { max_bytes: 30, ..QUOTA };
    let service = Broadcast::new(quota, clock().0);
    let who = Principal::anonymous();
    let call = |function: &str, params: &str, callback: Option<&Callback>| {
        service.call(&who, function, Parameters::parse(function, params).unwrap(), callback)
    };
    let Reply::Object(a) = call("create", r#"{"tokens": ["a"]}"#, None).unwrap() else {
        unreachable!()
    };
    let Reply::Object(b) = call("create", r#"{"tokens": ["b"]}"#, None).unwrap() else {
        unreachable!()
    };
    let send = |point: &Callback, length: usize| {
        call(
            "send",
            &format!("{{\"message\": \"{}\"}}", "x".repeat(length - 2)),
            Some(point),
        )
    };
    assert_eq!(refusal(send(&a, 21)), (413, "BODY_TOO_LARGE"));
    send(&a, 20).unwrap();
    assert_eq!(refusal(send(&b, 11)), (429, "QUOTA"));
    send(&b, 10).unwrap();
    send(&a, 19).unwrap();
    send(&b, 11).unwrap();
    call("delete", "{}", Some(&a)).unwrap();
    send(&b, 20).unwrap();
    assert_eq!(service.points.lock().ledger.bytes, 20);
}

#[test]
fn an_expired_point_gives_its_bytes_back_when_it_is_made_anew() {
    let (clock, now) = clock();
    let service = Broadcast::new(QUOTA, clock);
    let who = Principal::anonymous();
    let call = |function: &str, params: &str, callback: Option<&Callback>| {
        service.call(&who, function, Parameters::parse(function, params).unwrap(), callback)
    };
    let Reply::Object(point) = call("create", T12, None).unwrap() else {
        unreachable!()
    };
    call("send", r#"{"message": "old"}"#, Some(&point)).unwrap();
    now.store(1060, Ordering::Relaxed);
    assert_eq!(call("receive", "{}", Some(&point)), Ok(Reply::Nothing));
    call("create", T12, None).unwrap();
    assert_eq!(call("receive", "{}", Some(&point)), Ok(Reply::Nothing));
    assert_eq!(service.points.lock().ledger.bytes, 0);
}

#[test]
fn one_caller_cannot_take_all_the_room() {
    let quota = SyncQuota {
        max_points: 10,
        max_points_each: 2,
        max_bytes_each: 20,
        ..QUOTA
    };
    let (clock, now) = clock();
    let service = Broadcast::new(quota, clock.clone());
    let barrier = Barrier::new(
        SyncQuota {
            max_bytes_each: 2 * (PARTY_OVERHEAD + 3),
            ..quota
        },
        clock,
    );
    let (anna, ben) = (Principal::from_record("anna"), Principal::from_record("ben"));
    let parameters = |text: &str, function| Parameters::parse(function, text).unwrap();
    let create = |who: &Principal, token: &str| {
        let text = format!("{{\"tokens\": [\"{token}\"]}}");
        match service.call(who, "create", parameters(&text, "create"), None) {
            Ok(Reply::Object(point)) => Ok(point),
            other => Err(refusal(other)),
        }
    };
    let send = |who: &Principal, point: &Callback, length: usize| {
        let text = format!("{{\"message\": \"{}\"}}", "x".repeat(length - 2));
        service.call(who, "send", parameters(&text, "send"), Some(point))
    };
    let full = (429, "QUOTA");
    let a = create(&anna, "a").unwrap();
    let b = create(&anna, "b").unwrap();
    assert_eq!(create(&anna, "c"), Err(full));
    assert_eq!(create(&anna, "a"), Ok(a.clone()), "the point is there, and is hers");
    create(&ben, "c").unwrap();
    send(&anna, &a, 12).unwrap();
    assert_eq!(refusal(send(&anna, &b, 12)), full);
    // What lies at a point counts for whoever brought it.
    send(&ben, &b, 20).unwrap();
    assert_eq!(refusal(send(&anna, &b, 12)), full);
    assert!(matches!(
        service.call(&anna, "receive", parameters("{}", "receive"), Some(&b)),
        Ok(Reply::Value(text)) if text.len() == 20
    ));
    send(&ben, &a, 2).unwrap_err();
    send(&anna, &b, 8).unwrap();
    send(&ben, &a, 20).unwrap();

    let Ok(Reply::Object(point)) = barrier.call(&anna, "create", parameters(r#"{"tokens": []}"#, "create"), None)
    else {
        unreachable!()
    };
    let arrive = |who: &Principal, party: &str| {
        let text = format!("{{\"party\": \"{party}\"}}");
        barrier.call(who, "arrive", parameters(&text, "arrive"), Some(&point))
    };
    arrive(&anna, "1").unwrap();
    arrive(&anna, "2").unwrap();
    assert_eq!(refusal(arrive(&anna, "3")), full);
    arrive(&ben, "3").unwrap();
    barrier
        .call(&ben, "reset", parameters("{}", "reset"), Some(&point))
        .unwrap();
    arrive(&anna, "3").unwrap();

    now.store(5000, Ordering::Relaxed);
    assert_eq!((service.sweep(5000), barrier.sweep(5000)), (3, 1));
    assert!(service.points.lock().ledger.shares.is_empty() && service.points.lock().ledger.bytes == 0);
    assert!(barrier.points.lock().ledger.shares.is_empty() && barrier.points.lock().ledger.bytes == 0);
}

/// Each step happens while somebody waits.
#[tokio::test]
async fn who_waits_is_woken_by_what_happens_at_the_point() {
    let service = Barrier::new(QUOTA, clock().0);
    let (who, stop) = (Principal::anonymous(), tokio::sync::watch::Sender::new(false));
    let parse = |function: &str, text: &str| Parameters::parse(function, text).unwrap();
    let made = service.call(&who, "create", parse("create", T12), None).unwrap();
    let Reply::Object(point) = made else { unreachable!() };
    let wait = |function: &'static str, text: &str| {
        let (params, point, stopping) = (parse(function, text), &point, stop.subscribe());
        let service = &service;
        async move {
            service
                .wait(function, params, Some(point), &Patience::LONG, stopping)
                .await
        }
    };
    let call = |function: &'static str, text: &str| {
        let (params, point) = (parse(function, text), &point);
        let (service, who) = (&service, &who);
        // Polled after the one who waits.
        async move { service.call(who, function, params, Some(point)) }
    };
    let (waited, _) = tokio::join!(wait("wait", r#"{"count": 1}"#), call("arrive", r#"{"party": 1}"#));
    assert_eq!(waited, value("1"));
    let departed = r#"{"count": 1}"#;
    let (waited, _) = tokio::join!(wait("wait_departed", departed), call("depart", r#"{"party": 1}"#));
    assert_eq!(waited, value("1"));
    let (waited, _) = tokio::join!(wait("wait", r#"{"count": 2}"#), call("delete", "{}"));
    assert_eq!(refusal(waited), UNKNOWN);
    let made = service.call(&who, "create", parse("create", T12), None).unwrap();
    assert_eq!(made, Reply::Object(point.clone()));
    let (waited, ()) = tokio::join!(wait("wait", r#"{"count": 1}"#), async {
        stop.send_replace(true);
    });
    assert_eq!(waited, Ok(Reply::Waiting("0 of 1 parties have arrived".to_owned())));
}
