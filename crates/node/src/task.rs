//! A task as its owner sees it: created or joined, given an input, watched, ended. It drives one [`Session`] over the [`Peers`](crate::peer::Peers) and keeps what must survive a
//! restart in the [`Store`](crate::store::Store).

mod background;
pub(crate) mod bases;
mod consent;
mod context;
mod first;
pub(crate) mod input;
mod progress;
mod record;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fdrtd_mpc::microprotocol::{Configured, Entry};
use fdrtd_mpc::net::Party;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::chain::Note;
use crate::descriptor::{Descriptor, Invitation, Meeting};
use crate::identity::PeerKey;
use crate::peer::PeerError;
use crate::policy::{Permit, Policy, Rule};
use crate::problem::Problem;
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::services::Principal;
use crate::session::{End, Job, JobDone, Millis, Session, is_data};
use crate::store::StoreError;

pub use bases::Bases;
pub use context::{Context, Memory, StopAt};
pub(crate) use first::First;
pub(crate) use progress::cause;
use progress::whole_result;
pub(crate) use record::{RECORD, Record};

/// Rounds may take microseconds. Those who watch are not told of more than one in so much time.
const TELL_EACH: Duration = Duration::from_millis(50);

/// How a task is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By its first input.
    OnInput,
    /// By `start()`, after any number of inputs.
    OnStart,
}

/// See the [module](self).
pub struct Task {
    /// Names it to its owner, who alone knows it.
    pub object: Uuid,
    /// Whose it is.
    pub owner: Principal,
    /// The same at every party.
    task_id: Uuid,
    /// Its microprotocol's name in the table.
    pub microprotocol: &'static str,
    /// The rules under which its owner takes part.
    pub(crate) policy: Policy,
    mode: Mode,
    configured: Arc<Configured>,
    core: Mutex<Core>,
    /// Held by whoever gives an input or starts it: one after the other.
    pub(crate) giving: tokio::sync::Mutex<()>,
    changed: watch::Sender<u64>,
    /// Something has changed that is told in a moment, together with what comes until then.
    soon: Notify,
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
    /// By party: the limit of its messages that was set last.
    limits: Vec<usize>,
    resolve_errors: Vec<Option<PeerError>>,
    running_recorded: bool,
    /// Rounds that the metrics have counted.
    rounds: u32,
    /// Rounds of the whole computation, once it has begun.
    all_rounds: Option<u32>,
    told: Told,
    consent: consent::Consent,
    /// The receipt with all signatures is in the record.
    receipt_recorded: bool,
    ended: Option<Instant>,
    /// Whether its end would survive a fall. Nobody is told of it before.
    kept: Kept,
    deleted: bool,
}

/// What those who watch the task have been told.
#[derive(Default)]
struct Told {
    at: Option<Instant>,
    /// Whether the result was there.
    opened: bool,
    /// Rounds have gone by since.
    untold: bool,
}

/// How it stands with the record of the end.
enum Kept {
    NotYet,
    Yes,
    /// The storage failed; this entry is still to be made.
    Failed(Option<Note>),
}

impl Core {
    fn restore(&mut self, end: End, own: Option<Zeroizing<String>>) {
        self.session.restore(end, own);
        self.ended = Some(Instant::now());
        self.kept = Kept::Yes;
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
        let rules = permit.policy().rules;
        let session = Session::new(descriptor, me, context.identity.key(), rules, context.now());
        Self::build(
            context,
            Uuid::new_v4(),
            permit.owner().clone(),
            permit.policy().clone(),
            mode,
            configured,
            session,
        )
    }

    fn build(
        context: Arc<Context>,
        object: Uuid,
        owner: Principal,
        policy: Policy,
        mode: Mode,
        configured: Configured,
        mut session: Session,
    ) -> Arc<Task> {
        consent::require(&policy, &mut session);
        let parties = session.descriptor().nodes.len();
        let entry = Entry::find(&session.descriptor().microprotocol);
        let core = Core {
            session,
            inputs: Vec::new(),
            sealed: false,
            limits: vec![0; parties],
            resolve_errors: vec![None; parties],
            running_recorded: false,
            rounds: 0,
            all_rounds: None,
            told: Told::default(),
            consent: consent::Consent::default(),
            receipt_recorded: false,
            ended: None,
            kept: Kept::NotYet,
            deleted: false,
        };
        let configured = Arc::new(configured);
        Arc::new(Task {
            object,
            owner,
            task_id: core.session.descriptor().task,
            microprotocol: entry.map_or("other", |entry| entry.name),
            policy,
            mode,
            configured,
            core: Mutex::new(core),
            giving: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(0),
            soon: Notify::new(),
            context,
        })
    }

