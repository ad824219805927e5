//! `fdrtd compute`: one party's part of a computation in one command.
//!
//! Party 0 creates the task, the others wait for its invitation and join; then input and result. Whatever ends the command before the result
//! (Ctrl-C, a time limit, a refused input) cancels the task at all parties, so that nobody is left waiting.

mod input;
mod show;
mod table;

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use fdrtd_mpc::microprotocol::Entry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::client::{Client, NodeArgs};
use super::failure::{EXIT_HELP, Exit, Failure, printable};
use super::simon::{Reply, Simon};
use super::{interrupted, runtime, say};
use input::Network;
pub(super) use show::Progress;
use show::Shown;

/// How long a request waits at the node, in seconds.
const PATIENCE: u64 = 20;
/// How long a node may be away while a result is waited for; tasks outlive restarts.
const AWAY: Duration = Duration::from_secs(60);
/// How long the last words to the node may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Takes part in a computation: creates or joins the task, gives the input, waits, and prints the result.
#[derive(Args)]
#[command(after_help = format!("\
Every party runs the same command with the same file of nodes; only --myself and the data differ:
  fdrtd compute SecureSum --network net.json --myself 0 --data ages.csv --column age

net.json is {{\"nodes\": [\"https://a.example/public1\", \"https://b.example/public2\", \"https://c.example/public3\"]}}.
Party 0 creates the task, and the others join it. With an invitation no file is needed:
  fdrtd compute SecureSum --invitation 'fdrtd:...' --data ages.csv --column age

{EXIT_HELP}"))]
pub(crate) struct ComputeArgs {
    /// What to compute, such as SecureSum; with --invitation it may be left out, and is compared if it is given
    #[arg(required_unless_present = "invitation")]
    microprotocol: Option<String>,
    /// File with {"nodes": [URL, ...]}, the same at all parties
    #[arg(long, value_name = "FILE", required_unless_present = "invitation")]
    network: Option<PathBuf>,
    /// Which of the nodes is yours, from 0
    #[arg(long, value_name = "INDEX")]
    myself: Option<usize>,
    /// CSV file with your numbers, its first line the names of the columns; - for the standard input
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "value",
        conflicts_with = "value"
    )]
    data: Option<PathBuf>,
    /// Column of the file, by name or number (from 1); several become named columns
    #[arg(long, value_name = "NAME")]
    column: Vec<String>,
    /// What stands between the cells: one character, or tab
    #[arg(long, default_value = ",", value_name = "CHARACTER")]
    delimiter: Delimiter,
    /// Numbers are written 1,5 and not 1.5
    #[arg(long)]
    decimal_comma: bool,
    /// Leave empty cells out, and tell how many (in statistics of tables they are missing values)
    #[arg(long)]
    skip_empty: bool,
    /// One number instead of a file, for trials: other users of the machine can see it
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    value: Option<String>,
    /// Join this task: its link (fdrtd:...), a file with the invitation, or - for the standard input
    #[arg(long, value_name = "INVITATION", conflicts_with_all = ["create", "parameters", "durations"])]
    invitation: Option<String>,
    /// Create the task even though you are not party 0
    #[arg(long)]
    create: bool,
    /// Parameters of the computation, the same at all parties
    #[arg(long, value_name = "JSON")]
    parameters: Option<String>,
    /// Time limits in seconds, such as {"join": 3600}; the creator's count
    #[arg(long, value_name = "JSON")]
    durations: Option<String>,
    /// Rules in force besides your node's, for this task: teaching, standard, strict, or JSON such as {"min_samples_own": 8}. They only tighten
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Give up after so many seconds, and cancel the task
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    timeout: Option<u64>,
    /// Show the invitation as a QR code as well
    #[arg(long)]
    qr: bool,
    /// Print the result as the node gave it
    #[arg(long)]
    json: bool,
    /// Show who is being waited for even if this is not a terminal
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Clone, Copy, Debug)]
struct Delimiter(u8);

impl FromStr for Delimiter {
    type Err = String;

