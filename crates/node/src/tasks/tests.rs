//! What strangers and parties can make a node keep.
#![allow(clippy::unwrap_used)]

use tokio::sync::Semaphore;

use super::*;
use crate::descriptor::Durations;
use crate::descriptor::PROTOCOL;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::peer::{PeerConfig, Peers};
use crate::policy::Profile;
use crate::services::Clock;
use crate::store::Store;
use crate::url::NodeUrl;
use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::wire::put_text;

const STRANGER: PeerKey = PeerKey::from_bytes([9; 32]);

fn tasks() -> Tasks {
    let identity = Arc::new(Identity::from_seed(&[1; 32]));
    let peers = Peers::new(
        Arc::clone(&identity),
        PeerConfig::default(),
        Vec::new(),
        Box::new(|_| ()),
        Box::new(|_, _| ()),
    );
    let context = Context {
        identity,
        peers,
        store: Store::ephemeral(),
        pool: Arc::new(Semaphore::new(1)),
        metrics: Metrics::default(),
        clock: Clock::System,
        time_to_live: Duration::from_secs(60),
        stop_at: None,
        stopping: Default::default(),
        start: Instant::now(),
    };
    let quota = Quota {
        tasks: 10,
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
    }
}

/// Kind, policy, "I have not heard yours", nonce, seed, descriptor.
fn hello(descriptor: &Descriptor) -> Bytes {
    let mut message = vec![1, 0, 0];
    message.extend_from_slice(&[7; 64]);
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

async fn task(tasks: &Tasks, descriptor: &Descriptor) -> Arc<Task> {
    let permit = Profile::Teaching
        .permit(Principal::anonymous(), "SecureSum", 2)
        .unwrap();
    let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
    let me = Party::new(0, 2).unwrap();
    let known = vec![(Party::new(1, 2).unwrap(), STRANGER)];
    tasks
        .add(&permit, descriptor.clone(), configured, me, Mode::OnInput, known)
        .await
        .unwrap()
}

#[tokio::test]
async fn hellos_with_unusable_durations_are_dropped() {
    let tasks = tasks();
    let good = descriptor(Durations::default());
    message(&tasks, &good, hello(&good));
    assert_eq!(tasks.invitations().len(), 1);
    for silence in [0, 99, u64::MAX] {
        let bad = descriptor(Durations {
            silence,
            ..Durations::default()
        });
        message(&tasks, &bad, hello(&bad));
    }
    assert_eq!(tasks.invitations().len(), 1);
}

#[tokio::test]
async fn a_peer_that_hears_no_answers_gets_no_more() {
    for ended in [false, true] {
        let tasks = tasks();
        let descriptor = descriptor(Durations::default());
        let task = task(&tasks, &descriptor).await;
        if ended {
            task.cancel();
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
