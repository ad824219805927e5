//! A task as its owner sees it: created or joined, given an input, watched, ended. It drives one [`Session`] over the [`Peers`] and keeps what must survive a
//! restart in the [`Store`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fdrtd_mpc::microprotocol::{Configured, Entry};
use fdrtd_mpc::net::Party;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::descriptor::{Descriptor, Invitation};
use crate::identity::{Identity, PeerKey};
use crate::metrics::Metrics;
use crate::peer::{PeerError, Peers};
use crate::policy::{Permit, Profile};
use crate::problem::Problem;
use crate::reason::{Reason, Stage, parties};
use crate::services::{Clock, Principal};
use crate::session::{End, JobDone, Millis, Session, is_data};
use crate::store::{Store, StoreError};

/// Work on more bytes than this goes to the pool; less is done at once by whoever brings the message.
pub const INLINE_BYTES: usize = 256 * 1024;

/// Kind of a task's record in the store.
pub const RECORD: &str = "task";

/// What all tasks of a node use.
pub struct Context {
    /// This node.
    pub identity: Arc<Identity>,
    /// The other nodes.
    pub peers: Peers,
    /// What survives a restart.
    pub store: Store,
    /// As many heavy jobs at once as there are cores.
    pub pool: Arc<Semaphore>,
    /// Counters.
    pub metrics: Metrics,
    /// Time of day, for expiry.
    pub clock: Clock,
    /// How long an ended task is kept, at least.
    pub time_to_live: Duration,
    /// True when the node is to end: whoever waits is answered at once.
    pub stopping: watch::Sender<bool>,
    /// Ends the process at a chosen point; only tests that link this crate can set it.
    pub stop_at: Option<StopAt>,
    /// When this node was started; [`Context::now`] counts from long before it.
    pub start: Instant,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// A point at which a test's node falls over, as if its machine had lost power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAt {
    /// When it would send its data.
    Data,
    /// When it would send its closing digest; its data have been delivered.
    Closing,
}

impl Context {
    /// Milliseconds on a monotonic clock. It starts high, so that times before the start of the process can be told, too.
    pub fn now(&self) -> Millis {
        (1 << 40) + Millis::try_from(self.start.elapsed().as_millis()).unwrap_or(Millis::MAX >> 1)
    }

    fn at(&self, millis: Millis) -> Instant {
        self.start + Duration::from_millis(millis.saturating_sub(1 << 40))
    }

    fn millis(&self, instant: Instant) -> Millis {
        (1 << 40) + Millis::try_from(instant.saturating_duration_since(self.start).as_millis()).unwrap_or(0)
    }
}

/// How a task is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By its first input.
    OnInput,
    /// By `start()`, after any number of inputs.
    OnStart,
}

/// What of a task survives a restart. Encrypted by the store.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) object: Uuid,
    pub(crate) owner: String,
    pub(crate) descriptor: Descriptor,
    pub(crate) me: usize,
    pub(crate) profile: Profile,
    pub(crate) mode: Mode,
    pub(crate) inputs: Vec<String>,
    pub(crate) sealed: bool,
    /// Seconds since 1970.
    pub(crate) since: u64,
    pub(crate) phase: RecordPhase,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum RecordPhase {
    Waiting,
    Running,
    Done { result: String, unconfirmed: Vec<usize> },
    Failed { reason: Reason, reported_by: Option<usize> },
}

/// See the [module](self).
pub struct Task {
    /// Names it to its owner, who alone knows it.
    pub object: Uuid,
    /// Whose it is.
    pub owner: Principal,
    profile: Profile,
    mode: Mode,
    configured: Arc<Configured>,
    core: Mutex<Core>,
    changed: watch::Sender<u64>,
    context: Arc<Context>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

struct Core {
    session: Session,
    inputs: Vec<Zeroizing<String>>,
    sealed: bool,
    limit: usize,
    resolve_errors: Vec<Option<PeerError>>,
    running_recorded: bool,
    ended: Option<Instant>,
    deleted: bool,
}

impl Core {
    fn restore(&mut self, end: End) {
        self.session.restore(end);
        self.ended = Some(Instant::now());
    }
}

/// What `result()` found.
#[derive(Debug)]
pub enum Outcome {
    /// JSON text.
    Result(String),
    /// Not yet; for people.
    Waiting(String),
}

impl Task {
    /// A new task: `permit` is the leave to take part, `entry` the microprotocol of `descriptor`.
    pub(crate) fn new(
        context: Arc<Context>,
        permit: &Permit,
        descriptor: Descriptor,
        configured: Configured,
        me: Party,
        mode: Mode,
    ) -> Arc<Task> {
        let session = Session::new(descriptor, me, context.identity.key(), permit.profile(), context.now());
        Self::build(
            context,
            Uuid::new_v4(),
            permit.owner().clone(),
            permit.profile(),
            mode,
            configured,
            session,
        )
    }

