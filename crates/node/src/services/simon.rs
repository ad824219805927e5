//! Simon: tasks that several nodes compute together.
//!
//! `create`/`join` make a task that its first `input` starts; `create_task`/`join_task` make one that gathers inputs until `start`. Every mistake in the
//! description of the network has an error of its own, and as many as possible are found before anything is sent.

mod check;
mod compute;
mod invited;
mod network;
mod parties;
mod runs;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fdrtd_mpc::microprotocol::{ALL, Configured, Entry, Refusal};
use fdrtd_mpc::net::{MAX_PARTIES, Party};
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::descriptor::{Descriptor, Durations, Invitation, MAX_BYTES, PROTOCOL};
use crate::identity::PeerKey;
use crate::json::{Parameters, nearest};
use crate::policy::{Changes, Other, Permit, Policy, Question};
use crate::problem::{Problem, Side, quoted};
use crate::services::{Callback, Identifiers, Principal, Reply, callback_missing, not_public, object_unknown};
use crate::task::{First, Mode, Outcome, Task};
use crate::tasks::Tasks;
use crate::url::NodeUrl;
pub use compute::Delivery;
pub(crate) use compute::stopping;
use invited::Invited;
use network::read_network;
use parties::Promised;
use runs::Runs;

/// The longest of each duration, in seconds: 30 days.
const LONGEST: f64 = 30.0 * 24.0 * 3600.0;

/// The service.
#[derive(Clone, Debug)]
pub struct Simon {
    tasks: Tasks,
    /// URLs under which this node is known to others, if configured.
    public_urls: Vec<NodeUrl>,
    /// The URL that has led to this node last, and when that was asked.
    myself: Arc<Mutex<Option<(NodeUrl, Instant)>>>,
    /// What is computed in one call.
    runs: Runs,
}

/// How long `result` waits if it is not told, and at most. On the face of representations it holds until the task has ended.
pub struct Holding {
    /// If it is not told.
    pub usual: Duration,
    /// At most.
    pub most: Duration,
}

impl Holding {
    /// On the handle face: no longer than proxies between client and node hold a request.
    pub const SHORT: Holding = Holding {
        usual: Duration::from_secs(10),
        most: Duration::from_secs(60),
    };
    /// Until the end of everything that a task may wait for.
    pub const LONG: Holding = Holding {
        usual: Duration::from_secs(100 * 24 * 3600),
        most: Duration::from_secs(100 * 24 * 3600),
    };

    pub(crate) fn read(&self, parameters: &mut Parameters) -> Result<Duration, Problem> {
        match parameters.optional("timeout") {
            Some(raw) => Ok(Duration::from_secs_f64(raw.seconds()?.min(self.most.as_secs_f64()))),
            None => Ok(self.usual),
        }
    }
}

/// Everything that `create` and `join` have found out about the task to be made.
struct Plan<'a> {
    /// What the audit calls it.
    action: &'static str,
    policy: Policy,
    entry: &'a Entry,
    configured: Configured,
    descriptor: Descriptor,
    me: Party,
    mode: Mode,
    promised: Promised<'a>,
    /// An input that is there already.
    first: Option<First>,
}

