//! What strangers and parties can make a node keep.
#![allow(clippy::unwrap_used)]

use tokio::sync::Semaphore;

use super::*;
use crate::approvals::Approvals;
use crate::descriptor::Durations;
use crate::descriptor::PROTOCOL;
use crate::identity::Identity;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::peer::{PeerConfig, Peers};
use crate::policy::{Organisations, Policy, Profile, Question, Rules};
use crate::services::Clock;
use crate::store::Store;
use crate::store::tests::Scratch;
use crate::task::Memory;
use crate::url::NodeUrl;
use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::wire::put_text;
use futures_util::FutureExt;

const STRANGER: PeerKey = PeerKey::from_bytes([9; 32]);

fn tasks() -> Tasks {
    tasks_of(1 << 30)
}

/// With so many bytes for each task.
fn tasks_of(task_bytes: usize) -> Tasks {
    tasks_in(Store::ephemeral(), Policy::of(Profile::Teaching), task_bytes)
}

fn tasks_in(store: Store, policy: Policy, task_bytes: usize) -> Tasks {
    let identity = Arc::new(Identity::from_seed(&[1; 32]));
    let peers = Peers::new(
        Arc::clone(&identity),
        PeerConfig::default(),
        crate::peer::Memory::default(),
        Box::new(|_| ()),
        Box::new(|_| ()),
    );
    let context = Context {
        memory: Memory {
            task: task_bytes,
            inbox: 1 << 30,
            outbox: 1 << 30,
        },
        identity,
        peers,
        audit: crate::audit::Audit::new(store.clone()),
        store,
        policy,
        organisations: Organisations::default(),
        ledger: Ledger::open(&Store::ephemeral()).unwrap(),
        approvals: Approvals::open(&Store::ephemeral()).unwrap(),
        bases: crate::task::Bases::default(),
        pool: Arc::new(Semaphore::new(1)),
        metrics: Metrics::default(),
        clock: Clock::System,
        time_to_live: Duration::from_secs(60),
        stop_at: None,
        stopping: Default::default(),
        start: Instant::now(),
    };
    let quota = Quota {
        parties: 64,
        tasks: 10,
        tasks_each: 3,
        hellos: 10,
        hellos_per_peer: 5,
    };
    Tasks::new(Arc::new(context), quota)
}

fn descriptor(durations: Durations) -> Descriptor {
    Descriptor {
        protocol: PROTOCOL,
        task: Uuid::new_v4(),
        microprotocol: "SecureSum".to_owned(),
        parameters: Entry::find("SecureSum").unwrap().configure("{}").unwrap().canonical,
        // Nobody listens there, and nobody is asked: these keys are known.
        nodes: ["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"]
            .map(|url| NodeUrl::parse(url).unwrap())
            .to_vec(),
        durations,
        meeting: None,
    }
}

/// Kind, profile, "I have not heard yours", nonce, seed, rules, descriptor.
fn hello(descriptor: &Descriptor) -> Bytes {
    let mut message = vec![1, 0, 0];
    message.extend_from_slice(&[7; 64]);
    message.extend_from_slice(&Rules::from(Profile::Teaching).to_bytes()[1..]);
    put_text(&mut message, &descriptor.text());
    message.into()
}

fn message(tasks: &Tasks, descriptor: &Descriptor, bytes: Bytes) {
    tasks.on_event(Event::Message {
        from: STRANGER,
        task: *descriptor.task.as_bytes(),
        bytes,
    });
}

/// Party 0's task.
async fn task(tasks: &Tasks, descriptor: &Descriptor) -> Arc<Task> {
    task_that_knows(tasks, descriptor, vec![(peer(), STRANGER)]).await
}

fn peer() -> Party {
    Party::new(1, 2).unwrap()
}

async fn task_that_knows(tasks: &Tasks, descriptor: &Descriptor, known: Vec<(Party, PeerKey)>) -> Arc<Task> {
    task_in(tasks, descriptor, known, Mode::OnInput).await
}

async fn task_in(tasks: &Tasks, descriptor: &Descriptor, known: Vec<(Party, PeerKey)>, mode: Mode) -> Arc<Task> {
    let question = Question::of(descriptor).unwrap();
    let permit = Policy::of(Profile::Teaching)
        .permit(Principal::anonymous(), &question, &Organisations::default(), &[])
        .unwrap();
    let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
    let me = Party::new(0, 2).unwrap();
    tasks
        .add(
            "task.create",
            &permit,
            descriptor.clone(),
            configured,
            me,
            mode,
            known,
            None,
        )
        .await
        .unwrap()
}

