//! What a party brings along: its numbers, the network and the invitation.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use fdrtd::invitation::Link;
use fdrtd::url::NodeUrl;
use fdrtd_mpc::microprotocol::Entry;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::super::failure::{Failure, printable};
use super::ComputeArgs;
use super::table::{self, Format, Meaning, Numbers};

/// Longest file of data, in bytes.
const MAX_DATA: u64 = 1 << 30;
/// Longest file with anything else, in bytes.
const MAX_SMALL: u64 = 1 << 20;

/// The list of nodes, and this party's place in it.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) nodes: Vec<NodeUrl>,
    pub(super) myself: usize,
}

impl Network {
    pub(super) fn own_node(&self) -> &NodeUrl {
        &self.nodes[self.myself]
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"nodes": self.nodes, "myself": self.myself})
    }

    /// `{"nodes": [url, …], "myself"?: index}`; `myself` on the command line wins.
    pub(super) fn read(path: &Path, myself: Option<usize>) -> Result<Network, Failure> {
        let text = contents(path, MAX_SMALL)?;
        let file = path.display();
        let unusable = |what: String| {
            let hint = "write {\"nodes\": [\"https://a.example/public1\", \"https://b.example/public2\", …]}, the same at all parties";
            Failure::usage(what, hint, "NETWORK_UNUSABLE")
        };
        let network: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| unusable(format!("{file} is not a JSON object: {error}")))?;
        let nodes = network.get("nodes").and_then(Value::as_array);
        let nodes = nodes.ok_or_else(|| unusable(format!("{file} has no list 'nodes'")))?;
        let nodes = nodes.iter().enumerate().map(|(index, node)| {
            let url = node.as_str().ok_or_else(|| "it is not a text".to_owned());
            let url = url.and_then(|url| NodeUrl::parse(url).map_err(|error| error.to_string()));
            url.map_err(|error| unusable(format!("{file}, nodes[{index}]: {error}")))
        });
        let nodes = nodes.collect::<Result<Vec<NodeUrl>, Failure>>()?;
        let inside = network.get("myself").and_then(Value::as_u64);
        let myself = myself.or_else(|| inside.and_then(|index| usize::try_from(index).ok()));
        let myself = myself.ok_or_else(|| {
            let what = format!("which of the nodes of {file} is yours is not said");
            Failure::usage(what, "give --myself; the first node is 0", "MYSELF_MISSING")
        })?;
        if myself >= nodes.len() {
            let what = format!("--myself is {myself}, but {file} has {} nodes", nodes.len());
            return Err(Failure::usage(
                what,
                "count from 0: the first node is 0",
                "MYSELF_OUT_OF_RANGE",
            ));
        }
        Ok(Network { nodes, myself })
    }
}

/// The numbers of `--data` or `--value`.
pub(super) fn numbers(args: &ComputeArgs) -> Result<Numbers, Failure> {
    if let Some(value) = &args.value {
        let mut json = Zeroizing::new(String::new());
        return match table::number(value.as_bytes(), args.decimal_comma, &mut json) {
            Ok(()) => Ok(Numbers {
                json,
                count: 1,
                skipped: 0,
                missing: 0,
            }),
            Err(why) => {
                let (_, hint) = why.text(args.decimal_comma);
                Err(Failure::usage("--value is not a number", hint, "DATA_UNUSABLE"))
            }
        };
    }
    let path = args.data.as_deref().unwrap_or(Path::new("-"));
    let text = contents(path, MAX_DATA)?;
    let file = if is_stdin(path) {
        "the standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let format = Format {
        delimiter: args.delimiter.0,
        decimal_comma: args.decimal_comma,
        skip_empty: args.skip_empty,
        meaning: match &args.microprotocol {
            None => Meaning::Unknown,
            // One that does not exist is refused by the node, which names those that are near.
            Some(name) if Entry::find(name).is_some_and(|entry| entry.tables) => Meaning::Table,
            Some(_) => Meaning::Mistake,
        },
    };
    table::read(&text, &file, &args.column, &format)
}

/// `fdrtd:…`, the JSON text itself, a file with either, or `-` for the standard input.
pub(super) fn invitation(given: &str) -> Result<Value, Failure> {
    let text = if Link::is_meant(given) || given.trim_start().starts_with('{') {
        given.to_owned()
    } else {
        let text = contents(Path::new(given), MAX_SMALL)?;
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    if Link::is_meant(&text) {
        return match Link::parse(&text) {
            Ok(link) => Ok(link.to_string().into()),
            Err(error) => Err(Failure::usage(
                format!("this is not an invitation link: {error}"),
                "copy the whole link, from fdrtd: to its end",
                "INVITATION_LINK_MALFORMED",
            )),
        };
    }
    // The node reads it itself; here only what cannot be one at all is told.
    match serde_json::from_str::<Value>(&text) {
        Ok(invitation @ Value::Object(_)) => Ok(invitation),
        _ => Err(Failure::usage(
            "this is not an invitation",
            "give the link (fdrtd:…), or a file with the link or with the JSON text of the invitation",
            "INVITATION_MALFORMED",
        )),
    }
}

/// The JSON text of an object on the command line.
pub(super) fn object(option: &str, text: &str) -> Result<Value, Failure> {
    match serde_json::from_str::<Value>(text) {
        Ok(object @ Value::Object(_)) => Ok(object),
        _ => Err(Failure::usage(
            format!("{option} is not a JSON object"),
            "write for example '{\"digits_after\": 2}'",
            "JSON_INVALID",
        )),
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn contents(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut text = Zeroizing::new(Vec::new());
    let read = if is_stdin(path) {
        io::stdin().lock().take(limit + 1).read_to_end(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut text))
    };
    let name = printable(&path.display().to_string());
    if let Err(error) = read {
        let what = format!("{name} cannot be read: {error}");
        return Err(Failure::usage(what, "check the name of the file", "FILE_UNREADABLE"));
    }
    if text.len() as u64 > limit {
        let what = format!("{name} is longer than {limit} bytes");
        return Err(Failure::usage(what, "give it in parts", "FILE_TOO_LONG"));
    }
    Ok(text)
}