    fn from_str(text: &str) -> Result<Delimiter, String> {
        match text.as_bytes() {
            _ if text == "tab" || text == "\\t" => Ok(Delimiter(b'\t')),
            [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\r\n\".+-".contains(byte) => {
                Ok(Delimiter(*byte))
            }
            _ => Err("a delimiter is one character such as , or ; or the word tab".to_owned()),
        }
    }
}

/// How far this party's task is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none.
    Before,
    /// The node was asked for one.
    Making,
    /// The callback of its handle.
    Made(String),
    /// It has ended by itself.
    Over,
}

/// Everything that was read and checked before the node is called.
struct Plan {
    microprotocol: Option<String>,
    network: Option<Network>,
    invitation: Option<Value>,
    create: bool,
    parameters: Value,
    durations: Option<Value>,
    policy: Option<Value>,
    input: table::Numbers,
    qr: bool,
}

/// A computation under way.
struct Run<'a> {
    plan: Plan,
    client: &'a Client,
    progress: &'a Progress,
    stage: watch::Sender<Stage>,
}

pub(crate) fn compute(args: ComputeArgs) -> Result<Exit, Failure> {
    let plan = Plan::read(&args)?;
    let client = args.node.client(plan.network.as_ref().map(Network::own_node))?;
    let progress = Progress::new(args.verbose);
    if plan.input.skipped > 0 {
        progress.say(&match plan.input.skipped {
            1 => "1 empty cell was left out".to_owned(),
            count => format!("{count} empty cells were left out"),
        });
    }
    if plan.input.missing > 0 {
        progress.say(&match plan.input.missing {
            1 => "1 empty cell is a missing value".to_owned(),
            count => format!("{count} empty cells are missing values"),
        });
    }
    let run = Run {
        plan,
        client: &client,
        progress: &progress,
        stage: watch::Sender::new(Stage::Before),
    };
    let ended = runtime()?.block_on(run.to_its_end(args.timeout.map(Duration::from_secs)));
    progress.clear();
    let result = ended?;
    if args.json {
        say(&result)?;
        return Ok(Exit::Ok);
    }
    let result: Shown = serde_json::from_str(&result)
        .map_err(|_| Failure::new(Exit::Failed, "the result is not JSON", "your node", "", "NOT_A_NODE"))?;
    for warning in result.warnings() {
        progress.say(&format!("warning: {warning}"));
    }
    say(&result.table())?;
    Ok(Exit::Ok)
}

impl Plan {
    fn read(args: &ComputeArgs) -> Result<Plan, Failure> {
        let network = args
            .network
            .as_deref()
            .map(|path| Network::read(path, args.myself))
            .transpose()?;
        let both = args.invitation.as_deref() == Some("-") && args.value.is_none();
        if both && args.data.as_deref().is_some_and(|data| data.as_os_str() == "-") {
            let hint = "put one of them into a file";
            let what = "--data and --invitation cannot both come from the standard input";
            return Err(Failure::usage(what, hint, "STDIN_TWICE"));
        }
        let object = |option, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| input::object(option, text)).transpose()
        };
        Ok(Plan {
            microprotocol: args.microprotocol.clone(),
            create: args.create || network.as_ref().is_some_and(|network| network.myself == 0),
            network,
            invitation: args.invitation.as_deref().map(input::invitation).transpose()?,
            parameters: object("--parameters", &args.parameters)?.unwrap_or_else(|| json!({})),
            durations: object("--durations", &args.durations)?,
            policy: args.policy.as_deref().map(super::policy::asked).transpose()?,
            input: input::numbers(args)?,
            qr: args.qr,
        })
    }

    /// What is computed by whom: the parameters of `create` and of the search for invitations.
    fn wanted(&self) -> Value {
        json!({
            "microprotocol": self.microprotocol,
            "network": self.network.as_ref().map(Network::to_json),
            "parameters": self.parameters,
        })
    }
}

/// Code of the failure that `--timeout` makes.
const LATE: &str = "TIMED_OUT";

/// Who is being waited for, from the progress of a task.
fn waiting_for(progress: &Value) -> String {
    let waiting = progress["waiting_for"].as_array().into_iter().flatten();
    let texts: Vec<&str> = waiting.filter_map(|entry| entry["why"].as_str()).collect();
    printable(&texts.join("; "))
}

