//! The list of nodes of a task: every mistake in it has an error of its own.

use fdrtd_mpc::net::{MAX_PARTIES, Party};
use serde_json::{Value, json};

use crate::descriptor::Field;
use crate::json::Raw;
use crate::problem::{Problem, quoted};
use crate::url::NodeUrl;

/// What a network looks like.
const EXAMPLE: &str = "write network={'nodes': ['https://a.example/node', 'https://b.example/node', 'https://c.example/node'], 'myself': 0}";

/// `{"nodes": [url, …], "myself": index, "uuid": text}`.
pub(super) struct Network {
    pub(super) nodes: Vec<NodeUrl>,
    pub(super) myself: Party,
    /// By which `compute` tells computations apart; other functions do not need it.
    pub(super) uuid: String,
}

/// Longest uuid of a network, in bytes.
const MAX_UUID: usize = 1024;

/// Reads a network.
pub(super) fn read_network(raw: &Raw) -> Result<Network, Problem> {
    let malformed = |message: String| Problem::input("NETWORK_MALFORMED", message, EXAMPLE);
    let object = raw.object()?;
    if let Some(name) = object
        .keys()
        .find(|name| !["nodes", "myself", "uuid"].contains(&name.as_str()))
    {
        return Err(malformed(format!("network has no member {}", quoted(name))));
    }
    let nodes = object.get("nodes").and_then(Value::as_array);
    let nodes = nodes.ok_or_else(|| malformed("network needs 'nodes', a list of URLs".to_owned()))?;
    check_size(nodes.len())?;
    let mut urls: Vec<NodeUrl> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let text = node
            .as_str()
            .ok_or_else(|| malformed(format!("nodes[{index}] is not a text")))?;
        let url = NodeUrl::parse(text)
            .map_err(|error| Problem::input("NODE_URL_UNUSABLE", format!("nodes[{index}]: {error}"), EXAMPLE))?;
        urls.push(url);
    }
    check_nodes(&urls)?;
    let myself = object
        .get("myself")
        .ok_or_else(|| malformed("network needs 'myself', this party's place in nodes".to_owned()))?;
    let Some(number) = myself.as_number().filter(|number| !number.is_f64()) else {
        let message = "'myself' is a whole number: this party's place in nodes, from 0";
        return Err(malformed(message.to_owned()));
    };
    let place = myself
        .as_u64()
        .and_then(|index| usize::try_from(index).ok())
        .and_then(|index| Party::new(index, urls.len()));
    let myself = place.ok_or_else(|| {
        Problem::input(
            "MYSELF_OUT_OF_RANGE",
            format!(
                "'myself' is {number}, but the places of {} nodes are 0 to {}",
                urls.len(),
                urls.len() - 1
            ),
            "count from 0: the first node is 0",
        )
    })?;
    let uuid = match object.get("uuid") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(uuid)) if uuid.len() <= MAX_UUID => uuid.clone(),
        Some(_) => {
            let message = format!("'uuid' is a text of at most {MAX_UUID} bytes that all parties have agreed on");
            return Err(malformed(message));
        }
    };
    Ok(Network {
        nodes: urls,
        myself,
        uuid,
    })
}

fn check_size(nodes: usize) -> Result<(), Problem> {
    if (2..=MAX_PARTIES).contains(&nodes) {
        return Ok(());
    }
    Err(Problem::input(
        "NETWORK_SIZE",
        format!("the network has {nodes} nodes; it takes 2 to {MAX_PARTIES}"),
        EXAMPLE,
    ))
}

/// Whether the nodes are several, and mean the same to all parties.
pub(super) fn check_nodes(nodes: &[NodeUrl]) -> Result<(), Problem> {
    check_size(nodes.len())?;
    for (index, url) in nodes.iter().enumerate() {
        if let Some(first) = nodes[..index].iter().position(|other| other == url) {
            return Err(Problem::input(
                "NODE_TWICE",
                format!("nodes[{first}] and nodes[{index}] are the same URL"),
                "every party needs a node of its own",
            ));
        }
    }
    let loopback = nodes.iter().position(NodeUrl::is_loopback);
    match loopback {
        Some(index) if !nodes.iter().all(NodeUrl::is_loopback) => Err(Problem::input(
            "NODE_URL_LOOPBACK",
            format!(
                "nodes[{index}] is {}, which on every machine means that machine itself, but other nodes of the list are on other machines",
                nodes[index]
            ),
            "write the address under which the others reach it, for example http://192.168.1.5:55500/public1",
        )
        .with("party", index)),
        _ => Ok(()),
    }
}

/// The invitation says who takes part; so a wrong list is found at once.
pub(super) fn compare_nodes(invited: &[NodeUrl], given: &[NodeUrl]) -> Result<(), Problem> {
    if invited == given {
        return Ok(());
    }
    let sorted = |nodes: &[NodeUrl]| {
        let mut nodes = nodes.to_vec();
        nodes.sort();
        nodes
    };
    let at = invited
        .iter()
        .zip(given)
        .position(|(a, b)| a != b)
        .unwrap_or(invited.len().min(given.len()));
    let shown = |nodes: &[NodeUrl]| nodes.get(at).map_or("nothing".to_owned(), ToString::to_string);
    let there = format!(
        "nodes[{at}] is {} in the invitation and {} here",
        shown(invited),
        shown(given)
    );
    if sorted(invited) == sorted(given) {
        return Err(Problem::input(
            "NODES_ORDER_DIFFERS",
            format!("{} differ: {there}", Field::Order.name()),
            "use the same list in the same order at every party; only 'myself' differs",
        ));
    }
    Err(Problem::input(
        "NODES_DIFFER",
        format!("{} differ: {there}", Field::Nodes.name()),
        "use exactly the inviting party's list of nodes; only 'myself' differs",
    )
    .with("nodes", json!(invited)))
}
