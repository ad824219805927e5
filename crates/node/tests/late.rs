//! Whole nodes in one process, over real sockets: what comes late.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;

use fdrtd::config::Config;
use fdrtd::json::Parameters;
use fdrtd::node::Node;
use fdrtd::policy::Profile;
use fdrtd::services::simon::Holding;
use fdrtd::services::{Principal, Reply};
use fdrtd::url::NodeUrl;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A free port. Nobody listens there until a node is started, so that it is refused at once.
async fn address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

async fn start(address: SocketAddr) -> Arc<Node> {
    let config = Config {
        ephemeral: true,
        policy: Profile::Teaching,
        public_url: vec![NodeUrl::parse(&format!("http://{address}/node")).unwrap()],
        base_path: "/node".to_owned(),
        ..Config::default()
    };
    let listener = TcpListener::bind(address).await.unwrap();
    let (tell, told) = oneshot::channel();
    let ready = |nodes: &[Arc<Node>]| {
        let _ = tell.send(Arc::clone(&nodes[0]));
    };
    // Ends with the test's runtime.
    let run = fdrtd::run(vec![config], listener, ready, std::future::pending());
    tokio::spawn(async move { run.await.unwrap() });
    told.await.unwrap()
}

async fn call(node: &Node, function: &str, task: Option<&Value>, parameters: Value) -> Reply {
    let parameters = Parameters::parse(function, &parameters.to_string()).unwrap();
    let reply = node
        .simon
        .call(&Principal::anonymous(), function, parameters, task, &Holding::SHORT)
        .await;
    reply.unwrap_or_else(|problem| panic!("{function}: {problem:?}"))
}

fn object(reply: Reply) -> Value {
    match reply {
        Reply::Object(object) => object,
        other => panic!("{other:?}"),
    }
}

fn value(reply: Reply) -> Value {
    match reply {
        Reply::Value(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The first two parties give long vectors before the third one's node runs, so before its key is known; its messages are as long, and must not be
/// taken for too long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_found_after_the_inputs_may_send_as_much_as_the_others() {
    let addresses = [address().await, address().await, address().await];
    let urls = addresses.map(|address| format!("http://{address}/node"));
    let network = |myself: usize| json!({"nodes": urls, "myself": myself});
    let vector = json!({"data": {"vectors": [vec![7; 2_000]]}});
    let mut nodes = vec![start(addresses[0]).await, start(addresses[1]).await];
    let create = json!({"microprotocol": "SecureSum", "network": network(0)});
    let mut tasks = vec![object(call(&nodes[0], "create", None, create).await)];
    let invitation = value(call(&nodes[0], "invite", Some(&tasks[0]), json!({})).await);
    for me in 1..3 {
        if me == 2 {
            for (node, task) in nodes.iter().zip(&tasks) {
                call(node, "input", Some(task), vector.clone()).await;
            }
            nodes.push(start(addresses[2]).await);
        }
        let join = json!({"invitation": invitation, "network": network(me)});
        tasks.push(object(call(&nodes[me], "join", None, join).await));
    }
    call(&nodes[2], "input", Some(&tasks[2]), vector).await;
    for (node, task) in nodes.iter().zip(&tasks) {
        let result = value(call(node, "result", Some(task), json!({"timeout": 60})).await);
        assert_eq!(result["result"]["sum"], json!(vec![21; 2_000]));
    }
}