impl Run<'_> {
    /// The text of the result; or the task is cancelled.
    async fn to_its_end(&self, limit: Option<Duration>) -> Result<String, Failure> {
        let mut work = pin!(self.work());
        let late = async {
            match limit {
                Some(limit) => sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let mut failure = tokio::select! {
            ended = &mut work => match ended {
                Ok(result) => return Ok(result),
                Err(failure) => failure,
            },
            () = interrupted() => Failure::new(Exit::Interrupted, "interrupted", "", "", ""),
            () = late => Failure::new(
                Exit::TimedOut,
                "the time limit has passed",
                "the task",
                "see that the others take part in the same computation, or give a longer --timeout",
                LATE,
            ),
        };
        if *self.stage.borrow() == Stage::Making {
            // The node may make the task at this very moment: then it must be known to be cancelled.
            let mut stage = self.stage.subscribe();
            let made = async {
                tokio::select! {
                    _ = &mut work => {}
                    _ = stage.wait_for(|stage| *stage != Stage::Making) => {}
                }
            };
            let _ = timeout(FAREWELL, made).await;
        }
        let object = match &*self.stage.borrow() {
            Stage::Made(object) => Some(object.clone()),
            Stage::Before | Stage::Making | Stage::Over => None,
        };
        if failure.exit == Exit::TimedOut && failure.code == LATE {
            failure.what.push_str(&self.missing(object.as_deref()).await);
        }
        Err(match object {
            Some(object) => self.cancel(&object, failure).await,
            None => failure,
        })
    }

    /// Who was being waited for, in brackets.
    async fn missing(&self, object: Option<&str>) -> String {
        let mut who = self.progress.last();
        if let Some(object) = object {
            let progress = async {
                let simon = Simon::select(self.client).await?;
                simon.value("progress", "{}", Some(object)).await
            };
            if let Ok(Ok(progress)) = timeout(FAREWELL, progress).await {
                who = waiting_for(&progress);
            }
        }
        if who.is_empty() { who } else { format!(" ({who})") }
    }

    /// Ends the task for all, and says so in what is reported.
    async fn cancel(&self, object: &str, mut failure: Failure) -> Failure {
        let cancel = async {
            let simon = Simon::select(self.client).await?;
            simon.call("cancel", "{}", Some(object), Duration::ZERO).await
        };
        match timeout(FAREWELL, cancel).await {
            Ok(Ok(_)) => failure.what.push_str("; the task was cancelled at all parties"),
            _ => failure
                .what
                .push_str("; the task could not be cancelled, and ends by its time limits"),
        }
        failure
    }

    async fn work(&self) -> Result<String, Failure> {
        let simon = Simon::select(self.client).await?;
        let (function, parameters) = self.way_in(&simon).await?;
        self.stage.send_replace(Stage::Making);
        let made = simon.make(function, &parameters).await;
        let object = made.inspect_err(|_| drop(self.stage.send_replace(Stage::Before)))?;
        self.stage.send_replace(Stage::Made(object.clone()));
        self.check_microprotocol(&simon, &object).await?;
        if function == "create" {
            self.invite(&simon, &object).await?;
        }
        let input = format!("{{\"data\":{}}}", self.plan.input.json.as_str());
        simon.call("input", &input, Some(&object), Duration::ZERO).await?;
        let numbers = if self.plan.input.count == 1 {
            "number"
        } else {
            "numbers"
        };
        self.progress.show(&format!(
            "{} {numbers} given; waiting for the others",
            self.plan.input.count
        ));
        tokio::select! {
            result = self.result(&simon, &object) => result,
            never = self.follow(&object) => match never {},
        }
    }

    /// Shows who is waited for, at each change. Goes on for ever; without this page of the node, [`Run::result`] shows it now and then.
    async fn follow(&self, object: &str) -> Infallible {
        while self.progress.is_shown() {
            if let Ok(mut events) = self.client.events(&format!("/tasks/{object}/events")).await {
                while let Ok(Some(event)) = events.next().await {
                    let progress: Value = serde_json::from_str(&event).unwrap_or_default();
                    let who = waiting_for(&progress);
                    if !who.is_empty() {
                        self.progress.show(&format!("waiting: {who}"));
                    }
                }
            }
            sleep(Duration::from_secs(2)).await;
        }
        std::future::pending().await
    }

    /// How this party comes to its task: the function to call, and its parameters.
    async fn way_in(&self, simon: &Simon<'_>) -> Result<(&'static str, Value), Failure> {
        let plan = &self.plan;
        let join = |invitation: &Value| {
            let mut parameters = json!({"invitation": invitation});
            if let Some(network) = &plan.network {
                parameters["network"] = network.to_json();
            }
            if let Some(policy) = &plan.policy {
                parameters["policy"] = policy.clone();
            }
            ("join", parameters)
        };
        if let Some(invitation) = &plan.invitation {
            return Ok(join(invitation));
        }
        if plan.create {
            let mut parameters = plan.wanted();
            if let Some(durations) = &plan.durations {
                parameters["durations"] = durations.clone();
            }
            if let Some(policy) = &plan.policy {
                parameters["policy"] = policy.clone();
            }
            return Ok(("create", parameters));
        }
        let wanted = plan.wanted();
        let mut told = String::new();
        // The first answer comes at once, so that it is told soon if something differs.
        let mut patience = 0;
        self.progress.show("waiting for the invitation of party 0");
        loop {
            let found = simon.invitations(&wanted, patience).await?;
            patience = PATIENCE;
            if let Some(exact) = found.iter().find(|entry| entry.get("differs").is_none()) {
                return Ok(join(exact));
            }
            if let Some(other) = found.first() {
                let differs = printable(other["differs"].as_str().unwrap_or_default());
                let text = format!(
                    "there is an invitation among the same nodes, but {differs} differ from yours; still waiting for one that fits"
                );
                if told != text {
                    self.progress.say(&text);
                    told = text;
                }
            }
        }
    }

    /// An invitation must be to what was said on the command line, if anything was.
    async fn check_microprotocol(&self, simon: &Simon<'_>, object: &str) -> Result<(), Failure> {
        let (Some(wanted), Some(_)) = (&self.plan.microprotocol, &self.plan.invitation) else {
            return Ok(());
        };
        let progress = simon.value("progress", "{}", Some(object)).await?;
        let invited = progress["microprotocol"].as_str().unwrap_or_default();
        let canonical = Entry::find(wanted).map_or(wanted.as_str(), |entry| entry.name);
        if canonical == invited {
            return Ok(());
        }
        Err(Failure::usage(
            format!(
                "the invitation is to {}, not to {}",
                printable(invited),
                printable(wanted)
            ),
            "ask who invited you; leave the name out to accept what the invitation says",
            "INVITATION_DIFFERS",
        ))
    }

    async fn invite(&self, simon: &Simon<'_>, object: &str) -> Result<(), Failure> {
        let invitation = simon.value("invite", "{}", Some(object)).await?;
        let Some(link) = invitation["link"].as_str().map(printable) else {
            return Ok(());
        };
        self.progress.say(&format!("invitation: {link}"));
        if self.plan.qr {
            self.progress.say_qr(&link);
        }
        Ok(())
    }

    async fn result(&self, simon: &Simon<'_>, object: &str) -> Result<String, Failure> {
        let parameters = json!({"timeout": PATIENCE}).to_string();
        let mut short = Some(json!({"timeout": 0}).to_string());
        let mut seen = Instant::now();
        loop {
            // The first answer comes at once, so that it is shown who is waited for.
            let asked = short.take().unwrap_or_else(|| parameters.clone());
            let reply = simon
                .call("result", &asked, Some(object), Duration::from_secs(PATIENCE))
                .await;
            match reply {
                Ok(Reply::Value(result)) => {
                    self.stage.send_replace(Stage::Over);
                    return Ok(result);
                }
                Ok(Reply::Waiting(text)) => {
                    self.progress.show(&format!("waiting: {text}"));
                    seen = Instant::now();
                }
                Ok(Reply::Object(_)) => {}
                Err(failure) if failure.exit == Exit::Unreachable && seen.elapsed() < AWAY => {
                    self.progress.show(&format!("{}; trying again", failure.what));
                    sleep(Duration::from_secs(1)).await;
                }
                Err(failure) => {
                    if failure.code == "TASK_FAILED" {
                        self.stage.send_replace(Stage::Over);
                    }
                    return Err(failure);
                }
            }
        }
    }
}