    /// The task's id, the same at every party.
    pub fn id(&self) -> Uuid {
        self.task_id
    }

    /// By what its parties have found each other, if they computed in one call.
    pub(crate) fn meeting(&self) -> Option<Meeting> {
        self.lock().session.descriptor().meeting
    }

    /// Whether it has a result.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.lock().session.end(), Some(End::Done { .. }))
    }

    /// Whether nothing of it is to be there any more.
    pub(crate) fn is_deleted(&self) -> bool {
        self.lock().deleted
    }

    /// Whether its data are being exchanged.
    pub(crate) fn is_computing(&self) -> bool {
        self.lock().session.running()
    }

    /// Whether its owner has to start it, and has not.
    pub(crate) fn is_gathering(&self) -> bool {
        let core = self.lock();
        self.mode == Mode::OnStart && !core.sealed && core.session.end().is_none()
    }

    /// The receipt, once the result is confirmed by all.
    ///
    /// # Errors
    /// 409 before, and for tasks without such a result.
    pub fn receipt(&self, with_salt: bool) -> Result<Value, Problem> {
        let core = self.lock();
        let receipt = core.session.receipt().map(|receipt| receipt.shown(with_salt));
        receipt.ok_or_else(|| {
            let hint = match core.session.end() {
                None => "wait for the result; the receipt comes with it",
                Some(End::Done { .. }) => {
                    "a party did not confirm the result: progress() and the result's warnings name it"
                }
                Some(End::Failed { .. }) => "a task without a result has no receipt; the audit says how it ended",
            };
            Problem::state(
                "NO_RECEIPT",
                "the task has no result that all parties have confirmed, and so no receipt",
                hint,
            )
        })
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

    /// A peer's key became known; `hello` is what it said before.
    pub(crate) fn found(self: &Arc<Self>, party: Party, key: PeerKey, hello: Option<bytes::Bytes>) {
        self.lock().resolve_errors[party.index()] = None;
        self.with(|session, now| {
            // Before it is greeted: whoever is not on the list learns no rules.
            self.check_peer(session, party, key);
            session.set_key(party, key);
            // Its Hello may be all that this party's Ready waits for.
            self.context.bases.offer(session, now);
            if session.end().is_none() {
                // Wanted and known at once: whoever is wanted is let go at the end.
                let descriptor = session.descriptor();
                let url = &descriptor.nodes[party.index()];
                self.context.peers.want(key, url, *descriptor.task.as_bytes());
            }
            let Some(hello) = hello else { return };
            if let Some(farewell) = session.farewell(None, &hello) {
                let id = *session.descriptor().task.as_bytes();
                self.context.peers.send(key, id, farewell);
            }
            session.receive(party, &hello, now);
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

    /// What to tell a peer that joins now, after the end.
    pub(crate) fn farewell(&self, from: &PeerKey, message: &[u8]) -> Option<bytes::Bytes> {
        let core = self.lock();
        core.session.farewell(core.session.party_of(from), message)
    }

    /// What to tell a peer that joins after this task was deleted.
    pub(crate) fn epitaph(&self) -> Option<bytes::Bytes> {
        self.lock().session.epitaph()
    }

    /// A peer's node was started anew.
    pub(crate) fn peer_restarted(self: &Arc<Self>, party: Party) {
        self.with(|session, now| session.peer_restarted(party, now));
    }

    /// A peer's node has a new key. Under it, it is not the party with which this task was made.
    pub(crate) fn peer_rotated(self: &Arc<Self>, party: Party) {
        self.with(|session, _| session.fail(Reason::KeyRotated { party: party.index() }));
    }

    /// The connection to a peer broke, or is there again.
    pub(crate) fn peer_away(self: &Arc<Self>, party: Party, away: bool) {
        self.with(|session, now| {
            session.set_away(party, away, now);
            if !away {
                session.ask_for_signature(party);
            }
        });
    }

    /// A peer sent more than the protocol has room for.
    pub(crate) fn peer_sent_too_much(self: &Arc<Self>, party: Party) {
        self.with(|session, _| session.fail(Reason::PeerMalformed { party: party.index() }));
    }

    /// This node has no memory for a message that a peer may send.
    pub(crate) fn no_room(self: &Arc<Self>) {
        self.with(|session, _| {
            let party = session.me().index();
            session.fail(Reason::NoRoom { party });
        });
    }

    /// How long a peer may be silent.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_millis(self.lock().session.descriptor().durations.silence)
    }

    /// What this party hands to the others.
    pub fn invitation(&self) -> Invitation {
        let core = self.lock();
        Invitation::new(
            core.session.descriptor(),
            core.session.keys(),
            self.policy.rules,
            core.session.me().index(),
        )
    }

    /// Waits up to `patience` for the end.
    ///
    /// # Errors
    /// 409 if it failed.
    pub async fn result(self: &Arc<Self>, patience: Duration) -> Result<Outcome, Problem> {
        let mut changed = self.changed.subscribe();
        let mut stopping = self.context.stopping.subscribe();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let again = {
                let mut core = self.lock();
                let core = &mut *core;
                match (core.session.end(), &mut core.kept) {
                    (Some(_), Kept::Failed(entry)) => {
                        let entry = entry.take();
                        core.kept = Kept::NotYet;
                        Some(entry)
                    }
                    (_, Kept::NotYet) | (None, _) => None,
                    (Some(End::Done { result, unconfirmed }), Kept::Yes) => {
                        return Ok(Outcome::Result(whole_result(
                            result,
                            core.session.descriptor().nodes.len(),
                            unconfirmed,
                            core.session.own(),
                        )));
                    }
                    (Some(End::Failed { reason, reported_by }), Kept::Yes) => {
                        return Err(self.failed(core, reason, *reported_by));
                    }
                }
            };
            if let Some(entry) = again {
                self.keep_end(entry).await?;
                continue;
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

    /// Tells when something of its [`Task::progress`] may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Ends it for all parties, because `who` wants it. Ending an ended task changes nothing.
    pub fn cancel(self: &Arc<Self>, who: &Principal) {
        if self.ended().is_none() {
            self.context
                .audit
                .note(who, "task.cancel", Some(&self.id()), &json!({}));
        }
        self.with(|session, _| session.cancel());
    }

    /// Tells the others that this party has signed the receipt, if there is one and they have not been told.
    pub(crate) fn exchange_signatures(self: &Arc<Self>) {
        self.with(|session, _| session.exchange_signatures());
    }

    /// Ends when all that was done to it so far would survive a fall.
    ///
    /// # Errors
    /// When the storage fails.
    pub async fn flush_records(&self) -> Result<(), StoreError> {
        self.context.store.flush().await
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
        self.context.bases.offer(&mut core.session, now);
        change(&mut core.session, now);
        self.settle(core);
    }

    /// Computes what can be computed, sends what is to be sent, notes what has changed.
    fn settle(self: &Arc<Self>, mut core: MutexGuard<'_, Core>) {
        loop {
            self.flush(&mut core);
            let Some(job) = core.session.job() else { break };
            if job.weight <= Job::LIGHT {
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
        if entered {
            self.context.bases.begin(&core.session);
        }
        self.count_rounds(&mut core);
        let ended = core.session.end().is_some() && core.ended.is_none();
        let mut entry = None;
        if ended {
            core.ended = Some(Instant::now());
            core.inputs.clear();
            core.consent.forget();
            core.sealed = true;
            core.session.sign_receipt(&self.context.identity);
            self.context.bases.end(&mut core.session, self.context.now());
            self.flush(&mut core);
            entry = self.log_end(&core);
        }
        let (undecided, charge) = self.next_decision(&mut core);
        let complete = core.session.receipt().is_some_and(Receipt::complete);
        let signed = complete && !core.receipt_recorded;
        core.receipt_recorded |= signed;
        let tell = self.is_worth_telling(&mut core, entered);
        drop(core);
        if undecided {
            self.consider();
        }
        if let Some(sid) = charge {
            self.charge(sid);
        }
        if ended {
            let (task, written) = (Arc::clone(self), self.keep_end(entry));
            tokio::spawn(async move {
                if written.await.is_err() {
                    tracing::error!(task = %task.id(), "the end of the task could not be written; whoever asks for the result tries again");
                }
                task.exchange_signatures_soon().await;
            });
        } else if signed {
            self.keep_signatures();
        } else if entered {
            self.keep_record_of_run();
        }
        if tell {
            self.touch();
        }
    }

    /// Whether those who watch are told at once. If it is only that another round has gone by, that waits a moment for the next ones.
    fn is_worth_telling(&self, core: &mut Core, entered: bool) -> bool {
        let opened = core.session.opened();
        let told = &mut core.told;
        let rounds_only = core.session.running() && !entered && opened == told.opened;
        if rounds_only && told.at.is_some_and(|at| at.elapsed() < TELL_EACH) {
            if !std::mem::replace(&mut told.untold, true) {
                self.soon.notify_one();
            }
            return false;
        }
        *told = Told {
            at: Some(Instant::now()),
            opened,
            untold: false,
        };
        true
    }

    /// Rounds of data messages that the computation takes.
    fn rounds(&self, core: &Core) -> u32 {
        let session = &core.session;
        let count = || self.configured.rounds(session.parties(), &session.thresholds());
        core.all_rounds.unwrap_or_else(count)
    }

    fn count_rounds(&self, core: &mut Core) {
        if core.session.round() == core.rounds && core.session.end().is_none() {
            return;
        }
        // Now the rules, on which it depends, are what they are.
        let all = self.rounds(core);
        core.all_rounds = Some(all);
        let rounds = match core.session.end() {
            Some(End::Done { .. }) => all,
            Some(End::Failed { .. }) => core.rounds,
            // The closing digest is a round of its own there.
            None => core.session.round().min(all),
        };
        let more = rounds.saturating_sub(core.rounds);
        core.rounds += more;
        if more > 0 {
            self.context.metrics.task_rounds(self.microprotocol, more.into());
        }
    }

    /// Sends what is to be sent. Under the task's lock, so that the order per peer is kept.
    fn flush(&self, core: &mut Core) {
        let id = *core.session.descriptor().task.as_bytes();
        let keys = core.session.keys();
        let limit = core.session.limit();
        for (party, key) in keys.iter().enumerate() {
            // Also of those whose key became known after the input was given.
            if let Some(key) = key.filter(|key| *key != self.context.identity.key())
                && core.limits[party] != limit
                && core.session.end().is_none()
            {
                core.limits[party] = limit;
                self.context.peers.set_limit(key, id, limit);
            }
        }
        for (party, message) in core.session.outgoing() {
            if self.stops_at(core, &message) {
                continue;
            }
            if let Some(key) = &keys[party.index()] {
                self.context.metrics.task_message(self.microprotocol);
                self.context.peers.send(*key, id, message);
            }
        }
    }

    /// Falls over where a test wants it, when the others have what came before.
    fn stops_at(&self, core: &Core, message: &[u8]) -> bool {
        let Some(stop) = self.context.stop_at else { return false };
        if !is_data(message) || (stop == StopAt::Closing && !core.session.opened()) {
            return false;
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

    /// What the audit is told when it is made.
    pub(crate) fn entry_of_birth(&self, action: &'static str) -> Note {
        let core = self.lock();
        let descriptor = core.session.descriptor();
        let parameters: Value = serde_json::from_str(&descriptor.parameters).unwrap_or_default();
        let detail = json!({
            "microprotocol": descriptor.microprotocol,
            "parameters": parameters,
            "nodes": descriptor.nodes,
            "party": core.session.me().index(),
            "policy": self.policy.rules.profile,
        });
        self.entry(&self.owner, action, &detail)
    }

    /// An entry about this task for the audit.
    fn entry(&self, who: &Principal, action: &'static str, detail: &Value) -> Note {
        self.context.audit.entry(who, action, Some(&self.task_id), detail)
    }

    fn touch(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the audit is told of the end.
    fn log_end(&self, core: &Core) -> Option<Note> {
        let descriptor = core.session.descriptor();
        let keys = core.session.keys();
        match core.session.end()? {
            End::Done { unconfirmed, .. } => {
                self.context.metrics.task_done(self.microprotocol);
                tracing::info!(task = %descriptor.task, unconfirmed = unconfirmed.len(), "task done");
                let receipt = core.session.receipt().map(Receipt::id);
                let detail = json!({"receipt": receipt, "unconfirmed": unconfirmed, "keys": keys});
                Some(self.entry(&self.owner, "task.release", &detail))
            }
            End::Failed { reason, reported_by } => {
                self.context.metrics.task_failed(self.microprotocol, reason.code());
                tracing::info!(task = %descriptor.task, code = reason.code(), party = ?reason.party(), "task failed");
                let by = reported_by.map(|report| report.by);
                let rule = core.session.declined().and_then(|why| why.rule).map(Rule::name);
                let detail = json!({"reason": reason, "reported_by": by, "rule": rule, "keys": keys});
                Some(self.entry(&self.owner, "task.fail", &detail))
            }
        }
    }
}
