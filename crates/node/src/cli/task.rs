//! `fdrtd task`: the tasks of a node.

mod show;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::Value;
use tokio::time::sleep;
use uuid::Uuid;

use super::client::{Client, NodeArgs};
use super::failure::{EXIT_HELP, Exit, Failure, printable};
use super::{interrupted, runtime, say};

/// Shortest beginning of an id that is taken for it.
const SHORTEST: usize = 4;
/// How long a node may be away while one of its tasks is watched; tasks outlive restarts.
const AWAY: Duration = Duration::from_secs(60);
/// Open tasks whose progress is asked for in a list.
const ASKED: usize = 100;

/// What somebody without a token can do about it.
const NO_TOKEN: &str = "give --data-dir with the directory of a node of this machine (operator.token in it), a token in FDRTD_TOKEN or --token-file";

/// Shows, watches and ends the tasks of a node.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fdrtd task ls
  fdrtd task watch 3f2a9c1b --node https://a.example/public1
  fdrtd task cancel 3f2a9c1b
  fdrtd task approve 3f2a9c1b
  fdrtd task decline 3f2a9c1b --reason 'no agreement on this column'
  fdrtd task receipt 3f2a9c1b > receipt.json

An id may be shortened to its first characters, four at least, as long as it is the only one.

{EXIT_HELP}"))]
pub(crate) struct TaskArgs {
    #[command(subcommand)]
    command: TaskCommand,
}

#[derive(Subcommand)]
enum TaskCommand {
    /// Lists tasks and pending invitations.
    Ls(LsArgs),
    /// Shows how one task stands, party by party.
    Show(IdArgs),
    /// Follows a task until it has ended.
    Watch(IdArgs),
    /// Prints the receipt of a task whose result all parties have confirmed, as JSON; with the salt only by the id of the task's object, or to its owner.
    Receipt(ReceiptArgs),
    /// Ends a task at all parties.
    Cancel(IdArgs),
    /// Lets a task go on that waits for this node's owner.
    Approve(IdArgs),
    /// Ends a task that does not compute yet; the others are told that this node declined, and not why.
    Decline(DeclineArgs),
}

#[derive(Args)]
struct LsArgs {
    #[command(flatten)]
    node: OwnNodeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct IdArgs {
    /// The task's id, or its beginning
    id: String,
    #[command(flatten)]
    node: OwnNodeArgs,
    /// As JSON; for watch a line per change
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ReceiptArgs {
    /// The task's id, or its beginning; or the whole id of its object
    id: String,
    #[command(flatten)]
    node: OwnNodeArgs,
}

#[derive(Args)]
struct OwnNodeArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Data directory of the node: the operator's token in it lets you see all tasks and decide about them. Used for its node on this machine only
    #[arg(long, env = "FDRTD_DATA_DIR", default_value = "fdrtd-data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
}

impl OwnNodeArgs {
    fn client(&self) -> Result<Client, Failure> {
        self.node.client_of(&self.data_dir)
    }
}

#[derive(Args)]
struct DeclineArgs {
    #[command(flatten)]
    task: IdArgs,
    /// For this node's audit and the task's owner
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(crate) fn task(args: TaskArgs) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let work = async {
            match args.command {
                TaskCommand::Ls(args) => ls(&args).await,
                TaskCommand::Show(args) => show_one(&args).await,
                TaskCommand::Watch(args) => watch(&args).await,
                TaskCommand::Receipt(args) => receipt(&args).await,
                TaskCommand::Cancel(args) => decide(&args, "cancel", "cancelled", None).await,
                TaskCommand::Approve(args) => decide(&args, "approve", "approved", None).await,
                TaskCommand::Decline(args) => {
                    let reason = args
                        .reason
                        .map(|reason| serde_json::json!({"reason": reason}).to_string());
                    decide(&args.task, "decline", "declined", reason).await
                }
            }
        };
        tokio::select! {
            ended = work => ended,
            () = interrupted() => Ok(Exit::Interrupted),
        }
    })
}