    /// A task that was there before a restart.
    pub(crate) fn restore(context: Arc<Context>, record: Record) -> Option<Arc<Task>> {
        let configured = Entry::find(&record.descriptor.microprotocol)?
            .configure(&record.descriptor.parameters)
            .ok()?;
        let parties = record.descriptor.nodes.len();
        let me = Party::new(record.me, parties)?;
        let age = context.clock.now().saturating_sub(record.since).saturating_mul(1000);
        let since = context.now().saturating_sub(age);
        let session = Session::new(record.descriptor, me, context.identity.key(), record.profile, since);
        let owner = Principal::from_record(&record.owner);
        let task = Self::build(
            context,
            record.object,
            owner,
            record.profile,
            record.mode,
            configured,
            session,
        );
        {
            let mut core = task.lock();
            core.sealed = record.sealed;
            match record.phase {
                RecordPhase::Waiting => {
                    core.inputs = record.inputs.into_iter().map(Zeroizing::new).collect();
                    let now = task.context.now();
                    if core.sealed {
                        let texts: Vec<&str> = core.inputs.iter().map(|text| text.as_str()).collect();
                        let prepared = task.configured.input(parties, &texts).ok()?;
                        core.session.give_input(prepared, now);
                    }
                }
                RecordPhase::Running => {
                    // Peers notice the restart by themselves; the computation is never repeated.
                    core.session.fail(Reason::PeerRestarted { party: record.me });
                }
                RecordPhase::Done { result, unconfirmed } => core.restore(End::Done { result, unconfirmed }),
                RecordPhase::Failed { reason, reported_by } => core.restore(End::Failed { reason, reported_by }),
            }
        }
        Some(task)
    }

    fn build(
        context: Arc<Context>,
        object: Uuid,
        owner: Principal,
        profile: Profile,
        mode: Mode,
        configured: Configured,
        session: Session,
    ) -> Arc<Task> {
        let parties = session.descriptor().nodes.len();
        let core = Core {
            session,
            inputs: Vec::new(),
            sealed: false,
            limit: 0,
            resolve_errors: vec![None; parties],
            running_recorded: false,
            ended: None,
            deleted: false,
        };
        let configured = Arc::new(configured);
        Arc::new(Task {
            object,
            owner,
            profile,
            mode,
            configured,
            core: Mutex::new(core),
            changed: watch::Sender::new(0),
            context,
        })
    }

    /// The task's id, the same at every party.
    pub fn id(&self) -> Uuid {
        self.lock().session.descriptor().task
    }

    /// This node's place in it.
    pub fn me(&self) -> Party {
        self.lock().session.me()
    }

    /// Whether it has ended, and when.
    pub fn ended(&self) -> Option<Instant> {
        self.lock().ended
    }

    /// How long it is kept after its end.
    pub fn kept(&self) -> Duration {
        self.context
            .time_to_live
            .max(Duration::from_millis(self.lock().session.descriptor().durations.join))
    }

