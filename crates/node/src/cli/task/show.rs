//! Tasks as text.

use serde_json::Value;

use super::super::failure::printable;

/// Characters of an id that are shown, if that tells the tasks apart.
const SHORT: usize = 8;

/// A table of tasks, each with its progress if it is open, and the pending invitations.
pub(super) fn list(tasks: &[(Value, Option<Value>)], invitations: &[Value]) -> String {
    let mut text = String::new();
    if tasks.is_empty() {
        text.push_str("no tasks\n");
    } else {
        let head = ["ID", "MICROPROTOCOL", "STATE", "PARTY", "WAITING FOR"].map(str::to_owned);
        let mut rows = vec![head];
        let ids: Vec<String> = tasks.iter().map(|(task, _)| field(task, "task")).collect();
        for ((task, progress), id) in tasks.iter().zip(&ids) {
            rows.push([
                shortest(id, &ids).to_owned(),
                field(task, "microprotocol"),
                field(task, "state"),
                format!("{} of {}", task["party"], task["parties"]),
                progress
                    .as_ref()
                    .map(|progress| waiting(progress, "party"))
                    .unwrap_or_default(),
            ]);
        }
        text.push_str(&aligned(&rows));
    }
    if !invitations.is_empty() {
        text.push_str("\nInvitations that nobody has taken up here:\n");
    }
    for invitation in invitations {
        text.push_str(&pending(invitation));
    }
    text.trim_end().to_owned()
}

/// One task, a line for each thing.
pub(super) fn whole(progress: &Value) -> String {
    let mut lines = vec![
        ["task".to_owned(), field(progress, "task")],
        ["computes".to_owned(), field(progress, "microprotocol")],
        ["state".to_owned(), field(progress, "state")],
        ["policy".to_owned(), field(progress, "policy")],
    ];
    if let Some(seconds) = progress["seconds_left"].as_u64() {
        lines.push(["deadline".to_owned(), format!("in {}", duration(seconds))]);
    }
    for party in progress["parties"].as_array().into_iter().flatten() {
        lines.push([format!("party {}", party["party"]), about(party)]);
    }
    let waiting = waiting(progress, "why");
    if !waiting.is_empty() {
        lines.push(["waiting".to_owned(), waiting]);
    }
    let cause = &progress["cause"];
    if cause.is_object() {
        let text = format!(
            "{} — {} ({})",
            field(cause, "message"),
            field(cause, "hint"),
            field(cause, "code")
        );
        lines.push(["cause".to_owned(), text]);
        let why = field(&cause["declined"], "message");
        if cause["declined"].is_object() {
            lines.push(["declined".to_owned(), why]);
        }
    }
    aligned(&lines).trim_end().to_owned()
}

/// One task in one line.
pub(super) fn line(progress: &Value) -> String {
    let state = field(progress, "state");
    let count = |what: &str| {
        let parties = progress["parties"].as_array().into_iter().flatten();
        parties.filter(|party| party[what] == true).count()
    };
    let all = progress["parties"].as_array().map_or(0, Vec::len);
    let waiting = waiting(progress, "why");
    let told = if waiting.is_empty() {
        String::new()
    } else {
        format!("; {waiting}")
    };
    format!(
        "{state}: {} of {all} joined, {} inputs{told}",
        count("joined"),
        count("input")
    )
}

fn about(party: &Value) -> String {
    let mut parts = vec![field(party, "node")];
    if party["myself"] == true {
        parts.push("(this node)".to_owned());
    }
    parts.push(
        if party["joined"] == true {
            "joined"
        } else {
            "not joined"
        }
        .to_owned(),
    );
    parts.push(
        if party["input"] == true {
            "input given"
        } else {
            "no input"
        }
        .to_owned(),
    );
    if party["myself"] != true {
        parts.push(
            if party["connected"] == true {
                "connected"
            } else {
                "not connected"
            }
            .to_owned(),
        );
    }
    let fingerprint = field(party, "fingerprint");
    if !fingerprint.is_empty() {
        parts.push(format!("key {fingerprint}"));
    }
    let problem = field(party, "problem");
    if !problem.is_empty() {
        parts.push(format!("– {problem}"));
    }
    parts.join("  ")
}