#[tokio::test]
async fn a_peer_whose_key_is_not_allowed_ends_the_task() {
    for (allowed, ends) in [(STRANGER, false), (PeerKey::from_bytes([8; 32]), true)] {
        let tasks = tasks();
        let descriptor = descriptor(Durations::default());
        let mut policy = Policy::of(Profile::Teaching);
        policy.home.peers = Some([allowed.to_string()].into());
        let question = Question::of(&descriptor).unwrap();
        // As long as its key is not known, nothing speaks against it.
        let nobody = Organisations::default();
        let permit = policy.permit(Principal::anonymous(), &question, &nobody, &[]).unwrap();
        let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
        let me = Party::new(0, 2).unwrap();
        let known = vec![(peer(), STRANGER)];
        let added = tasks.add(
            "task.create",
            &permit,
            descriptor,
            configured,
            me,
            Mode::OnInput,
            known,
            None,
        );
        let progress = added.await.unwrap().progress();
        assert_eq!(
            progress["cause"]["code"] == "DECLINED",
            ends,
            "the list is nobody else's business"
        );
    }
}

#[tokio::test]
async fn hellos_with_unusable_durations_are_dropped() {
    let tasks = tasks();
    let good = descriptor(Durations::default());
    message(&tasks, &good, hello(&good));
    assert_eq!(tasks.invitations(&Principal::operator()).len(), 1);
    assert!(tasks.invitations(&Principal::anonymous()).is_empty());
    for silence in [0, 99, u64::MAX] {
        let bad = descriptor(Durations {
            silence,
            ..Durations::default()
        });
        message(&tasks, &bad, hello(&bad));
    }
    assert_eq!(tasks.invitations(&Principal::operator()).len(), 1);
}

#[tokio::test]
async fn who_sees_which_task_and_how_many_somebody_may_have() {
    let tasks = tasks();
    let anna = Principal::from_record("token:anna");
    let made = |who: Principal| {
        let tasks = &tasks;
        async move {
            let descriptor = descriptor(Durations::default());
            let question = Question::of(&descriptor).unwrap();
            let permit = Policy::of(Profile::Teaching)
                .permit(who, &question, &Organisations::default(), &[])
                .unwrap();
            let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
            let me = Party::new(0, 2).unwrap();
            tasks
                .add(
                    "task.create",
                    &permit,
                    descriptor,
                    configured,
                    me,
                    Mode::OnInput,
                    Vec::new(),
                    None,
                )
                .await
        }
    };
    let hers = made(anna.clone()).await.unwrap();
    let nobodys = made(Principal::anonymous()).await.unwrap();
    let sees = |who: &Principal| {
        let by = |id: &Uuid| tasks.find(who, id).is_some();
        [
            by(&hers.id()),
            by(&hers.object),
            by(&nobodys.id()),
            by(&nobodys.object),
            tasks.list(who).len() == 2,
        ]
    };
    assert_eq!(sees(&anna), [true, true, false, false, false]);
    assert_eq!(tasks.list(&anna).len(), 1);
    assert_eq!(sees(&Principal::from_record("token:ben")), [false; 5]);
    assert_eq!(sees(&Principal::anonymous()), [false, false, false, true, false]);
    assert!(tasks.list(&Principal::anonymous()).is_empty());
    for role in [Role::Viewer, Role::Owner] {
        assert_eq!(
            sees(&Principal::new("token:carl", role)),
            [true, false, true, false, true]
        );
    }

    for _ in 1..3 {
        made(anna.clone()).await.unwrap();
    }
    let refused = made(anna.clone()).await.unwrap_err();
    assert_eq!((refused.status, refused.code), (429, "QUOTA"));
    assert!(made(Principal::from_record("token:ben")).await.is_ok());
    tasks.delete(&hers, &hers.owner).await.unwrap();
    tasks.delete(&hers, &hers.owner).await.unwrap();
    assert!(made(anna.clone()).await.is_ok());
    assert!(made(anna).await.is_err());
}