    /// Starts what runs in the background until it ends: finding the peers, and the deadlines. `on_key` is told each peer's key.
    pub(crate) fn launch(self: &Arc<Self>, on_key: impl Fn(Party, PeerKey) + Clone + Send + 'static) {
        let nodes = self.lock().session.descriptor().nodes.clone();
        for party in Party::all(nodes.len()).filter(|party| *party != self.me()) {
            let (task, url, on_key) = (Arc::clone(self), nodes[party.index()].clone(), on_key.clone());
            tokio::spawn(async move {
                let mut pause = Duration::from_millis(100);
                while task.ended().is_none() {
                    match task.context.peers.resolve(&url).await {
                        Ok(key) => return on_key(party, key),
                        Err(error) => {
                            task.lock().resolve_errors[party.index()] = Some(error);
                            task.touch();
                        }
                    }
                    let mut changed = task.changed.subscribe();
                    let ended = async { while task.ended().is_none() && changed.changed().await.is_ok() {} };
                    let _ = tokio::time::timeout(pause, ended).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            });
        }
        let task = Arc::clone(self);
        tokio::spawn(async move { task.keep_time().await });
    }

    /// A peer's key became known; `hello` is what it said before.
    pub(crate) fn found(self: &Arc<Self>, party: Party, key: PeerKey, hello: Option<bytes::Bytes>) {
        self.lock().resolve_errors[party.index()] = None;
        self.with(|session, now| {
            if session.end().is_none() {
                // Wanted and known at once: whoever is wanted is let go at the end.
                let descriptor = session.descriptor();
                let url = &descriptor.nodes[party.index()];
                self.context.peers.want(key, url, *descriptor.task.as_bytes());
            }
            session.set_key(party, key);
            if let Some(hello) = hello {
                session.receive(party, &hello, now);
            }
        });
    }

    /// The party with that key, if it is known.
    pub(crate) fn party_of(&self, key: &PeerKey) -> Option<Party> {
        self.lock().session.party_of(key)
    }

    /// A message of a peer.
    pub(crate) fn receive(self: &Arc<Self>, from: Party, message: &bytes::Bytes) {
        self.with(|session, now| session.receive(from, message, now));
    }

    /// What to tell a peer that joins now, if the task has ended without a result.
    pub(crate) fn farewell(&self) -> Option<bytes::Bytes> {
        self.lock().session.farewell()
    }

    /// A peer's node was started anew.
    pub(crate) fn peer_restarted(self: &Arc<Self>, party: Party) {
        self.with(|session, now| session.peer_restarted(party, now));
    }

    /// The connection to a peer broke, or is there again.
    pub(crate) fn peer_away(self: &Arc<Self>, party: Party, away: bool) {
        self.with(|session, now| session.set_away(party, away, now));
    }

    /// A peer sent more than the protocol has room for.
    pub(crate) fn peer_sent_too_much(self: &Arc<Self>, party: Party) {
        self.with(|session, _| session.fail(Reason::PeerMalformed { party: party.index() }));
    }

    /// The known peers, and how long each may be silent.
    pub(crate) fn silences(&self) -> Vec<(PeerKey, Duration)> {
        let core = self.lock();
        let silence = Duration::from_millis(core.session.descriptor().durations.silence);
        self.others(&core.session)
            .into_iter()
            .map(|key| (key, silence))
            .collect()
    }

    /// What this party hands to the others.
    pub fn invitation(&self) -> Invitation {
        let core = self.lock();
        Invitation::new(
            core.session.descriptor(),
            core.session.keys(),
            self.profile,
            core.session.me().index(),
        )
    }

    /// Gives an input (JSON text). It is validated before anything is kept; what cannot be used leaves the task as it was.
    ///
    /// # Errors
    /// 422 with the position of what cannot be used; 409 if the task has started or ended.
    pub async fn input(self: &Arc<Self>, text: Zeroizing<String>) -> Result<(), Problem> {
        let (mut texts, parties) = {
            let core = self.lock();
            self.check_open(&core)?;
            (core.inputs.clone(), core.session.descriptor().nodes.len())
        };
        texts.push(text);
        let prepared = self.prepare(texts.clone(), parties).await?;
        {
            let mut core = self.lock();
            self.check_open(&core)?;
            if core.inputs.len() + 1 != texts.len() {
                return Err(busy());
            }
            core.inputs = texts;
            core.sealed = self.mode == Mode::OnInput;
        }
        self.put_record().await?;
        if self.mode == Mode::OnInput {
            self.with(|session, now| session.give_input(prepared, now));
        }
        Ok(())
    }

    /// Starts a task that gathers its inputs.
    ///
    /// # Errors
    /// 409 if it has started, ended, or has no input.
    pub async fn start(self: &Arc<Self>) -> Result<(), Problem> {
        let (texts, parties) = {
            let mut core = self.lock();
            self.check_open(&core)?;
            if core.inputs.is_empty() {
                return Err(Problem::state(
                    "NO_INPUT",
                    "the task has no input yet",
                    "call input(source=…) before start()",
                ));
            }
            core.sealed = true;
            (core.inputs.clone(), core.session.descriptor().nodes.len())
        };
        let prepared = self.prepare(texts, parties).await?;
        self.put_record().await?;
        self.with(|session, now| session.give_input(prepared, now));
        Ok(())
    }

    async fn prepare(
        &self,
        texts: Vec<Zeroizing<String>>,
        parties: usize,
    ) -> Result<fdrtd_mpc::microprotocol::Prepared, Problem> {
        let configured = Arc::clone(&self.configured);
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let read = move || {
            let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
            configured.input(parties, &texts)
        };
        let prepared = if bytes <= INLINE_BYTES {
            read()
        } else {
            let _permit = self.context.pool.acquire().await;
            let read = tokio::task::spawn_blocking(read);
            read.await
                .map_err(|_| Problem::internal("INTERNAL", "reading the input failed", "report it to the operator"))?
        };
        prepared.map_err(|refusal| {
            Problem::input("INPUT_REFUSED", refusal.message, refusal.hint)
                .with("reason", refusal.code)
                .with("at", refusal.at)
        })
    }

    fn check_open(&self, core: &Core) -> Result<(), Problem> {
        if let Some(end) = core.session.end() {
            return Err(match end {
                End::Done { .. } => Problem::state(
                    "TASK_FINISHED",
                    "the task has its result already",
                    "create a new task for new data",
                ),
                End::Failed { reason, reported_by } => failed(reason, *reported_by, core.session.descriptor()),
            });
        }
        if core.sealed {
            return Err(Problem::state(
                "ALREADY_STARTED",
                "the task has its input already and has started",
                "give all numbers at once, as a list; or make the task with create_task and start it with start()",
            ));
        }
        Ok(())
    }

    /// Waits up to `patience` for the end.
    ///
    /// # Errors
    /// 409 if it failed.
    pub async fn result(&self, patience: Duration) -> Result<Outcome, Problem> {
        let mut changed = self.changed.subscribe();
        let mut stopping = self.context.stopping.subscribe();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            {
                let core = self.lock();
                match core.session.end() {
                    Some(End::Done { result, unconfirmed }) => {
                        return Ok(Outcome::Result(whole_result(
                            result,
                            core.session.descriptor().nodes.len(),
                            unconfirmed,
                        )));
                    }
                    Some(End::Failed { reason, reported_by }) => {
                        return Err(failed(reason, *reported_by, core.session.descriptor()));
                    }
                    None => {}
                }
            }
            let news = tokio::select! {
                news = tokio::time::timeout_at(deadline, changed.changed()) => matches!(news, Ok(Ok(()))),
                _ = stopping.wait_for(|stopping| *stopping) => false,
            };
            if !news {
                return Ok(Outcome::Waiting(self.waiting_text()));
            }
        }
    }