impl Simon {
    /// Its functions.
    pub const PUBLIC: &'static [&'static str] = &[
        "create",
        "join",
        "create_task",
        "join_task",
        "compute",
        "get_task",
        "invitations",
        "invite",
        "input",
        "start",
        "result",
        "progress",
        "receipt",
        "cancel",
        "delete",
    ];

    /// A service on `tasks`.
    pub fn new(tasks: Tasks, public_urls: Vec<NodeUrl>) -> Simon {
        let runs = Runs::of(&tasks);
        Simon {
            tasks,
            public_urls,
            myself: Arc::default(),
            runs,
        }
    }

    /// Forgets computations whose task is kept no longer.
    pub(crate) fn sweep(&self) -> usize {
        self.runs.sweep()
    }

    /// The tasks.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// What it is found by.
    pub fn identifiers() -> Identifiers {
        Identifiers(vec![
            ("namespace", "fdrtd"),
            ("plugin", "Simon"),
            ("version", "0.2.0"),
            ("microservice", "Simon"),
            ("protocol", "Simon"),
        ])
    }

    /// Calls a function.
    ///
    /// # Errors
    /// 403 for functions that do not exist, 404 for tasks that are not the caller's, 422 for unusable parameters, 409 for tasks in another state.
    pub async fn call(
        &self,
        who: &Principal,
        function: &str,
        parameters: Parameters,
        callback: Option<&Callback>,
        holding: &Holding,
    ) -> Result<Reply, Problem> {
        match function {
            "compute" => self.compute(who, parameters).await,
            "get_task" => self.get_task(who, parameters),
            "create" => self.create(who, parameters, Mode::OnInput).await,
            "create_task" => self.create(who, parameters, Mode::OnStart).await,
            "join" => self.join(who, parameters, Mode::OnInput).await,
            "join_task" => self.join(who, parameters, Mode::OnStart).await,
            "invitations" => Ok(value(&self.invitations(who, parameters).await?)),
            _ if Self::PUBLIC.contains(&function) => self.call_task(who, function, parameters, callback, holding).await,
            _ => Err(not_public("Simon", function, Self::PUBLIC)),
        }
    }

    async fn call_task(
        &self,
        who: &Principal,
        function: &str,
        mut parameters: Parameters,
        callback: Option<&Callback>,
        holding: &Holding,
    ) -> Result<Reply, Problem> {
        let callback = callback.ok_or_else(|| callback_missing("Simon", function))?;
        let object = callback.as_str().and_then(|text| Uuid::try_parse(text).ok());
        let task = object
            .and_then(|object| self.tasks.of_object(who, &object))
            .ok_or_else(|| object_unknown("Simon"))?;
        match function {
            "input" => {
                let text = input_text(&mut parameters)?;
                parameters.finish()?;
                task.input(text).await?;
                Ok(Reply::Nothing)
            }
            "result" => {
                let patience = holding.read(&mut parameters)?;
                parameters.finish()?;
                match task.result(patience).await? {
                    Outcome::Result(text) => Ok(Reply::Value(text)),
                    Outcome::Waiting(text) => Ok(Reply::Waiting(text)),
                }
            }
            _ => {
                parameters.finish()?;
                match function {
                    "invite" => Ok(value(&task.invitation().shown())),
                    "progress" => Ok(value(&task.progress())),
                    "receipt" => Ok(value(&task.receipt(true)?)),
                    "start" => {
                        task.start().await?;
                        Ok(Reply::Nothing)
                    }
                    "cancel" => {
                        task.cancel(who);
                        task.flush_records().await?;
                        Ok(Reply::Nothing)
                    }
                    _ => {
                        self.tasks.delete(&task, who).await?;
                        Ok(Reply::Nothing)
                    }
                }
            }
        }
    }

    /// The caller's task of that id, as its parties know it. Anonymous callers are many, so for them a task has no name but its object's.
    fn get_task(&self, who: &Principal, mut parameters: Parameters) -> Result<Reply, Problem> {
        let id = parameters.required("task_id")?.string()?;
        parameters.finish()?;
        let found = Uuid::try_parse(&id).ok().and_then(|id| self.tasks.find(who, &id));
        let own = found.filter(|task| task.owner == *who);
        Ok(own.map_or(Reply::Nothing, |task| object_of(&task)))
    }

    async fn create(&self, who: &Principal, mut parameters: Parameters, mode: Mode) -> Result<Reply, Problem> {
        let entry = find_microprotocol(&parameters.required("microprotocol")?.string()?)?;
        let network = read_network(&parameters.required("network")?)?;
        let (chosen, durations) = (read_chosen(&mut parameters)?, read_durations(&mut parameters)?);
        let policy = self.read_policy(&mut parameters)?;
        parameters.finish()?;
        let configured = entry.configure(&chosen).map_err(refused)?;
        let descriptor = Descriptor {
            protocol: PROTOCOL,
            task: Uuid::new_v4(),
            microprotocol: entry.name.to_owned(),
            parameters: configured.canonical.clone(),
            nodes: network.nodes.clone(),
            durations,
            meeting: None,
        };
        let promised = Promised {
            keys: &[],
            inviter: None,
        };
        let plan = Plan {
            action: "task.create",
            policy,
            entry,
            configured,
            descriptor,
            me: network.myself,
            mode,
            promised,
            first: None,
        };
        let task = self.make(who, plan).await?;
        Ok(object_of(&task))
    }

    async fn join(&self, who: &Principal, mut parameters: Parameters, mode: Mode) -> Result<Reply, Problem> {
        let raw = parameters.required("invitation")?;
        let given = match parameters.optional("network") {
            Some(raw) => Some(read_network(&raw)?),
            None => None,
        };
        let policy = self.read_policy(&mut parameters)?;
        parameters.finish()?;
        let read = self.read_invited(&raw).await;
        let Invited { invitation, inviter } = read.inspect_err(|problem| self.note_refused_peer(who, None, problem))?;
        let network = self.place(&invitation.nodes, given).await?;
        let entry = find_microprotocol(&invitation.microprotocol)?;
        let configured = entry.configure(invitation.parameters.get()).map_err(refused)?;
        self.tasks.taken(&invitation.task)?;
        let descriptor = Descriptor {
            protocol: invitation.fdrtd,
            task: invitation.task,
            microprotocol: entry.name.to_owned(),
            parameters: configured.canonical.clone(),
            nodes: network.nodes.clone(),
            durations: invitation.durations,
            meeting: invitation.meeting,
        };
        let promised = Promised {
            keys: &invitation.keys,
            inviter,
        };
        let plan = Plan {
            action: "task.join",
            policy,
            entry,
            configured,
            descriptor,
            me: network.myself,
            mode,
            promised,
            first: None,
        };
        let task = self.make(who, plan).await?;
        Ok(object_of(&task))
    }

    async fn make(&self, who: &Principal, plan: Plan<'_>) -> Result<Arc<Task>, Problem> {
        let Plan {
            action,
            policy,
            entry,
            configured,
            descriptor,
            me,
            mode,
            promised,
            first,
        } = plan;
        self.check_size(&descriptor)?;
        let question = Question::new(entry, &configured, descriptor.nodes.len());
        // Before anybody is asked for anything.
        self.permit(who, &policy, &question, &descriptor, me, &[])?;
        let found = async {
            self.check_myself(&descriptor.nodes, me).await?;
            self.find_peers(&descriptor.nodes, me, promised).await
        };
        let known = found.await;
        let known = known.inspect_err(|problem| self.note_refused_peer(who, Some(&descriptor.task), problem))?;
        let permit = self.permit(who, &policy, &question, &descriptor, me, &known)?;
        let tasks = &self.tasks;
        tasks
            .add(action, &permit, descriptor, configured, me, mode, known, first)
            .await
    }

    /// Whether a task of that many words and parties is one for this node.
    fn check_size(&self, descriptor: &Descriptor) -> Result<(), Problem> {
        if descriptor.text().len() > MAX_BYTES {
            return Err(Problem::input(
                "NETWORK_TOO_LARGE",
                format!("the description of the task is longer than {MAX_BYTES} bytes"),
                "use shorter URLs, fewer parties, or parameters that take less room",
            ));
        }
        let most = self.tasks.quota().parties;
        if descriptor.nodes.len() > most {
            return Err(Problem::input(
                "NETWORK_SIZE",
                format!(
                    "the network has {} nodes; this node takes part in tasks of at most {most}",
                    descriptor.nodes.len()
                ),
                "use fewer parties, or ask this node's operator to raise limits.parties",
            )
            .exceeds("parties", most));
        }
        Ok(())
    }

    /// That this node does not contact a node, as its owner wants it.
    fn note_refused_peer(&self, who: &Principal, task: Option<&Uuid>, problem: &Problem) {
        if problem.side == Side::Policy {
            let detail = json!({"code": problem.code, "message": problem.message});
            self.tasks.context().audit.note(who, "peer.refused", task, &detail);
        }
    }

    /// This node's rules and what the caller wants besides.
    fn read_policy(&self, parameters: &mut Parameters) -> Result<Policy, Problem> {
        let own = self.tasks.context().policy.clone();
        match parameters.optional("policy") {
            Some(raw) => Ok(own.strictest(asked_policy(&raw.into_text())?)),
            None => Ok(own),
        }
    }

    fn permit(
        &self,
        who: &Principal,
        policy: &Policy,
        question: &Question,
        descriptor: &Descriptor,
        me: Party,
        known: &[(Party, PeerKey)],
    ) -> Result<Permit, Problem> {
        let context = self.tasks.context();
        let other = |party: Party| Other {
            url: &descriptor.nodes[party.index()],
            key: known.iter().find(|(found, _)| *found == party).map(|(_, key)| *key),
        };
        let others: Vec<Other<'_>> = Party::all(descriptor.nodes.len())
            .filter(|party| *party != me)
            .map(other)
            .collect();
        let permit = policy
            .clone()
            .permit(who.clone(), question, &context.organisations, &others);
        permit.map_err(|problem| {
            let detail =
                json!({"code": problem.code, "microprotocol": question.microprotocol, "parties": question.parties});
            context.audit.note(who, "task.refuse", Some(&descriptor.task), &detail);
            problem.with("party", me.index())
        })
    }
}

