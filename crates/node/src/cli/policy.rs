//! `fdrtd policy`: what a node's owner allows.

use clap::{Args, Subcommand};
use fdrtd::policy::Profile;
use serde_json::{Value, json};

use super::client::NodeArgs;
use super::failure::{EXIT_HELP, Exit, Failure, printable};
use super::{interrupted, runtime, say};

/// Shows a node's rules, and whether they would allow a task.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fdrtd policy show
  fdrtd policy check SecureSum --parties 3 --samples 12
  fdrtd policy check SecureSum --parties 3 --parameters '{{\"digits_after\": 30}}'

Both ask a running node (--node).

{EXIT_HELP}"))]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Shows all rules in plain words.
    Show(ShowArgs),
    /// Asks whether a task would be allowed; nothing is made, and nobody else is asked.
    Check(CheckArgs),
}

#[derive(Args)]
struct ShowArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CheckArgs {
    /// What to compute, such as SecureSum
    microprotocol: String,
    /// How many parties, yours included
    #[arg(long, value_name = "NUMBER", required_unless_present = "nodes")]
    parties: Option<u64>,
    /// URL of a node, yours first; once for each party
    #[arg(long = "with", value_name = "URL", conflicts_with = "parties")]
    nodes: Vec<String>,
    /// Parameters of the computation
    #[arg(long, value_name = "JSON", value_parser = object)]
    parameters: Option<Value>,
    /// Rules in force besides the node's: teaching, standard, strict, or JSON such as {"min_samples_own": 8}
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// How many samples your input will have (in its smallest column)
    #[arg(long, value_name = "NUMBER")]
    samples: Option<u64>,
    #[command(flatten)]
    node: NodeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn object(text: &str) -> Result<Value, String> {
    let value: Option<Value> = serde_json::from_str(text).ok();
    value
        .filter(Value::is_object)
        .ok_or_else(|| "this is not a JSON object, such as {\"digits_after\": 2}".to_owned())
}

/// The name of a profile, or an object of rules.
pub(super) fn asked(text: &str) -> Result<Value, Failure> {
    if text.parse::<Profile>().is_ok() {
        return Ok(json!(text));
    }
    object(text).map_err(|_| {
        Failure::usage(
            "--policy is neither the name of a profile nor a JSON object",
            "write --policy strict, or --policy '{\"min_samples_own\": 8}'",
            "POLICY_UNUSABLE",
        )
    })
}

pub(crate) fn policy(args: PolicyArgs) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let work = async {
            match args.command {
                PolicyCommand::Show(args) => show(&args).await,
                PolicyCommand::Check(args) => check(&args).await,
            }
        };
        tokio::select! {
            ended = work => ended,
            () = interrupted() => Ok(Exit::Interrupted),
        }
    })
}

async fn show(args: &ShowArgs) -> Result<Exit, Failure> {
    let answer = args.node.client(None)?.get("/policy").await?;
    if args.json {
        say(&answer.text())?;
        return Ok(Exit::Ok);
    }
    let policy = answer.json()?;
    let mut lines = vec![format!("profile {}", text(&policy, "profile"))];
    let looser: Vec<String> = list(&policy, "looser_than_profile").map(plain).collect();
    if !looser.is_empty() {
        lines.push(format!("looser than it: {}", looser.join(", ")));
    }
    lines.push(String::new());
    lines.extend(list(&policy, "words").map(|word| format!("- {}", plain(word))));
    say(&lines.join("\n"))?;
    Ok(Exit::Ok)
}

async fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let mut question = json!({"microprotocol": args.microprotocol});
    if args.nodes.is_empty() {
        question["parties"] = json!(args.parties);
    } else {
        question["network"] = json!({"nodes": args.nodes, "myself": 0});
    }
    if let Some(parameters) = &args.parameters {
        question["parameters"] = parameters.clone();
    }
    if let Some(policy) = &args.policy {
        question["policy"] = asked(policy)?;
    }
    if let Some(samples) = args.samples {
        question["samples"] = json!(samples);
    }
    let client = args.node.client(None)?;
    let answer = client.post("/policy/check", Some(question.to_string().into())).await?;
    let found = answer.json()?;
    let allowed = found["allowed"] == true;
    if args.json {
        say(&answer.text())?;
    } else {
        let mut lines = vec![if allowed { "allowed" } else { "refused" }.to_owned()];
        for refusal in list(&found, "refused").chain(list(&found, "cannot_check")) {
            lines.push(format!(
                "- {}: {} ({})",
                text(refusal, "rule"),
                text(refusal, "message"),
                text(refusal, "code")
            ));
        }
        if allowed {
            lines.extend(compared(&found["compared"]));
        }
        if allowed && found["approval"] != "auto" {
            lines.push(format!("the owner is asked: approval {}", text(&found, "approval")));
        }
        say(&lines.join("\n"))?;
    }
    Ok(if allowed { Exit::Ok } else { Exit::Refused })
}

/// What the computation itself compares: a line each.
fn compared(found: &Value) -> Vec<String> {
    let all = [
        ("samples_total", "samples of all parties together"),
        ("samples_others", "samples of all others of each party"),
        ("group_total", "samples of all parties together in each group"),
        ("group_others", "samples of all others of each party in each group"),
        ("cell", "in every cell that opens"),
        ("beyond", "other values on either side of one that opens"),
    ];
    let known = all
        .iter()
        .filter_map(|(name, what)| Some((found[*name].as_u64()?, what)));
    known
        .map(|(least, what)| format!("compared inside the computation, and hidden if fewer: at least {least} {what}"))
        .collect()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn plain(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

fn text(value: &Value, name: &str) -> String {
    plain(&value[name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_is_told_in_words() {
        assert!(compared(&json!({})).is_empty());
        let lines = compared(&json!({"samples_total": 20, "beyond": 5}));
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].ends_with("at least 20 samples of all parties together"),
            "{lines:?}"
        );
        assert!(
            lines[1].ends_with("at least 5 other values on either side of one that opens"),
            "{lines:?}"
        );
    }
}