    /// Ends it for all parties. Ending an ended task changes nothing.
    pub fn cancel(self: &Arc<Self>) {
        self.with(|session, _| session.cancel());
    }

    /// For people: who is waited for, why, and how long still.
    pub fn waiting_text(&self) -> String {
        let progress = self.progress();
        let waiting = progress["waiting_for"].as_array().cloned().unwrap_or_default();
        let texts: Vec<&str> = waiting.iter().filter_map(|entry| entry["why"].as_str()).collect();
        if texts.is_empty() {
            return "computing".to_owned();
        }
        texts.join("; ")
    }

    /// Everything its owner may know about it while it goes on.
    pub fn progress(&self) -> Value {
        let core = self.lock();
        let session = &core.session;
        let descriptor = session.descriptor();
        let (stage, waiting) = session.waiting_for();
        let keys = session.keys();
        let me = session.me().index();
        let mut statuses = Vec::new();
        for (index, url) in descriptor.nodes.iter().enumerate() {
            let (connected, problem) = self.connection(&core, &keys, index);
            statuses.push(json!({
                "party": index,
                "node": url,
                "fingerprint": keys[index].map(|key| key.fingerprint()),
                "myself": index == me,
                "connected": connected,
                "joined": session.joined(index),
                "input": session.has_input(index),
                "problem": problem,
            }));
        }
        let why = |index: usize| {
            let what = match stage {
                Stage::Join => "has not joined yet",
                Stage::Input if session.has_input(index) => "has given its input, but is not connected",
                Stage::Input => "has joined, but given no input yet",
                Stage::Run if session.opened() => "has not confirmed the result yet",
                Stage::Run => "has not sent its part yet",
            };
            let problem = statuses[index]["problem"]
                .as_str()
                .map(|text| format!(" ({text})"))
                .unwrap_or_default();
            let who = if index == me { " (this node)" } else { "" };
            format!("party {index}{who} at {} {what}{problem}", descriptor.nodes[index])
        };
        let waiting: Vec<Value> = match session.end() {
            Some(_) => Vec::new(),
            None => waiting
                .iter()
                .map(|index| json!({"party": index, "why": why(*index)}))
                .collect(),
        };
        let heard = self.heard(&keys);
        let left = session
            .next_deadline(&heard)
            .map(|at| at.saturating_sub(self.context.now()) / 1000);
        let mut progress = json!({
            "task": descriptor.task,
            "microprotocol": descriptor.microprotocol,
            "state": state_name(session),
            "party": me,
            "parties": statuses,
            "waiting_for": waiting,
            "round": session.round(),
            "rounds": self.configured.rounds,
            "seconds_left": left,
            "policy": session.profile(),
            "messages": {"data": session.data_messages_sent()},
        });
        if let Some(End::Failed { reason, reported_by }) = session.end() {
            progress["cause"] = cause(reason, *reported_by, descriptor);
        }
        progress
    }