fn object_of(task: &Task) -> Reply {
    Reply::Object(Value::from(task.object.to_string()))
}

fn value(value: &Value) -> Reply {
    Reply::Value(value.to_string())
}

fn refused(refusal: Refusal) -> Problem {
    Problem::input("PARAMETERS_UNUSABLE", refusal.message, refusal.hint)
}

/// `source=handle` (already resolved to its value) or `data=…`.
fn input_text(parameters: &mut Parameters) -> Result<Zeroizing<String>, Problem> {
    let named = parameters.has("source") || parameters.has("data");
    let source = parameters.optional("source");
    let data = parameters.optional("data");
    match (source, data) {
        // A value like any other, which the microprotocol will refuse as what it is.
        (None, None) if named => Ok(Zeroizing::new("null".to_owned())),
        (Some(raw), None) | (None, Some(raw)) => Ok(raw.into_text()),
        (Some(_), Some(_)) => Err(Problem::input(
            "PARAMETER_DUPLICATE",
            "input takes source or data, not both",
            "write input(source=handle) or input(data=[1, 2, 3])",
        )),
        (None, None) => Err(Problem::input(
            "PARAMETER_MISSING",
            "input needs source or data",
            "write input(source=handle) or input(data=[1, 2, 3])",
        )),
    }
}

