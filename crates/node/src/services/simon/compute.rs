//! `compute`: a whole computation in one call, answered when it has ended.
//!
//! The parties meet by what they have agreed on, see [`Meeting`]. Party 0 makes the task, and its Hello tells the others' nodes of it: they wait for that,
//! and nobody asks again and again. Who calls first makes no difference. An input is read before anything is sent.
//!
//! A Hello with the right meeting may come from anybody who knows what was agreed on, so it counts only if its sender has the key of party 0's node.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::Party;
use tokio::time::Instant;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::network::{Network, read_network};
use super::runs::{Caller, Place, Run, Runs, Stage};
use super::{Holding, Promised, Simon, find_microprotocol, input_text, read_chosen, read_durations, refused};
use crate::descriptor::{Descriptor, Field, Meeting, PROTOCOL};
use crate::identity::PeerKey;
use crate::json::Parameters;
use crate::policy::{Policy, Question};
use crate::problem::Problem;
use crate::reason::{self, Reason};
use crate::services::{Principal, Reply};
use crate::task::{First, Mode, Outcome, Task, cause};

/// What to do if parties do not find each other.
const AGREE: &str = "all parties call compute with the same microprotocol, the same parameters, the same nodes in the same order and the same uuid of the \
                     network; only 'myself' and the data differ";
/// When a node that should have the key of party 0 could not be asked for it, that is tried again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// One call, its parameters read.
struct Asked {
    entry: &'static Entry,
    /// Of a task that this party would make.
    descriptor: Descriptor,
    meeting: Meeting,
    me: Party,
    policy: Policy,
    input: Zeroizing<String>,
}

/// That a caller has been given the result, or not.
#[derive(Clone)]
pub struct Delivery {
    runs: Runs,
    run: Arc<Run>,
}

impl Delivery {
    /// The caller has it. Who asks for the same again means another computation.
    pub(crate) fn done(&self) {
        self.runs.forget(&self.run);
    }
}

impl Simon {
    pub(super) async fn compute(&self, who: &Principal, mut parameters: Parameters) -> Result<Reply, Problem> {
        let patience = Holding::LONG.read(&mut parameters)?;
        let deadline = Instant::now() + patience;
        let asked = self.read_asked(parameters)?;
        let place = Place {
            who: who.clone(),
            meeting: asked.meeting,
            me: asked.me.index(),
        };
        let (caller, new) = self.runs.attach(place, self.runs.given(&asked.input, &asked.policy))?;
        let first = asked.descriptor.nodes[0].to_string();
        if new {
            let (simon, who, run) = (self.clone(), who.clone(), Arc::clone(&caller.run));
            tokio::spawn(async move { simon.drive(&who, asked, &run).await });
        }
        self.await_result(&caller, deadline, &first).await
    }

    fn read_asked(&self, mut parameters: Parameters) -> Result<Asked, Problem> {
        let entry = find_microprotocol(&parameters.required("microprotocol")?.string()?)?;
        let input = input_text(&mut parameters)?;
        let Network { nodes, myself, uuid } = read_network(&parameters.required("network")?)?;
        let (chosen, durations) = (read_chosen(&mut parameters)?, read_durations(&mut parameters)?);
        let policy = self.read_policy(&mut parameters)?;
        parameters.finish()?;
        let canonical = entry.configure(&chosen).map_err(refused)?.canonical;
        let meeting = Meeting::new(&uuid, &nodes, entry.name, &canonical);
        let descriptor = Descriptor {
            protocol: PROTOCOL,
            task: Uuid::new_v4(),
            microprotocol: entry.name.to_owned(),
            parameters: canonical,
            nodes,
            durations,
            meeting: Some(meeting),
        };
        self.check_size(&descriptor)?;
        Ok(Asked {
            entry,
            descriptor,
            meeting,
            me: myself,
            policy,
            input,
        })
    }

    async fn await_result(&self, caller: &Caller, deadline: Instant, first: &str) -> Result<Reply, Problem> {
        let run = &caller.run;
        let mut stages = run.watch();
        let mut stopping = self.tasks.context().stopping.subscribe();
        let task = loop {
            match stages.borrow_and_update().clone() {
                Stage::Looking => {}
                Stage::Found(task) => break task,
                Stage::Failed(problem) => return Err(problem),
            }
            let news = tokio::select! {
                news = tokio::time::timeout_at(deadline, stages.changed()) => matches!(news, Ok(Ok(()))),
                _ = stopping.wait_for(|stopping| *stopping) => false,
            };
            if !news {
                return self.not_yet(format!("party 0 at {first} has not begun this computation"));
            }
        };
        match task.result(deadline.saturating_duration_since(Instant::now())).await {
            Ok(Outcome::Result(text)) => {
                let (runs, run) = (self.runs.clone(), Arc::clone(run));
                Ok(Reply::Computed(text, Delivery { runs, run }))
            }
            Ok(Outcome::Waiting(text)) => self.not_yet(text),
            Err(problem) => {
                if task.ended().is_some() && problem.code == "TASK_FAILED" {
                    self.runs.forget(run);
                }
                Err(with_advice(problem))
            }
        }
    }

    fn not_yet(&self, waiting: String) -> Result<Reply, Problem> {
        if *self.tasks.context().stopping.borrow() {
            return Err(stopping());
        }
        Ok(Reply::Waiting(waiting))
    }