    /// A line of the list of tasks.
    pub fn summary(&self) -> Value {
        let core = self.lock();
        let descriptor = core.session.descriptor();
        json!({
            "task": descriptor.task,
            "microprotocol": descriptor.microprotocol,
            "state": state_name(&core.session),
            "party": core.session.me().index(),
            "parties": descriptor.nodes.len(),
        })
    }

    fn connection(&self, core: &Core, keys: &[Option<PeerKey>], index: usize) -> (bool, Option<String>) {
        if index == core.session.me().index() || core.session.end().is_some() {
            return (true, None);
        }
        let Some(key) = keys[index] else {
            let error = core.resolve_errors[index].as_ref();
            return (
                false,
                Some(error.map_or("looking for its node".to_owned(), |error| {
                    format!("{error}; {}", error.hint())
                })),
            );
        };
        let status = self.context.peers.status(key);
        let problem = if status.connected {
            None
        } else {
            Some(
                status
                    .last_error
                    .map_or("not connected".to_owned(), |error| format!("{error}; {}", error.hint())),
            )
        };
        (status.connected, problem)
    }

    fn heard(&self, keys: &[Option<PeerKey>]) -> Vec<Millis> {
        let heard = |key: &Option<PeerKey>| {
            key.as_ref()
                .and_then(|key| self.context.peers.status(*key).last_heard)
                .map_or(0, |instant| self.context.millis(instant))
        };
        keys.iter().map(heard).collect()
    }

    /// Changes the session, then does everything that follows from it.
    fn with(self: &Arc<Self>, change: impl FnOnce(&mut Session, Millis)) {
        let mut core = self.lock();
        let now = self.context.now();
        change(&mut core.session, now);
        self.settle(core);
    }

    /// Computes what can be computed, sends what is to be sent, notes what has changed.
    fn settle(self: &Arc<Self>, mut core: MutexGuard<'_, Core>) {
        loop {
            self.flush(&mut core);
            let Some(job) = core.session.job() else { break };
            if job.weight <= INLINE_BYTES {
                core.session.finish(job.run());
                continue;
            }
            let task = Arc::clone(self);
            tokio::spawn(async move {
                let _permit = Arc::clone(&task.context.pool).acquire_owned().await;
                let done: Result<JobDone, _> = tokio::task::spawn_blocking(move || job.run()).await;
                match done {
                    Ok(done) => task.with(|session, _| session.finish(done)),
                    Err(_) => task.with(|session, _| {
                        session.fail(Reason::Internal {
                            party: session.me().index(),
                        })
                    }),
                }
            });
            break;
        }
        let entered = core.session.running() && !core.running_recorded;
        core.running_recorded |= entered;
        let ended = core.session.end().is_some() && core.ended.is_none();
        if ended {
            core.ended = Some(Instant::now());
            core.inputs.clear();
            core.sealed = true;
            self.log_end(&core);
        }
        drop(core);
        if entered || ended {
            self.keep_record();
        }
        self.touch();
    }