/// What a caller wants besides this node's rules.
pub(crate) fn asked_policy(json: &str) -> Result<Policy, Problem> {
    Changes::of_requester(json).map_err(|error| {
        Problem::input(
            "POLICY_UNUSABLE",
            format!("the policy cannot be used: {error}"),
            "for example policy='strict', or policy={\"min_samples_own\": 8}; it can only tighten this node's rules",
        )
    })
}

pub(crate) fn find_microprotocol(name: &str) -> Result<&'static Entry, Problem> {
    Entry::find(name).ok_or_else(|| {
        let names = || {
            ALL.iter()
                .flat_map(|entry| std::iter::once(&entry.name).chain(entry.aliases))
                .copied()
        };
        let all = names().collect::<Vec<_>>().join(", ");
        let hint = match nearest(name, names()) {
            Some(close) => format!("did you mean {close}? This node has: {all}"),
            None => format!("this node has: {all}"),
        };
        Problem::input(
            "MICROPROTOCOL_UNKNOWN",
            format!("there is no microprotocol {}", quoted(name)),
            hint,
        )
    })
}

/// The microprotocol's parameters, an object, as the text that came.
fn read_chosen(parameters: &mut Parameters) -> Result<Zeroizing<String>, Problem> {
    let Some(raw) = parameters.optional("parameters") else {
        return Ok(Zeroizing::new("{}".to_owned()));
    };
    raw.object()?;
    Ok(raw.into_text())
}

fn read_durations(parameters: &mut Parameters) -> Result<Durations, Problem> {
    let mut durations = Durations::default();
    let Some(raw) = parameters.optional("durations") else {
        return Ok(durations);
    };
    for (name, seconds) in raw.object()? {
        let slot = match name.as_str() {
            "join" => &mut durations.join,
            "input" => &mut durations.input,
            "run" => &mut durations.run,
            "silence" => &mut durations.silence,
            _ => {
                return Err(Problem::input(
                    "DURATIONS_UNUSABLE",
                    format!("there is no duration {}", quoted(&name)),
                    "durations are join, input, run and silence, in seconds",
                ));
            }
        };
        let seconds = seconds.as_f64().filter(|seconds| (0.1..=LONGEST).contains(seconds));
        let seconds = seconds.ok_or_else(|| {
            Problem::input(
                "DURATIONS_UNUSABLE",
                format!("the duration {name} is not a number of seconds from 0.1 to {LONGEST}"),
                "for example durations={\"join\": 3600, \"input\": 3600, \"run\": 600, \"silence\": 30}",
            )
        })?;
        // In range, so neither negative nor too large.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let millis = (seconds * 1000.0).round() as u64;
        *slot = millis;
    }
    Ok(durations)
}

fn not_an_invitation(detail: &str) -> Problem {
    Problem::input(
        "INVITATION_MALFORMED",
        format!("this is not an invitation: {detail}"),
        "hand over what task.invite() returned, unchanged: the object, its JSON text, or its member 'link'",
    )
}

fn parse_invitation(text: &str) -> Result<Invitation, Problem> {
    let malformed = not_an_invitation;
    let object: serde_json::Map<String, Value> =
        serde_json::from_str(text).map_err(|_| malformed("it is not the JSON text of an object"))?;
    match object.get("fdrtd").and_then(Value::as_u64) {
        Some(version) if version == u64::from(PROTOCOL) => {}
        Some(version) => {
            return Err(Problem::input(
                "VERSIONS_DIFFER",
                format!(
                    "the invitation is of version {version} of the protocol between nodes, this node speaks {PROTOCOL}"
                ),
                "run the same version of fdrtd at all parties",
            ));
        }
        None => return Err(malformed("it has no member 'fdrtd'")),
    }
    let invitation: Invitation =
        serde_json::from_str(text).map_err(|_| malformed("a member is missing or of the wrong type"))?;
    if invitation.keys.len() > MAX_PARTIES {
        return Err(malformed("it has too many keys"));
    }
    if !invitation.durations.usable() {
        return Err(malformed("a duration is not from 0.1 seconds to 30 days"));
    }
    Ok(invitation)
}