#[tokio::test]
async fn a_peer_that_hears_no_answers_gets_no_more() {
    for ended in [false, true] {
        let tasks = tasks();
        let descriptor = descriptor(Durations::default());
        let task = task(&tasks, &descriptor).await;
        if ended {
            task.cancel(&Principal::anonymous());
        }
        let queued = || tasks.context.peers.queued_of(STRANGER, *descriptor.task.as_bytes());
        message(&tasks, &descriptor, hello(&descriptor));
        let first = queued();
        assert!(first > 0 && first <= 3 * CONTROL_BYTES, "it is answered");
        for _ in 0..10_000 {
            message(&tasks, &descriptor, hello(&descriptor));
        }
        assert!(queued() > first && queued() <= UNHEARD + CONTROL_BYTES, "{}", queued());
    }
}

fn cancelled(by: u8) -> Bytes {
    let reason = format!("{{\"code\":\"CANCELLED\",\"party\":{by}}}");
    Bytes::from([&[4, by], reason.as_bytes()].concat())
}

#[tokio::test]
async fn an_abort_of_a_party_that_is_not_found_yet_counts_when_it_is() {
    for by_a_party in [false, true] {
        let tasks = tasks();
        let descriptor = descriptor(Durations::default());
        let task = task_that_knows(&tasks, &descriptor, Vec::new()).await;
        message(&tasks, &descriptor, hello(&descriptor));
        message(&tasks, &descriptor, cancelled(1));
        assert!(task.ended().is_none(), "anybody could have sent that");
        let key = if by_a_party {
            STRANGER
        } else {
            PeerKey::from_bytes([8; 32])
        };
        tasks.found(&task, peer(), key);
        assert_eq!(task.ended().is_some(), by_a_party);
    }
}

/// The background gets its turn until something is queued for the stranger.
async fn answer(tasks: &Tasks, descriptor: &Descriptor) -> usize {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        let queued = tasks.context.peers.queued_of(STRANGER, *descriptor.task.as_bytes());
        if queued > 0 {
            return queued;
        }
    }
    0
}

#[tokio::test]
async fn who_said_hello_and_was_not_found_is_told_the_end() {
    for delete in [false, true] {
        let tasks = tasks();
        let descriptor = descriptor(Durations::default());
        let task = task_that_knows(&tasks, &descriptor, Vec::new()).await;
        message(&tasks, &descriptor, hello(&descriptor));
        assert!(task.ended().is_none());
        if delete {
            tasks.delete(&task, &Principal::anonymous()).await.unwrap();
        } else {
            task.cancel(&Principal::anonymous());
        }
        assert_eq!(answer(&tasks, &descriptor).await, cancelled(0).len());
        assert!(tasks.lock().pending.take_all(&descriptor.task).is_empty());
    }
}

#[tokio::test]
async fn whose_key_is_found_after_the_end_is_told() {
    let tasks = tasks();
    let descriptor = descriptor(Durations::default());
    let task = task_that_knows(&tasks, &descriptor, Vec::new()).await;
    task.cancel(&Principal::anonymous());
    task.found(peer(), STRANGER, Some(hello(&descriptor)));
    assert_eq!(answer(&tasks, &descriptor).await, cancelled(0).len());
    // It is not kept connected for a task that is over.
    assert!(task.party_of(&STRANGER).is_none());
}

#[tokio::test]
async fn a_peer_for_whose_message_there_is_no_memory_is_not_accused() {
    let tasks = tasks();
    let descriptor = descriptor(Durations::default());
    let task = task(&tasks, &descriptor).await;
    tasks.on_event(Event::NoRoom {
        from: STRANGER,
        task: *descriptor.task.as_bytes(),
    });
    let cause = &task.progress()["cause"];
    assert_eq!((&cause["code"], &cause["party"]), (&"NO_ROOM".into(), &0.into()));
}

#[tokio::test]
async fn inputs_of_a_task_have_a_bounded_memory() {
    // The messages of a sum may be those of a comparison: 24,576 bytes for two parties, however many numbers there are.
    let tasks = tasks_of(24_576);
    let descriptor = descriptor(Durations::default());
    let task = task_in(&tasks, &descriptor, Vec::new(), Mode::OnStart).await;
    let numbers = |count: usize| zeroize::Zeroizing::new(format!("[{}1]", "1,".repeat(count)));
    task.input(numbers(9_000)).await.unwrap();
    let refused = task.input(numbers(9_000)).await.unwrap_err();
    assert_eq!(refused.code, "TASK_TOO_LARGE");
    task.input(numbers(10)).await.unwrap();
}