async fn ls(args: &LsArgs) -> Result<Exit, Failure> {
    let client = args.node.client()?;
    let answer = client.get("/tasks").await?;
    if args.json {
        say(&answer.text())?;
        return Ok(Exit::Ok);
    }
    let list = answer.json()?;
    let mut tasks: Vec<(Value, Option<Value>)> = Vec::new();
    for task in list["tasks"].as_array().into_iter().flatten() {
        let open = !is_over(task);
        let progress = match task["task"].as_str().and_then(|id| Uuid::try_parse(id).ok()) {
            // It may be gone by now.
            Some(id) if open && tasks.len() < ASKED => match client.get(&format!("/tasks/{id}")).await {
                Ok(answer) => answer.json().ok(),
                Err(_) => None,
            },
            _ => None,
        };
        tasks.push((task.clone(), progress));
    }
    let invitations = list["invitations"].as_array().map_or(&[][..], Vec::as_slice);
    if tasks.is_empty() && invitations.is_empty() && !client.has_token() {
        // Standard output stays what it is with a token.
        writeln!(
            io::stderr(),
            "fdrtd: callers without a token are shown no list; {NO_TOKEN}"
        )?;
    }
    say(&show::list(&tasks, invitations))?;
    Ok(Exit::Ok)
}

async fn show_one(args: &IdArgs) -> Result<Exit, Failure> {
    let client = args.node.client()?;
    let id = resolve(&client, &args.id).await?;
    let answer = client.get(&format!("/tasks/{id}")).await;
    let answer = answer.map_err(|failure| unknown_to_strangers(&client, failure))?;
    let text = if args.json {
        answer.text()
    } else {
        show::whole(&answer.json()?)
    };
    say(&text)?;
    Ok(Exit::Ok)
}

async fn receipt(args: &ReceiptArgs) -> Result<Exit, Failure> {
    if Uuid::try_parse(&args.id).is_ok() {
        // The id of an object is a credential of its own, which the operator's token beside it would hide.
        let client = args.node.node.client(None)?;
        if let Ok(answer) = client.get(&format!("/tasks/{}/receipt", args.id)).await {
            say(&answer.text())?;
            return Ok(Exit::Ok);
        }
    }
    let client = args.node.client()?;
    let id = resolve(&client, &args.id).await?;
    say(&client.get(&format!("/tasks/{id}/receipt")).await?.text())?;
    Ok(Exit::Ok)
}

