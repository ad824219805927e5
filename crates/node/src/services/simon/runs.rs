//! Computations in one call that are under way, or whose answer nobody has yet.
//!
//! A caller who asks again for the same with the same input under the same rules joins the run that is there. What is kept of the input is a hash under a
//! key of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use crate::descriptor::Meeting;
use crate::policy::Policy;
use crate::problem::Problem;
use crate::services::Principal;
use crate::task::Task;
use crate::tasks::Tasks;

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub(super) struct Runs(Arc<Inner>);

struct Inner {
    key: [u8; 32],
    tasks: Tasks,
    runs: Mutex<HashMap<Place, Arc<Run>>>,
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runs").finish_non_exhaustive()
    }
}

/// Who computes what, as which party.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) who: Principal,
    pub(super) meeting: Meeting,
    pub(super) me: usize,
}

/// What must be the same for a call to be a retry.
#[derive(PartialEq)]
pub(super) struct Given {
    input: blake3::Hash,
    policy: Policy,
}

/// One computation of one party.
pub(super) struct Run {
    place: Place,
    given: Given,
    stage: watch::Sender<Stage>,
    /// Who waits for it.
    callers: watch::Sender<usize>,
}

/// How far it has come here.
#[derive(Clone)]
pub(super) enum Stage {
    /// There is no task yet.
    Looking,
    /// It is this task.
    Found(Arc<Task>),
    /// There will be none.
    Failed(Problem),
}