fn text(json: &str) -> zeroize::Zeroizing<String> {
    zeroize::Zeroizing::new(json.to_owned())
}

/// Where writing takes a moment.
fn on_disk(scratch: &Scratch) -> Tasks {
    tasks_in(scratch.open(), Policy::of(Profile::Teaching), 1 << 30)
}

#[tokio::test]
async fn inputs_and_the_start_come_one_after_the_other() {
    let scratch = Scratch::new();
    let tasks = on_disk(&scratch);
    let task = task_in(&tasks, &descriptor(Durations::default()), Vec::new(), Mode::OnStart).await;
    {
        let _another = task.giving.lock().await;
        assert_eq!(task.input(text("1")).await.unwrap_err().code, "BUSY");
        assert_eq!(task.start().await.unwrap_err().code, "BUSY");
    }
    assert_eq!(task.start().await.unwrap_err().code, "NO_INPUT");
    task.input(text("1")).await.unwrap();
    task.start().await.unwrap();
    let _another = task.giving.lock().await;
    assert_eq!(task.input(text("2")).await.unwrap_err().code, "ALREADY_STARTED");
}

/// A request that ended between the record and the session left a task that was sealed, and that nobody ever gave its input.
#[tokio::test]
async fn who_hangs_up_leaves_nothing_half_done() {
    let scratch = Scratch::new();
    let tasks = on_disk(&scratch);
    let task = task_in(&tasks, &descriptor(Durations::default()), Vec::new(), Mode::OnInput).await;
    let mut changes = task.changes();
    assert!(task.input(text("1")).now_or_never().is_none());
    let given = async {
        while task.progress()["parties"][0]["input"] != true {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), given).await.unwrap();
}

/// The actions of the audit about a task.
async fn actions(tasks: &Tasks, task: &Uuid) -> Vec<String> {
    let entries = tasks.context().audit.after(0, 100).await.unwrap().into_iter();
    let of_task = entries.filter(|entry| entry.task.as_deref() == Some(&task.to_string()));
    of_task.map(|entry| entry.action).collect()
}

#[tokio::test]
async fn what_a_start_ends_is_in_the_audit_once() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let start = || tasks_in(store.clone(), Policy::of(Profile::Teaching), 1 << 30);
    let before = start();
    let made = task_in(&before, &descriptor(Durations::default()), Vec::new(), Mode::OnInput).await;
    let mut record: Value = serde_json::from_slice(&store.load(RECORD).unwrap().records[0].bytes).unwrap();
    record["phase"] = "Running".into();
    let bytes = serde_json::to_vec(&record).unwrap();
    store
        .put(RECORD, made.object.to_string(), bytes, u64::MAX >> 1)
        .await
        .unwrap();
    for _ in 0..3 {
        let tasks = start();
        tasks.restore().unwrap();
        let task = tasks.find(&Principal::operator(), &made.id()).unwrap();
        assert_eq!(task.progress()["cause"]["code"], "PEER_RESTARTED");
        store.flush().await.unwrap();
        assert_eq!(actions(&tasks, &made.id()).await, ["task.create", "task.fail"]);
    }
}

#[tokio::test]
async fn what_the_owner_no_longer_allows_does_not_go_on_after_a_start() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let before = tasks_in(store.clone(), Policy::of(Profile::Teaching), 1 << 30);
    let made = task_in(&before, &descriptor(Durations::default()), Vec::new(), Mode::OnInput).await;
    let mut stricter = Policy::of(Profile::Teaching);
    stricter.home.min_organisations = 3;
    let after = tasks_in(store.clone(), stricter, 1 << 30);
    after.restore().unwrap();
    let task = after.find(&Principal::operator(), &made.id()).unwrap();
    let progress = task.progress_for(true);
    assert_eq!(progress["cause"]["code"], "DECLINED");
    assert!(
        progress["cause"]["declined"]["message"]
            .as_str()
            .unwrap()
            .contains("organisations"),
        "{progress}"
    );
    store.flush().await.unwrap();
    assert_eq!(actions(&after, &made.id()).await, ["task.create", "task.fail"]);
}