/// Who is waited for: by `party` in short, or `why` in full.
fn waiting(progress: &Value, member: &str) -> String {
    let entries = progress["waiting_for"].as_array().into_iter().flatten();
    let texts: Vec<String> = entries
        .map(|entry| match member {
            "party" => format!("party {}", entry["party"]),
            _ => field(entry, member),
        })
        .collect();
    texts.join(if member == "party" { ", " } else { "; " })
}

fn pending(invitation: &Value) -> String {
    let nodes: Vec<String> = invitation["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| printable(node.as_str().unwrap_or_default()))
        .collect();
    let name = field(invitation, "microprotocol");
    let link = field(invitation, "link");
    // A shell must not see the end of its quotes in what others have chosen.
    let quotable = !link.is_empty() && !link.contains('\'') && !name.contains(['\'', ' ', ';', '`', '$']);
    let join = if quotable {
        format!("fdrtd compute {name} --invitation '{link}' --data FILE")
    } else {
        "with Simon's join, or with the link from whoever invites you".to_owned()
    };
    let id: String = field(invitation, "task").chars().take(SHORT).collect();
    format!(
        "  {id}  {name} with {}; {} ago\n            join: {join}\n",
        nodes.join(", "),
        duration(invitation["seconds"].as_u64().unwrap_or_default()),
    )
}

/// The shortest beginning that no other id shares.
fn shortest<'a>(id: &'a str, ids: &[String]) -> &'a str {
    let unique = |length: &usize| {
        ids.iter()
            .filter(|other| other.get(..*length) == id.get(..*length))
            .count()
            == 1
    };
    let length = (SHORT.min(id.len())..id.len()).find(unique).unwrap_or(id.len());
    id.get(..length).unwrap_or(id)
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(at, cell)| {
                if at + 1 == N {
                    cell.clone()
                } else {
                    format!("{cell:0$}", width(at))
                }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// A text of a node, without what could harm a terminal.
fn field(object: &Value, name: &str) -> String {
    printable(object[name].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_are_as_long_as_it_takes() {
        let ids = ["12345678-aa", "12345678-ab", "22345678-aa"].map(str::to_owned);
        assert_eq!(shortest(&ids[0], &ids), "12345678-aa");
        assert_eq!(shortest(&ids[2], &ids), "22345678");
        assert_eq!(shortest("", &[]), "");
    }

    #[test]
    fn a_task_in_one_line_and_in_many() {
        let progress = json!({
            "task": "t", "microprotocol": "SecureSum", "state": "joining", "policy": "teaching", "seconds_left": 7300,
            "parties": [
                {"party": 0, "node": "http://a", "myself": true, "joined": true, "input": false},
                {"party": 1, "node": "http://b", "joined": false, "input": false, "connected": false, "problem": "DNS\u{7}"},
            ],
            "waiting_for": [{"party": 1, "why": "party 1 has not joined yet"}],
        });
        assert_eq!(
            line(&progress),
            "joining: 1 of 2 joined, 0 inputs; party 1 has not joined yet"
        );
        let text = whole(&progress);
        assert!(
            text.contains("party 1   http://b  not joined  no input  not connected  – DNS\n"),
            "{text}"
        );
        assert!(text.contains("deadline  in 2 h"), "{text}");
    }

    #[test]
    fn hostile_invitations_are_no_commands() {
        let invitation = json!({"microprotocol": "x'; rm -rf ~ #", "link": "fdrtd:http://a'b#c"});
        assert!(!list(&[], &[invitation]).contains("fdrtd compute"));
    }
}