impl Runs {
    /// With the tasks that an earlier run of the node has left.
    pub(super) fn of(tasks: &Tasks) -> Runs {
        let key = blake3::hash(&[Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat());
        let runs = Runs(Arc::new(Inner {
            key: *key.as_bytes(),
            tasks: tasks.clone(),
            runs: Mutex::default(),
        }));
        for (meeting, task) in tasks.with_meetings() {
            if let Some(given) = task.map_input(|text| runs.given(text, &task.policy)) {
                let me = task.me().index();
                let who = task.owner.clone();
                let run = Run::new(Place { who, meeting, me }, given, Stage::Found(task));
                runs.lock().insert(run.place.clone(), run);
            }
        }
        runs
    }

    /// What is kept of an input, and the rules under which it is given.
    pub(super) fn given(&self, input: &str, policy: &Policy) -> Given {
        Given {
            input: blake3::keyed_hash(&self.0.key, input.as_bytes()),
            policy: policy.clone(),
        }
    }

    /// The run at that place, and whether it is a new one, which somebody has to drive.
    ///
    /// # Errors
    /// 409 if there is one with another input, or under other rules.
    pub(super) fn attach(&self, place: Place, given: Given) -> Result<(Caller, bool), Problem> {
        let mut runs = self.lock();
        let mut replaced = None;
        if let Some(run) = runs.get(&place) {
            let there = run.standing();
            match there {
                Standing::Open | Standing::Done if run.given == given => return Ok((self.caller(run), false)),
                Standing::Open if *run.callers.borrow() > 0 || run.is_computing() => return Err(another_input(run)),
                // Whoever asked for it has gone, or it has no result.
                Standing::Open | Standing::Done | Standing::Failed => replaced = runs.remove(&place),
            }
        }
        let run = Run::new(place.clone(), given, Stage::Looking);
        let caller = self.caller(&run);
        runs.insert(place, run);
        drop(runs);
        if let Some(replaced) = replaced {
            replaced.give_up();
            self.spend(&replaced);
        }
        Ok((caller, true))
    }

    /// Somebody has its answer; who asks again wants another run.
    pub(super) fn forget(&self, run: &Arc<Run>) {
        let mut runs = self.lock();
        if runs.get(&run.place).is_some_and(|there| Arc::ptr_eq(there, run)) {
            runs.remove(&run.place);
        }
        drop(runs);
        self.spend(run);
    }

    /// It is this task. If another run has taken its place meanwhile, the task ends.
    pub(super) fn found(&self, run: &Arc<Run>, task: Arc<Task>) {
        let runs = self.lock();
        run.set(Stage::Found(task));
        let replaced = runs.get(&run.place).is_none_or(|there| !Arc::ptr_eq(there, run));
        drop(runs);
        if replaced {
            run.give_up();
            self.spend(run);
        }
    }

    /// Forgets a run that nobody waits for; tells whether it was one.
    pub(super) fn forget_abandoned(&self, run: &Arc<Run>) -> bool {
        let mut runs = self.lock();
        // Under the lock nobody attaches.
        let abandoned = *run.callers.borrow() == 0;
        if abandoned && runs.get(&run.place).is_some_and(|there| Arc::ptr_eq(there, run)) {
            runs.remove(&run.place);
        }
        abandoned
    }

    /// Forgets those whose task is kept no longer, or was deleted.
    pub(super) fn sweep(&self) -> usize {
        let mut runs = self.lock();
        let before = runs.len();
        runs.retain(|_, run| match &*run.stage.borrow() {
            Stage::Looking => true,
            Stage::Failed(_) => false,
            Stage::Found(task) => !task.is_deleted() && task.ended().is_none_or(|ended| ended.elapsed() < task.kept()),
        });
        before - runs.len()
    }

    fn caller(&self, run: &Arc<Run>) -> Caller {
        run.callers.send_modify(|count| *count += 1);
        Caller {
            runs: self.clone(),
            run: Arc::clone(run),
        }
    }

    /// Its task may make room for others.
    fn spend(&self, run: &Run) {
        if let Stage::Found(task) = &*run.stage.borrow() {
            self.0.tasks.spend(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Arc<Run>>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a run stands for somebody who comes.
#[derive(Clone, Copy)]
enum Standing {
    Open,
    Done,
    Failed,
}

impl Run {
    fn new(place: Place, given: Given, stage: Stage) -> Arc<Run> {
        Arc::new(Run {
            place,
            given,
            stage: watch::Sender::new(stage),
            callers: watch::Sender::new(0),
        })
    }

    /// Tells those who wait.
    pub(super) fn set(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// Tells what comes of it.
    pub(super) fn watch(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Ends when nobody waits for it.
    pub(super) async fn abandoned(&self) {
        let mut callers = self.callers.subscribe();
        // The sender lives as long as this run.
        let _ = callers.wait_for(|count| *count == 0).await;
    }

    fn standing(&self) -> Standing {
        match &*self.stage.borrow() {
            Stage::Looking => Standing::Open,
            Stage::Failed(_) => Standing::Failed,
            Stage::Found(task) if task.ended().is_none() => Standing::Open,
            Stage::Found(task) if task.is_done() && !task.is_deleted() => Standing::Done,
            Stage::Found(_) => Standing::Failed,
        }
    }

    fn is_computing(&self) -> bool {
        matches!(&*self.stage.borrow(), Stage::Found(task) if task.is_computing())
    }

    fn give_up(&self) {
        if let Stage::Found(task) = &*self.stage.borrow()
            && task.ended().is_none()
        {
            task.cancel(&self.place.who);
        }
    }
}

/// Somebody who waits for a run.
pub(super) struct Caller {
    runs: Runs,
    pub(super) run: Arc<Run>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _all = self.runs.lock();
        self.run.callers.send_modify(|count| *count -= 1);
    }
}

fn another_input(run: &Run) -> Problem {
    let problem = Problem::state(
        "BUSY",
        "you are computing this with the same parties already, with another input or another policy, and it is not over",
        "wait for its result, or end it (POST {base}/tasks/{id}/cancel); computations that go on at the same time need a uuid of their own in their network",
    );
    match &*run.stage.borrow() {
        Stage::Found(task) => problem.with("task", task.id().to_string()),
        _ => problem,
    }
}
