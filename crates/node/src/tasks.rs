//! All tasks of a node, and the Hellos of tasks it has not joined.

mod pending;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fdrtd_mpc::net::Party;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use crate::descriptor::{Descriptor, Field, Meeting};
use crate::identity::PeerKey;
use crate::peer::{Event, TaskId};
use crate::policy::Permit;
use crate::principal::{Principal, Role};
use crate::problem::Problem;
use crate::session::{CONTROL_BYTES, is_abort, is_hello, is_receipt};
use crate::store::StoreError;
use crate::task::input::whole;
use crate::task::{Context, First, Mode, RECORD, Record, Task};
use pending::Pending;
pub use pending::PendingInvitation;

/// Bytes of a task that a peer may leave unacknowledged and still be answered.
const UNHEARD: usize = 16 * CONTROL_BYTES;

/// Limits on what others can make this node keep.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Tasks at once, ended ones included until their time to live is over.
    pub tasks: usize,
    /// Parties of a task.
    pub parties: usize,
    /// Tasks at once of one principal.
    pub tasks_each: usize,
    /// Hellos of tasks not joined here, in all.
    pub hellos: usize,
    /// Hellos of tasks not joined here, of one node.
    pub hellos_per_peer: usize,
}

/// See the [module](self). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    context: Arc<Context>,
    quota: Quota,
    table: Arc<Mutex<Table>>,
    /// Counts the Hellos that were kept, so that nobody who waits for one has to ask again and again.
    arrivals: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Table {
    /// By the object's id, which only the owner knows.
    objects: HashMap<Uuid, Arc<Task>>,
    /// By the task's id, which all parties know.
    ids: HashMap<Uuid, Arc<Task>>,
    /// How many objects each principal has.
    owned: HashMap<Principal, usize>,
    pending: Pending,
    /// Deleted tasks to which parties may still come, until when, and what they are told then.
    deleted: HashMap<Uuid, (Instant, Bytes)>,
    /// Objects of ended tasks whose results their owners have, and which they cannot name: the oldest of them make room for new tasks.
    spent: VecDeque<Uuid>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new(context: Arc<Context>, quota: Quota) -> Tasks {
        Tasks {
            context,
            quota,
            table: Arc::new(Mutex::new(Table::default())),
            arrivals: watch::Sender::new(0),
        }
    }

    /// What others can make this node keep.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// What the tasks use.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Brings back what was there before a restart.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub fn restore(&self) -> Result<usize, StoreError> {
        let mut count = 0;
        for record in self.context.store.load(RECORD)?.records {
            let Ok(record) = serde_json::from_slice::<Record>(&record.bytes) else {
                tracing::warn!("a stored task is of another version and is left out");
                continue;
            };
            let id = record.descriptor.task;
            if let Some(task) = Task::restore(Arc::clone(&self.context), record) {
                self.insert(&task);
                self.launch(&task);
                count += 1;
            } else {
                tracing::error!(task = %id, "a stored task is of a computation that this version does not have, and is left out");
            }
        }
        Ok(count)
    }

    /// Makes a task: a new one, or one that this node was invited to; `action` is which, for the audit.
    ///
    /// # Errors
    /// 409 if this node takes part in it already; 429 if there are too many.
    #[allow(clippy::too_many_arguments)] // everything that makes up a task, once
    pub(crate) async fn add(
        &self,
        action: &'static str,
        permit: &Permit,
        descriptor: Descriptor,
        configured: fdrtd_mpc::microprotocol::Configured,
        me: Party,
        mode: Mode,
        known: Vec<(Party, PeerKey)>,
        first: Option<First>,
    ) -> Result<Arc<Task>, Problem> {
        let id = descriptor.task;
        let task = Task::new(Arc::clone(&self.context), permit, descriptor, configured, me, mode);
        {
            let mut table = self.lock();
            if let Some(there) = table.ids.get(&id) {
                return Err(taken(there.me().index()));
            }
            self.make_room(&mut table, &task.owner);
            if table.objects.len() >= self.quota.tasks {
                return Err(Problem::too_many(
                    "QUOTA",
                    format!("this node keeps at most {} tasks at once", self.quota.tasks),
                    "delete tasks that are over, or wait until their time to live ends",
                )
                .exceeds("tasks", self.quota.tasks));
            }
            if table
                .owned
                .get(&task.owner)
                .is_some_and(|count| *count >= self.quota.tasks_each)
            {
                return Err(Problem::too_many(
                    "QUOTA",
                    format!(
                        "this node keeps at most {} tasks of one caller at once",
                        self.quota.tasks_each
                    ),
                    "delete tasks of yours that are over, or wait until their time to live ends",
                )
                .exceeds("tasks_per_principal", self.quota.tasks_each));
            }
            table.insert(&task);
        }
        // In the table it lives: whoever hangs up now must not leave one behind that nobody drives.
        let tasks = self.clone();
        whole(async move {
            let (written, prepared) = task.record_birth(action, first);
            match prepared {
                None => {
                    if let Err(problem) = written.await {
                        tasks.remove(&task);
                        return Err(problem);
                    }
                    tasks.greet(&task, known);
                }
                Some(prepared) => {
                    // Nobody has been told that there is such a task, so Hello and Ready need not wait for the disk; its data do.
                    tasks.greet(&task, known);
                    task.give(prepared);
                    if let Err(problem) = written.await {
                        task.stillborn();
                        tasks.remove(&task);
                        return Err(problem);
                    }
                    task.recorded();
                }
            }
            tasks.context.metrics.task_created(task.microprotocol);
            Ok(task)
        })
        .await
    }

    /// If there is no room for another task of this owner, spent ones make some, under the lock under which the new one takes it.
    fn make_room(&self, table: &mut Table, owner: &Principal) {
        loop {
            let own = table
                .owned
                .get(owner)
                .is_some_and(|count| *count >= self.quota.tasks_each);
            if !own && table.objects.len() < self.quota.tasks {
                return;
            }
            let Some(task) = table.take_spent(|task| !own || task.owner == *owner) else {
                return;
            };
            table.bury(&task, self.quota.tasks);
            table.remove(&task);
            // Queued at once. If it fails, the task comes back with the next start.
            let deleted = task.delete_record(&Principal::node());
            tokio::spawn(async move {
                if deleted.await.is_err() {
                    tracing::error!(task = %task.id(), "a task's record could not be deleted");
                }
            });
        }
    }

    /// Its owner has its result, and no name for it.
    pub(crate) fn spend(&self, task: &Task) {
        let mut table = self.lock();
        if table.objects.contains_key(&task.object) && !table.spent.contains(&task.object) {
            table.spent.push_back(task.object);
        }
    }

    /// Open tasks that were made by `compute`.
    pub(crate) fn with_meetings(&self) -> Vec<(Meeting, Arc<Task>)> {
        let tasks: Vec<_> = self.lock().objects.values().cloned().collect();
        let open = tasks.into_iter().filter(|task| task.ended().is_none());
        open.filter_map(|task| Some((task.meeting()?, task))).collect()
    }

    /// Pending invitations to just this, whoever they are of; the newest first.
    pub(crate) fn pending_at(&self, wanted: &Descriptor) -> Vec<PendingInvitation> {
        let table = self.lock();
        table.pending.at(wanted, |id| table.ids.contains_key(id))
    }

    /// In what a pending computation of the same nodes differs from the wanted one.
    pub(crate) fn pending_difference(&self, wanted: &Descriptor) -> Option<Field> {
        self.lock().pending.difference(wanted)
    }

    /// The task of that object, if it is the caller's.
    pub fn of_object(&self, owner: &Principal, object: &Uuid) -> Option<Arc<Task>> {
        self.lock()
            .objects
            .get(object)
            .filter(|task| task.owner == *owner)
            .cloned()
    }

    /// A task that the caller may look at: by its object's id, which its owner alone knows, or by the id that all parties know.
    pub fn find(&self, who: &Principal, id: &Uuid) -> Option<Arc<Task>> {
        let table = self.lock();
        // Both look-ups are always made, so that no answer comes sooner than another.
        let by_object = table.objects.get(id).filter(|task| task.owner == *who);
        let by_id = table.ids.get(id).filter(|task| may_look(who, task));
        by_object.or(by_id).cloned()
    }

    /// What this node would hand to whoever has a link to its open task.
    pub fn invitation_to(&self, id: &Uuid) -> Option<Value> {
        let task = self.lock().ids.get(id).cloned()?;
        task.ended().is_none().then(|| task.invitation().shown())
    }

    /// Whether this node takes part in a task, and as which party.
    pub fn taken(&self, id: &Uuid) -> Result<(), Problem> {
        self.lock()
            .ids
            .get(id)
            .map_or(Ok(()), |task| Err(taken(task.me().index())))
    }

    /// Ends a task for all and forgets it, because `who` wants it.
    ///
    /// # Errors
    /// When it may come back with the next start, since the storage failed.
    pub async fn delete(&self, task: &Arc<Task>, who: &Principal) -> Result<(), StoreError> {
        task.cancel(who);
        // Before the peers are let go: nobody else should lack the signature because this caller is quick.
        task.exchange_signatures();
        self.dismiss(task);
        if task.ended().is_some_and(|ended| ended.elapsed() < task.kept()) {
            self.lock().bury(task, self.quota.tasks);
        }
        self.remove(task);
        task.delete_record(who).await
    }

    /// The tasks that the caller may look at, without what gives access to them.
    pub fn list(&self, who: &Principal) -> Vec<Value> {
        let tasks: Vec<_> = self
            .lock()
            .objects
            .values()
            .filter(|task| may_look(who, task))
            .cloned()
            .collect();
        tasks.iter().map(|task| task.summary()).collect()
    }

    /// How many tasks there are.
    pub fn count(&self) -> usize {
        self.lock().objects.len()
    }

    /// How many tasks there are, by microprotocol and whether they have ended.
    pub fn by_state(&self) -> BTreeMap<(&'static str, bool), u64> {
        let tasks: Vec<_> = self.lock().objects.values().cloned().collect();
        let mut counts = BTreeMap::new();
        for task in tasks {
            *counts.entry((task.microprotocol, task.ended().is_some())).or_default() += 1;
        }
        counts
    }

    /// Tasks that this node was asked into and has not joined, the newest first.
    pub fn pending(&self) -> Vec<PendingInvitation> {
        let table = self.lock();
        table.pending.invitations(|id| table.ids.contains_key(id))
    }

    /// Changes when a Hello of a task that is not joined here has arrived.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// For people, and for `join`: what [`Tasks::pending`] has. Nothing for anonymous callers: whoever finds an invitation can join it.
    pub fn invitations(&self, who: &Principal) -> Vec<Value> {
        if who.is_anonymous() {
            return Vec::new();
        }
        self.pending().iter().map(|entry| self.shown(entry)).collect()
    }

    /// One of [`Tasks::pending`] as JSON, with its link.
    pub fn shown(&self, entry: &PendingInvitation) -> Value {
        let first = entry.from.first();
        let url = first.and_then(|key| self.context.peers.url_of(key, &entry.descriptor.nodes));
        entry.shown(url)
    }

    /// What the peers bring.
    pub fn on_event(&self, event: Event) {
        if let Event::Restarted { peer } | Event::Rotated { old: peer } | Event::Up { peer } | Event::Down { peer } =
            &event
        {
            // What two nodes hold together lives no longer than their connection.
            self.context.bases.forget(peer);
        }
        match event {
            Event::Message { from, task, bytes } => self.on_message(from, task, bytes),
            Event::TooLong { from, task } => {
                if let Some((task, party)) = self.task_with(&from, task) {
                    task.peer_sent_too_much(party);
                }
            }
            Event::NoRoom { from, task } => {
                if let Some((task, _)) = self.task_with(&from, task) {
                    task.no_room();
                }
            }
            Event::Restarted { peer } => {
                // What it had said before is void.
                self.lock().pending.forget_peer(&peer);
                for (task, party) in self.tasks_with(&peer) {
                    task.peer_restarted(party);
                }
            }
            Event::Rotated { old } => {
                self.lock().pending.forget_peer(&old);
                for (task, party) in self.tasks_with(&old) {
                    task.peer_rotated(party);
                }
            }
            Event::Up { peer } => self.set_away(&peer, false),
            Event::Down { peer } => self.set_away(&peer, true),
        }
    }

    fn on_message(&self, from: PeerKey, id: TaskId, bytes: Bytes) {
        if is_hello(&bytes) && self.context.peers.queued_of(from, id) > UNHEARD {
            // Hellos are answered: a peer that hears none of the answers could make this node keep any number of them.
            return;
        }
        let id = Uuid::from_bytes(id);
        let mut table = self.lock();
        let task = table.ids.get(&id).cloned();
        let over = match &task {
            // Signatures of the receipt come after the end.
            Some(_) if is_receipt(&bytes) => None,
            Some(task) => task.ended().is_some().then(|| task.farewell(&from, &bytes)),
            None => table.deleted.get(&id).map(|(_, epitaph)| Some(epitaph.clone())),
        };
        if let Some(farewell) = over {
            drop(table);
            if is_hello(&bytes)
                && let Some(farewell) = farewell
            {
                self.context.peers.send(from, *id.as_bytes(), farewell);
            }
            return;
        }
        match task
            .as_ref()
            .and_then(|task| task.party_of(&from).map(|party| (task, party)))
        {
            Some((task, party)) => {
                drop(table);
                task.receive(party, &bytes);
            }
            None if is_abort(&bytes) => {
                let joined = task.is_some();
                let now = Instant::now();
                table.pending.keep_abort(&self.quota, from, id, bytes, joined, now);
            }
            None => {
                let kept = table.pending.keep_hello(&self.quota, from, id, bytes, Instant::now());
                drop(table);
                if kept {
                    self.arrivals.send_modify(|count| *count += 1);
                }
            }
        }
    }

    /// Removes what has lived long enough; returns how many tasks and Hellos that were.
    pub async fn sweep(&self) -> usize {
        let over: Vec<Arc<Task>> = {
            let mut table = self.lock();
            table.pending.expire(self.context.time_to_live, Instant::now());
            table.deleted.retain(|_, (until, _)| *until > Instant::now());
            self.context.bases.expire(self.context.now());
            table
                .objects
                .values()
                .filter(|task| task.ended().is_some_and(|ended| ended.elapsed() >= task.kept()))
                .cloned()
                .collect()
        };
        for task in &over {
            if self.delete(task, &Principal::node()).await.is_err() {
                tracing::error!("a task's record could not be deleted");
            }
        }
        over.len()
    }

    /// Says Hello to those who are known, and looks for the others.
    fn greet(&self, task: &Arc<Task>, known: Vec<(Party, PeerKey)>) {
        for (party, key) in known {
            self.found(task, party, key);
        }
        self.launch(task);
    }

    fn launch(&self, task: &Arc<Task>) {
        let (tasks, weak) = (self.clone(), Arc::downgrade(task));
        let on_key = move |party, key| {
            if let Some(task) = weak.upgrade() {
                tasks.found(&task, party, key);
            }
        };
        let (tasks, weak) = (self.clone(), Arc::downgrade(task));
        let on_end = move || {
            if let Some(task) = weak.upgrade() {
                tasks.dismiss(&task);
            }
        };
        task.launch(on_key, on_end);
    }

    /// Both under the table's lock, so that no Hello is kept back after its sender became known, and none is overtaken.
    fn found(&self, task: &Arc<Task>, party: Party, key: PeerKey) {
        {
            let mut table = self.lock();
            let hello = table.pending.take(&task.id(), &key);
            task.found(party, key, hello);
        }
        self.set_keep_alive(task, key);
    }

    /// The task has ended: whoever has said Hello and was not found in time is told, as those are who say it later.
    fn dismiss(&self, task: &Arc<Task>) {
        let id = task.id();
        let words = self.lock().pending.take_all(&id);
        for (from, message) in words {
            if let Some(farewell) = task.farewell(&from, &message) {
                self.context.peers.send(from, *id.as_bytes(), farewell);
            }
        }
    }

    /// A peer is pinged often enough for the shortest silence that one of the tasks with it allows.
    fn set_keep_alive(&self, task: &Arc<Task>, peer: PeerKey) {
        let interval = task.silence() * 2 / 5;
        let interval = interval.min(Duration::from_secs(25));
        self.context.peers.set_keep_alive(peer, *task.id().as_bytes(), interval);
    }

    fn set_away(&self, peer: &PeerKey, away: bool) {
        for (task, party) in self.tasks_with(peer) {
            task.peer_away(party, away);
        }
    }

    /// The task of that id, if the peer is a party of it.
    fn task_with(&self, peer: &PeerKey, id: TaskId) -> Option<(Arc<Task>, Party)> {
        let task = self.lock().ids.get(&Uuid::from_bytes(id)).cloned()?;
        let party = task.party_of(peer)?;
        Some((task, party))
    }

    fn tasks_with(&self, peer: &PeerKey) -> Vec<(Arc<Task>, Party)> {
        let tasks: Vec<_> = self.lock().ids.values().cloned().collect();
        tasks
            .into_iter()
            .filter_map(|task| task.party_of(peer).map(|party| (task, party)))
            .collect()
    }

    fn insert(&self, task: &Arc<Task>) {
        self.lock().insert(task);
    }

    fn remove(&self, task: &Arc<Task>) {
        self.lock().remove(task);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(&mut self, task: &Arc<Task>) {
        self.ids.insert(task.id(), Arc::clone(task));
        if self.objects.insert(task.object, Arc::clone(task)).is_none() {
            *self.owned.entry(task.owner.clone()).or_default() += 1;
        }
    }

    fn remove(&mut self, task: &Task) {
        self.spent.retain(|object| *object != task.object);
        if self.objects.remove(&task.object).is_some()
            && let Some(count) = self.owned.get_mut(&task.owner)
        {
            *count -= 1;
            if *count == 0 {
                self.owned.remove(&task.owner);
            }
        }
        let id = task.id();
        if self.ids.get(&id).is_some_and(|there| there.object == task.object) {
            self.ids.remove(&id);
        }
        self.pending.take_all(&id);
    }

    /// The oldest that fits.
    fn take_spent(&mut self, fits: impl Fn(&Task) -> bool) -> Option<Arc<Task>> {
        let at = self
            .spent
            .iter()
            .position(|object| self.objects.get(object).is_none_or(|task| fits(task)))?;
        self.spent
            .remove(at)
            .and_then(|object| self.objects.get(&object).cloned())
    }

    /// Remembers a task that has ended, for parties that have not joined yet or join again after a restart.
    fn bury(&mut self, task: &Task, most: usize) {
        if let Some(epitaph) = task.epitaph()
            && self.deleted.len() < most
        {
            self.deleted.insert(task.id(), (Instant::now() + task.kept(), epitaph));
        }
    }
}

/// Their own, and all for those who watch over the node. How a task goes on tells no data and no result. Anonymous callers have no tasks of their own
/// by any name but that of the object: they are many, and one of them is not to see what another does.
fn may_look(who: &Principal, task: &Task) -> bool {
    match who.role() {
        Role::Viewer | Role::Owner => true,
        Role::Analyst => !who.is_anonymous() && task.owner == *who,
    }
}

fn taken(party: usize) -> Problem {
    Problem::state(
        "MYSELF_TAKEN",
        format!("this node takes part in this task already, as party {party}: 'myself' is given twice"),
        "every party joins at a node of its own; ask the api of the node at nodes[myself]",
    )
    .with("party", party)
}

#[cfg(test)]
mod rehearsal;
#[cfg(test)]
mod tests;