    /// Makes or joins the task, whoever of its callers is still there then.
    async fn drive(&self, who: &Principal, asked: Asked, run: &Arc<Run>) {
        match self.task_of(who, asked, run).await {
            Ok(Some(task)) => self.runs.found(run, task),
            // Nobody is there to be told.
            Ok(None) => {}
            Err(problem) => {
                self.runs.forget(run);
                run.set(Stage::Failed(problem));
            }
        }
    }

    async fn task_of(&self, who: &Principal, asked: Asked, run: &Arc<Run>) -> Result<Option<Arc<Task>>, Problem> {
        let Asked {
            entry,
            descriptor,
            meeting: _,
            me,
            policy,
            input,
        } = asked;
        let configure = |parameters: &str| entry.configure(parameters).map_err(refused);
        let configured = configure(&descriptor.parameters)?;
        let question = Question::new(entry, &configured, descriptor.nodes.len());
        self.permit(who, &policy, &question, &descriptor, me, &[])?;
        let promised = Promised {
            keys: &[],
            inviter: None,
        };
        let found = async {
            self.check_myself(&descriptor.nodes, me).await?;
            self.find_peers(&descriptor.nodes, me, promised).await
        };
        let known = found.await;
        let known = known.inspect_err(|problem| self.note_refused_peer(who, None, problem))?;
        let permit = self.permit(who, &policy, &question, &descriptor, me, &known)?;
        let context = Arc::clone(self.tasks.context());
        let first = First::read(context, &permit, descriptor.clone(), configured, me, input).await?;
        let joined = if me.index() == 0 {
            Some(("task.create", descriptor, known))
        } else {
            let met = self.meet(&descriptor, me, run).await?;
            met.map(|(descriptor, known)| ("task.join", descriptor, known))
        };
        let Some((action, descriptor, known)) = joined else {
            return Ok(None);
        };
        let configured = configure(&descriptor.parameters)?;
        let permit = self.permit(who, &policy, &question, &descriptor, me, &known)?;
        let tasks = &self.tasks;
        let task = tasks.add(
            action,
            &permit,
            descriptor,
            configured,
            me,
            Mode::OnInput,
            known,
            Some(first),
        );
        task.await.map(Some)
    }

    /// Waits for the task of party 0; `None` if nobody waits any more.
    async fn meet(
        &self,
        mine: &Descriptor,
        me: Party,
        run: &Arc<Run>,
    ) -> Result<Option<(Descriptor, Vec<(Party, PeerKey)>)>, Problem> {
        let deadline = Instant::now() + Duration::from_millis(mine.durations.join);
        // Before the first look, so that nothing is missed in between.
        let mut arrivals = self.tasks.arrivals();
        let mut strangers = HashSet::new();
        let mut similar = None;
        loop {
            let mut unsure = false;
            // Of those whose word is still there: anybody can go on sending others.
            let before = std::mem::take(&mut strangers);
            similar = self.tasks.pending_difference(mine).or(similar);
            for found in self.tasks.pending_at(mine) {
                let sender = (found.descriptor.task, found.from.clone());
                if before.contains(&sender) {
                    strangers.insert(sender);
                    continue;
                }
                if self.tasks.taken(&found.descriptor.task).is_err() {
                    continue;
                }
                let promised = Promised {
                    keys: &[],
                    inviter: None,
                };
                let known = self.find_peers(&mine.nodes, me, promised).await?;
                match known.iter().find(|(party, _)| party.index() == 0) {
                    Some((_, key)) if found.from.contains(key) => return Ok(Some((found.descriptor, known))),
                    Some(_) => {
                        strangers.insert(sender);
                    }
                    None => unsure = true,
                }
            }
            let pause = if unsure {
                deadline.min(Instant::now() + ASK_AGAIN)
            } else {
                deadline
            };
            tokio::select! {
                _ = tokio::time::timeout_at(pause, arrivals.changed()) => {}
                () = run.abandoned() => {
                    if self.runs.forget_abandoned(run) {
                        return Ok(None);
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(nobody_came(mine, similar));
            }
        }
    }
}

/// The time to join is over. What others wanted instead is told, as far as it is about the same nodes.
fn nobody_came(mine: &Descriptor, similar: Option<Field>) -> Problem {
    let reason = Reason::Expired {
        stage: reason::Stage::Join,
        missing: vec![0],
    };
    let similar = similar.map_or(String::new(), |field| {
        format!(
            "; there was a computation of the same nodes, but {} differ",
            field.name()
        )
    });
    let message = format!(
        "the task has no result: party 0 at {} has not begun it within {} seconds{similar}",
        mine.nodes[0],
        mine.durations.join / 1000
    );
    Problem::state("TASK_FAILED", message, AGREE).with("cause", cause(&reason, None, mine))
}

/// Somebody who has not come may have called something else.
fn with_advice(mut problem: Problem) -> Problem {
    let cause = problem.extra.iter().find(|(name, _)| *name == "cause");
    let late = cause.is_some_and(|(_, cause)| cause["code"] == "EXPIRED" && cause["stage"] == "join");
    if late {
        AGREE.clone_into(&mut problem.hint);
    }
    problem
}

/// The node leaves before there is a result.
pub(crate) fn stopping() -> Problem {
    Problem::unavailable(
        "NOT_READY",
        "this node is stopping; the task goes on when it is there again",
        "ask again in a moment, in the same way",
    )
}
