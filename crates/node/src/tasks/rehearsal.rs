//! Three whole nodes on sockets of this machine, and tasks that rehearse: many rounds, base oblivious transfers that are kept, what only an owner learns.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use fdrtd_mpc::microprotocol::Entry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::*;
use crate::config::Config;
use crate::descriptor::{Durations, PROTOCOL};
use crate::node::Node;
use crate::policy::{Organisations, Policy, Profile, Question};
use crate::session::rehearsal::{Params, REHEARSAL, configured};
use crate::store::tests::Scratch;
use crate::task::Outcome;
use crate::url::NodeUrl;

const PARTIES: usize = 3;

fn config() -> Config {
    Config {
        policy: Profile::Teaching,
        allow_peer_addresses: vec!["loopback".parse().unwrap()],
        ..Config::default()
    }
}

/// Three nodes.
struct World {
    nodes: Vec<Arc<Node>>,
    urls: Vec<NodeUrl>,
}

impl World {
    async fn new() -> World {
        World::on(|_| Handle::current()).await
    }

    async fn on(runtime: impl Fn(usize) -> Handle) -> World {
        let mut world = World {
            nodes: Vec::new(),
            urls: Vec::new(),
        };
        for me in 0..PARTIES {
            let config = Config {
                ephemeral: true,
                ..config()
            };
            world.start(config, &runtime(me)).await;
        }
        world
    }