    /// Sends what is to be sent. Under the task's lock, so that the order per peer is kept.
    fn flush(&self, core: &mut Core) {
        let id = *core.session.descriptor().task.as_bytes();
        let keys = core.session.keys();
        let limit = core.session.limit();
        if limit != core.limit {
            core.limit = limit;
            for key in self.others(&core.session) {
                self.context.peers.set_limit(key, id, limit);
            }
        }
        for (party, message) in core.session.outgoing() {
            if self.stops_at(core, &message) {
                continue;
            }
            if let Some(key) = &keys[party.index()] {
                self.context.metrics.task_message();
                self.context.peers.send(*key, id, message);
            }
        }
    }

    /// Falls over where a test wants it.
    fn stops_at(&self, core: &Core, message: &[u8]) -> bool {
        let Some(stop) = self.context.stop_at else { return false };
        if !is_data(message) || (stop == StopAt::Closing && !core.session.opened()) {
            return false;
        }
        if stop == StopAt::Data {
            std::process::abort();
        }
        let others = self.others(&core.session);
        let (peers, id) = (self.context.peers.clone(), *core.session.descriptor().task.as_bytes());
        tokio::spawn(async move {
            peers.delivered(&others, id).await;
            std::process::abort();
        });
        true
    }

    /// The keys of the other parties, as far as known.
    fn others(&self, session: &Session) -> Vec<PeerKey> {
        let own = self.context.identity.key();
        session.keys().into_iter().flatten().filter(|key| *key != own).collect()
    }

    async fn keep_time(self: Arc<Self>) {
        let mut changed = self.changed.subscribe();
        loop {
            let deadline = {
                let core = self.lock();
                core.session.next_deadline(&self.heard(&core.session.keys()))
            };
            let Some(deadline) = deadline else { break };
            let wait = tokio::time::sleep_until(self.context.at(deadline).into());
            tokio::select! {
                () = wait => {
                    let heard = self.heard(&self.lock().session.keys());
                    self.with(|session, now| session.tick(now, &heard));
                }
                _ = changed.changed() => {}
            }
        }
        self.let_go().await;
    }

    /// After the end: the last messages are still delivered, for as long as a peer may be silent, then the peers are let go.
    async fn let_go(&self) {
        let (others, id, silence) = {
            let core = self.lock();
            let descriptor = core.session.descriptor();
            (
                self.others(&core.session),
                *descriptor.task.as_bytes(),
                descriptor.durations.silence,
            )
        };
        let delivered = self.context.peers.delivered(&others, id);
        let _ = tokio::time::timeout(Duration::from_millis(silence), delivered).await;
        for key in others {
            self.context.peers.forget(key, id);
        }
    }

    fn touch(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_end(&self, core: &Core) {
        let descriptor = core.session.descriptor();
        match core.session.end() {
            Some(End::Done { unconfirmed, .. }) => {
                self.context.metrics.task_done();
                tracing::info!(task = %descriptor.task, unconfirmed = unconfirmed.len(), "task done");
            }
            Some(End::Failed { reason, .. }) => {
                self.context.metrics.task_failed();
                tracing::info!(task = %descriptor.task, code = reason.code(), party = ?reason.party(), "task failed");
            }
            None => {}
        }
    }

    /// Writes the record without waiting for it.
    fn keep_record(self: &Arc<Self>) {
        if !self.context.store.is_ephemeral() {
            let (task, written) = (Arc::clone(self), self.put_record());
            tokio::spawn(async move {
                if written.await.is_err() {
                    tracing::error!(task = %task.id(), "the task's record could not be written");
                }
            });
        }
    }

    /// Writes what must survive a restart; the future ends when it is written.
    ///
    /// It is queued by the call itself and under the task's lock: the last record is that of the last state, and none comes after the deletion.
    pub(crate) fn put_record(&self) -> impl Future<Output = Result<(), Problem>> + Send + use<> {
        let core = self.lock();
        let record = (!self.context.store.is_ephemeral() && !core.deleted).then(|| self.record(&core));
        let written = record.map(|(bytes, expires)| self.context.store.put(RECORD, self.object.to_string(), bytes, expires));
        async move {
            match written {
                Some(written) => written.await.map_err(|_| {
                    Problem::internal(
                        "STORAGE_FAILED",
                        "the node could not write to its storage",
                        "tell the node's operator",
                    )
                }),
                None => Ok(()),
            }
        }
    }

    /// Deletes what would survive a restart.
    pub(crate) fn delete_record(&self) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let mut core = self.lock();
        core.deleted = true;
        self.context.store.delete(RECORD, self.object.to_string())
    }