async fn watch(args: &IdArgs) -> Result<Exit, Failure> {
    let client = args.node.client()?;
    let id = resolve(&client, &args.id).await?;
    let mut lines = Lines {
        terminal: io::stdout().is_terminal() && !args.json,
        last: String::new(),
    };
    let mut seen = Instant::now();
    let mut connected = false;
    loop {
        let failure = match follow(&client, &id, args.json, &mut lines, &mut connected).await {
            Ok(Some(last)) => {
                lines.end()?;
                return ended(&last);
            }
            Ok(None) => None,
            Err(failure) => Some(failure),
        };
        if connected {
            seen = Instant::now();
        }
        // A node that stops ends its streams, and may come back.
        let patient = seen.elapsed() < AWAY;
        match failure {
            None if patient => {}
            Some(failure) if failure.exit == Exit::Unreachable && !lines.last.is_empty() && patient => {}
            failure => {
                lines.end()?;
                let failure = failure.unwrap_or_else(|| client.silent());
                return Err(unknown_to_strangers(&client, failure));
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Shows what comes; the last progress if the task has ended, `None` if only the stream has.
async fn follow(
    client: &Client,
    id: &Uuid,
    json: bool,
    lines: &mut Lines,
    connected: &mut bool,
) -> Result<Option<Value>, Failure> {
    *connected = false;
    let mut events = client.events(&format!("/tasks/{id}/events")).await?;
    while let Some(event) = events.next().await? {
        *connected = true;
        let Ok(progress) = serde_json::from_str::<Value>(&event) else {
            continue;
        };
        lines.show(&if json { event } else { show::line(&progress) })?;
        if is_over(&progress) {
            return Ok(Some(progress));
        }
    }
    Ok(None)
}

/// The exit status that fits the end of a task.
fn ended(progress: &Value) -> Result<Exit, Failure> {
    let cause = &progress["cause"];
    let text = |name: &str| printable(cause[name].as_str().unwrap_or_default());
    let exit = match progress["state"].as_str() {
        Some("done") => return Ok(Exit::Ok),
        Some("expired") => Exit::TimedOut,
        _ => Exit::Failed,
    };
    let what = format!("the task has no result: {}", text("message"));
    Err(Failure::new(exit, what, "the task", &text("hint"), &text("code")))
}

async fn decide(args: &IdArgs, what: &str, done: &str, body: Option<String>) -> Result<Exit, Failure> {
    let client = args.node.client()?;
    let id = resolve(&client, &args.id).await?;
    client
        .post(&format!("/tasks/{id}/{what}"), body.map(Into::into))
        .await
        .map_err(|failure| unknown_to_strangers(&client, failure))?;
    if args.json {
        say(&serde_json::json!({done: id}).to_string())?;
    } else {
        say(&format!("{done} {id}"))?;
    }
    Ok(Exit::Ok)
}

/// Who calls without a token is shown no task by the id that all parties know.
fn unknown_to_strangers(client: &Client, mut failure: Failure) -> Failure {
    if failure.code == "TASK_UNKNOWN" && !client.has_token() {
        failure.hint =
            format!("{NO_TOKEN}, or the id of the task's object; `fdrtd task ls` shows the tasks you may see");
    }
    failure
}

/// The one task whose id begins so. A whole id is taken as it is: it may be that of an object, which is in no list.
async fn resolve(client: &Client, beginning: &str) -> Result<Uuid, Failure> {
    let beginning = beginning.trim().to_ascii_lowercase();
    if let Ok(id) = Uuid::try_parse(&beginning) {
        return Ok(id);
    }
    let hexadecimal = beginning.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if beginning.len() < SHORTEST || !hexadecimal {
        return Err(Failure::usage(
            "this is not the beginning of a task's id",
            "give four characters or more, as `fdrtd task ls` shows them",
            "ID_UNUSABLE",
        ));
    }
    let list = client.get("/tasks").await?.json()?;
    let ids = list["tasks"].as_array().into_iter().flatten();
    let ids = ids.filter_map(|task| Uuid::try_parse(task["task"].as_str()?).ok());
    let found: Vec<Uuid> = ids.filter(|id| id.to_string().starts_with(&beginning)).collect();
    match found[..] {
        [only] => Ok(only),
        [] => Err(Failure::new(
            Exit::Refused,
            format!("no task of {} has an id that begins with {beginning}", client.base()),
            "your call",
            "`fdrtd task ls` shows the tasks of the node; --node chooses another one",
            "TASK_UNKNOWN",
        ))
        .map_err(|failure| unknown_to_strangers(client, failure)),
        _ => Err(Failure::usage(
            format!("{} tasks have ids that begin with {beginning}", found.len()),
            "give more characters",
            "ID_AMBIGUOUS",
        )),
    }
}

fn is_over(task: &Value) -> bool {
    matches!(
        task["state"].as_str(),
        Some("done" | "failed" | "cancelled" | "expired")
    )
}

/// One line per change; on a terminal the same line again and again.
struct Lines {
    terminal: bool,
    last: String,
}

impl Lines {
    fn show(&mut self, text: &str) -> io::Result<()> {
        if self.last == text {
            return Ok(());
        }
        text.clone_into(&mut self.last);
        let mut out = io::stdout().lock();
        if self.terminal {
            // Without wrapping: a line that has become two could not be rewritten.
            write!(out, "\r\x1b[K\x1b[?7l{text}\x1b[?7h")?;
        } else {
            writeln!(out, "{text}")?;
        }
        out.flush()
    }

    fn end(&self) -> io::Result<()> {
        if self.terminal && !self.last.is_empty() {
            writeln!(io::stdout())?;
        }
        Ok(())
    }
}