    /// One more node. It stops with its runtime.
    async fn start(&mut self, mut config: Config, runtime: &Handle) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = NodeUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        config.public_url = vec![url.clone()];
        let (ready, is_ready) = oneshot::channel();
        let listener = listener.into_std().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let ready = |nodes: &[Arc<Node>]| drop(ready.send(Arc::clone(&nodes[0])));
            let ended = crate::run(vec![config], listener, ready, std::future::pending()).await;
            assert!(ended.is_ok());
        });
        self.nodes.push(is_ready.await.unwrap());
        self.urls.push(url);
    }

    /// Connects all, one after the other. Two nodes that dial each other at once end one of their connections, and whatever they hold together with it.
    async fn connect(&self) {
        for me in 0..PARTIES {
            for other in 0..me {
                let [own, theirs] = [me, other].map(|index| self.context(index).identity.key());
                let peers = &self.context(me).peers;
                assert_eq!(peers.resolve(&self.urls[other]).await.unwrap(), theirs);
                peers.want(theirs, &self.urls[other], [0; 16]);
                let connected = || peers.status(theirs).connected && self.context(other).peers.status(own).connected;
                while !connected() {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn context(&self, me: usize) -> &Arc<Context> {
        self.nodes[me].simon.tasks().context()
    }

    /// A task of all of them.
    async fn tasks(&self, params: &Params) -> Vec<Arc<Task>> {
        let descriptor = Descriptor {
            protocol: PROTOCOL,
            task: Uuid::new_v4(),
            // A name that is known after a restart.
            microprotocol: "SecureSum".to_owned(),
            parameters: Entry::find("SecureSum").unwrap().configure("{}").unwrap().canonical,
            nodes: self.urls.clone(),
            durations: Durations::default(),
            meeting: None,
        };
        let mut tasks = Vec::new();
        for (me, node) in self.nodes.iter().enumerate() {
            let question = Question::new(&REHEARSAL, &configured(params), PARTIES);
            let permit = Policy::of(Profile::Teaching)
                .permit(Principal::anonymous(), &question, &Organisations::default(), &[])
                .unwrap();
            let (me, known) = (Party::new(me, PARTIES).unwrap(), Vec::new());
            let all = node.simon.tasks();
            let task = all.add(
                "task.create",
                &permit,
                descriptor.clone(),
                configured(params),
                me,
                Mode::OnInput,
                known,
                None,
            );
            tasks.push(task.await.unwrap());
        }
        tasks
    }

    /// All give their input; what each is told in the end.
    async fn compute(&self, params: &Params) -> Vec<Value> {
        let tasks = self.tasks(params).await;
        self.results(&tasks).await
    }

    async fn results(&self, tasks: &[Arc<Task>]) -> Vec<Value> {
        for task in tasks {
            task.input("1".to_owned().into()).await.unwrap();
        }
        let mut results = Vec::new();
        for task in tasks {
            let Outcome::Result(text) = task.result(Duration::from_secs(60)).await.unwrap() else {
                unreachable!("{}", task.waiting_text())
            };
            results.push(serde_json::from_str(&text).unwrap());
        }
        results
    }

    fn drop_bases(&self, me: usize, other: usize) {
        self.context(me).bases.forget(&self.context(other).identity.key());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_serves_the_next_task() {
    let world = World::new().await;
    world.connect().await;
    let warm = async || {
        let results = world.compute(&Params::default()).await;
        let of = |(me, result): (usize, &Value)| {
            assert_eq!(result["own"]["party"], me);
            assert_eq!(result["result"], json!({"rounds": 0, "thresholds": [0, 0, 0, 0]}));
            result["own"]["warm"].clone()
        };
        results.iter().enumerate().map(of).collect::<Vec<_>>()
    };
    assert_eq!(warm().await, [json!([]), json!([]), json!([])]);
    assert_eq!(warm().await, [json!([1, 2]), json!([0, 2]), json!([0, 1])]);
    world.drop_bases(0, 1);
    assert_eq!(warm().await, [json!([2]), json!([2]), json!([0, 1])]);
    assert_eq!(warm().await, [json!([1, 2]), json!([0, 2]), json!([0, 1])]);
    for me in 0..PARTIES {
        assert_eq!(world.context(me).bases.count(), PARTIES - 1);
    }
    // What it is not used for any more is not kept: a task that one of them ends.
    let tasks = world.tasks(&Params::default()).await;
    for task in &tasks[..2] {
        task.input("1".to_owned().into()).await.unwrap();
    }
    while !(0..2).all(|party| tasks[2].progress()["parties"][party]["input"] == true) {
        tasks[2].changes().changed().await.unwrap();
    }
    tasks[2].cancel(&Principal::anonymous());
    for task in &tasks {
        assert!(task.result(Duration::from_secs(60)).await.is_err());
    }
    assert_eq!((world.context(0).bases.count(), world.context(1).bases.count()), (0, 0));
}

#[tokio::test]
async fn what_an_owner_alone_learns_is_kept_with_the_result_and_erased_with_it() {
    let scratch = Scratch::new();
    let kept = Config {
        data_dir: scratch.path().to_owned(),
        ..config()
    };
    let mut world = World::new().await;
    drop((world.nodes.remove(0), world.urls.remove(0)));
    world.start(kept, &Handle::current()).await;
    let tasks = world.tasks(&Params::default()).await;
    let me = PARTIES - 1;
    let results = world.results(&tasks).await;
    let own = |me: usize| json!({"party": me, "warm": []});
    for (party, result) in results.iter().enumerate() {
        assert_eq!(result["own"], own(party));
    }
    // Nobody else, and in nothing that others see or that is signed.
    for (party, task) in tasks.iter().enumerate() {
        let shown = [
            task.progress().to_string(),
            task.summary().to_string(),
            format!("{task:?}"),
        ];
        assert!(shown.iter().all(|text| !text.contains("warm")), "{shown:?}");
        let receipt = crate::receipt::Receipt::parse(&task.receipt(true).unwrap().to_string()).unwrap();
        for whole in &results {
            let problems = receipt.problems(Some(&whole.to_string()));
            assert!(
                problems.iter().all(|problem| problem.contains("sign")),
                "party {party}: {problems:?}"
            );
        }
    }
    assert!(
        tasks
            .iter()
            .all(|task| task.receipt(false).unwrap()["commitment"] == tasks[0].receipt(false).unwrap()["commitment"])
    );

    // In the next life it is read from the record, which nobody reads without the storage's key.
    let who = Principal::anonymous();
    let records = || world.context(me).store.load(RECORD).unwrap().records;
    let found = |bytes: &[u8]| bytes.windows(4).any(|window| window == b"warm");
    let record = records().into_iter().find(|record| found(&record.bytes)).unwrap();
    let record = serde_json::from_slice::<Record>(&record.bytes).unwrap();
    let again = Task::restore(Arc::clone(world.context(me)), record).unwrap();
    assert_eq!(again.object, tasks[me].object);
    let Outcome::Result(text) = again.result(Duration::from_secs(60)).await.unwrap() else {
        unreachable!()
    };
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["own"], own(me));
    for file in std::fs::read_dir(scratch.path()).unwrap() {
        let path = file.unwrap().path();
        assert!(path.is_dir() || !found(&std::fs::read(&path).unwrap()), "{path:?}");
    }
    world.nodes[me].simon.tasks().delete(&tasks[me], &who).await.unwrap();
    assert!(records().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rounds_and_rounds_of_much_work() {
    let world = World::new().await;
    for params in [
        Params {
            rounds: 250,
            bytes: 200,
            longest: 40 << 20,
            ..Params::default()
        },
        Params {
            rounds: 20,
            bytes: 300_000,
            pairs: true,
            work: 1 << 20,
            ..Params::default()
        },
    ] {
        for result in world.compute(&params).await {
            assert_eq!(result["result"]["rounds"], params.rounds);
        }
    }
}

/// `cargo nextest run -p fdrtd --run-ignored only rounds_are_measured --no-capture`
#[test]
#[ignore = "measures"]
fn rounds_are_measured() {
    // One runtime for each node, as if each were a process.
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
    };
    let runtimes: Vec<_> = (0..=PARTIES).map(|_| runtime().unwrap()).collect();
    runtimes[PARTIES].block_on(measure(&runtimes[..PARTIES]));
}

#[allow(clippy::print_stdout)] // that is what it is for
async fn measure(runtimes: &[tokio::runtime::Runtime]) {
    let world = World::on(|me| runtimes[me].handle().clone()).await;
    for bytes in [0, 300, 10_000, 100_000] {
        let of = |rounds| Params {
            rounds,
            bytes,
            longest: 40 << 20,
            ..Params::default()
        };
        for _ in 0..2 {
            let mut took = [0, 1000].map(|rounds| (of(rounds), Duration::ZERO));
            for (params, took) in &mut took {
                let begin = Instant::now();
                world.compute(params).await;
                *took = begin.elapsed();
            }
            let [(_, few), (_, many)] = took;
            let round = many.saturating_sub(few).as_secs_f64() * 1e6 / 1000.0;
            println!("{bytes} bytes: {round:.0} µs a round, {few:?} for the rest");
        }
    }
}

#[tokio::test]
async fn messages_that_may_be_longer_than_there_is_room_for_are_refused_with_the_input() {
    let world = World::new().await;
    // The limits of a node as it is made: a gigabyte for a task, half of it for each peer.
    for (longest, limit) in [(300 << 20, "task_bytes"), (600 << 20, "task_bytes")] {
        let params = Params {
            longest,
            ..Params::default()
        };
        let tasks = world.tasks(&params).await;
        let refused = tasks[0].input("1".to_owned().into()).await.unwrap_err();
        assert_eq!((refused.status, refused.code), (413, "TASK_TOO_LARGE"));
        let told = format!("{} {}", refused.message, refused.hint);
        assert!(
            told.contains(&(4 * longest).to_string()) && told.contains(limit),
            "{told}"
        );
        tasks[0].cancel(&Principal::anonymous());
    }
    // Tens of megabytes fit, and what is sent is what counts.
    let params = Params {
        rounds: 3,
        longest: 100 << 20,
        ..Params::default()
    };
    for result in world.compute(&params).await {
        assert_eq!(result["result"]["rounds"], 3);
    }
}