    /// What must survive a restart, and until when.
    fn record(&self, core: &Core) -> (Zeroizing<Vec<u8>>, u64) {
        let session = &core.session;
        let phase = match session.end() {
            Some(End::Done { result, unconfirmed }) => RecordPhase::Done {
                result: result.clone(),
                unconfirmed: unconfirmed.clone(),
            },
            Some(End::Failed { reason, reported_by }) => RecordPhase::Failed {
                reason: reason.clone(),
                reported_by: *reported_by,
            },
            None if session.running() => RecordPhase::Running,
            None => RecordPhase::Waiting,
        };
        let waiting = matches!(phase, RecordPhase::Waiting);
        let age = self.context.now().saturating_sub(session.since()) / 1000;
        let record = Record {
            object: self.object,
            owner: self.owner.recorded().to_owned(),
            descriptor: session.descriptor().clone(),
            me: session.me().index(),
            profile: self.profile,
            mode: self.mode,
            inputs: if waiting {
                core.inputs.iter().map(|text| text.to_string()).collect()
            } else {
                Vec::new()
            },
            sealed: core.sealed,
            since: self.context.clock.now().saturating_sub(age),
            phase,
        };
        let durations = &session.descriptor().durations;
        let kept = (durations.join + durations.input + durations.run) / 1000 + self.context.time_to_live.as_secs();
        let bytes = Zeroizing::new(serde_json::to_vec(&record).unwrap_or_default());
        for text in record.inputs {
            drop(Zeroizing::new(text));
        }
        (bytes, self.context.clock.now() + kept)
    }
}

fn busy() -> Problem {
    Problem::state(
        "BUSY",
        "another input of this task is being read at the same time",
        "give one input after the other",
    )
}

fn state_name(session: &Session) -> &'static str {
    match session.end() {
        Some(End::Done { .. }) => "done",
        Some(End::Failed {
            reason: Reason::Cancelled { .. },
            ..
        }) => "cancelled",
        Some(End::Failed {
            reason: Reason::Expired { .. },
            ..
        }) => "expired",
        Some(End::Failed { .. }) => "failed",
        None if session.running() => "running",
        None => match session.waiting_for().0 {
            Stage::Join if session.joined_count() == 1 => "created",
            Stage::Join => "joining",
            _ => "joined",
        },
    }
}

/// `{"inputs": parties, "result": …}` with warnings, if there are any; equal to the byte at every party that has it confirmed.
fn whole_result(result: &str, inputs: usize, unconfirmed: &[usize]) -> String {
    let mut warnings = Vec::new();
    if inputs == 2 {
        warnings.push(json!({
            "code": "TWO_PARTIES",
            "message": "with two parties each of them learns the other's input: it is the result minus its own",
        }));
    }
    if !unconfirmed.is_empty() {
        warnings.push(json!({
            "code": "UNCONFIRMED",
            "message": format!("{} did not confirm that it has the same result", parties(unconfirmed)),
            "parties": unconfirmed,
        }));
    }
    if warnings.is_empty() {
        format!("{{\"inputs\":{inputs},\"result\":{result}}}")
    } else {
        format!(
            "{{\"inputs\":{inputs},\"result\":{result},\"warnings\":{}}}",
            Value::from(warnings)
        )
    }
}

fn cause(reason: &Reason, reported_by: Option<usize>, descriptor: &Descriptor) -> Value {
    let mut cause = serde_json::to_value(reason).unwrap_or_default();
    cause["message"] = reason.to_string().into();
    cause["hint"] = reason.hint().into();
    if let Some(party) = reason.party() {
        cause["party"] = party.into();
        cause["node"] = descriptor.nodes.get(party).map(|url| url.to_string()).into();
    }
    if let Some(party) = reported_by {
        cause["reported_by"] = party.into();
    }
    cause
}

fn failed(reason: &Reason, reported_by: Option<usize>, descriptor: &Descriptor) -> Problem {
    Problem::state(
        "TASK_FAILED",
        format!("the task has no result: {reason}"),
        reason.hint(),
    )
    .with("cause", cause(reason, reported_by, descriptor))
}
