//! What a task is given: read, checked and kept before it is acknowledged.

use std::sync::Arc;

use fdrtd_mpc::microprotocol::Prepared;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Core, Mode, Task};
use crate::identity::PeerKey;
use crate::problem::Problem;
use crate::session::{End, Job};

impl Task {
    /// Gives an input (JSON text). It is validated before anything is kept; what cannot be used leaves the task as it was.
    ///
    /// # Errors
    /// 422 with the position of what cannot be used; 409 if the task has started or ended, or another input is being read.
    pub async fn input(self: &Arc<Self>, text: Zeroizing<String>) -> Result<(), Problem> {
        let task = Arc::clone(self);
        whole(async move { task.take_input(text).await }).await
    }

    async fn take_input(self: Arc<Self>, text: Zeroizing<String>) -> Result<(), Problem> {
        let Ok(_alone) = self.giving.try_lock() else {
            self.check_open(&self.lock())?;
            return Err(busy());
        };
        // Only now: what another one has just added must be among them.
        let (mut texts, parties) = {
            let core = self.lock();
            self.check_open(&core)?;
            (core.inputs.clone(), core.session.descriptor().nodes.len())
        };
        texts.push(text);
        self.check_inputs(&texts)?;
        let prepared = self.prepare(texts.clone(), parties).await?;
        self.check_room(prepared.shape.message_bytes, parties)?;
        if self.mode == Mode::OnInput {
            self.check_samples(&prepared)?;
        }
        {
            let mut core = self.lock();
            self.check_open(&core)?;
            core.inputs = texts;
            core.sealed = self.mode == Mode::OnInput;
        }
        let given = self.entry(&self.owner, "task.input", &json!({}));
        if let Err(problem) = self.put_record(vec![given], false).await {
            // The caller is told that the input was not taken, and may give it again.
            let mut core = self.lock();
            if core.session.end().is_none() {
                core.inputs.pop();
                core.sealed = false;
            }
            return Err(problem);
        }
        if self.mode == Mode::OnInput {
            self.with(|session, now| session.give_input(prepared, now));
        }
        Ok(())
    }

    /// Reads an input and checks it in every way, without taking it.
    pub(super) async fn look_at(&self, text: &Zeroizing<String>) -> Result<Prepared, Problem> {
        let parties = self.lock().session.descriptor().nodes.len();
        let prepared = self.prepare(vec![text.clone()], parties).await?;
        self.check_room(prepared.shape.message_bytes, parties)?;
        self.check_samples(&prepared)?;
        Ok(prepared)
    }

    /// Starts a task that gathers its inputs.
    ///
    /// # Errors
    /// 409 if it has started, ended, or has no input, or an input is being read.
    pub async fn start(self: &Arc<Self>) -> Result<(), Problem> {
        let task = Arc::clone(self);
        whole(async move { task.begin().await }).await
    }

    async fn begin(self: Arc<Self>) -> Result<(), Problem> {
        let Ok(_alone) = self.giving.try_lock() else {
            return Err(busy());
        };
        let (texts, parties) = {
            let core = self.lock();
            self.check_open(&core)?;
            if core.inputs.is_empty() {
                return Err(Problem::state(
                    "NO_INPUT",
                    "the task has no input yet",
                    "call input(source=…) before start()",
                ));
            }
            (core.inputs.clone(), core.session.descriptor().nodes.len())
        };
        let prepared = self.prepare(texts, parties).await?;
        self.check_room(prepared.shape.message_bytes, parties)?;
        self.check_samples(&prepared)?;
        {
            let mut core = self.lock();
            self.check_open(&core)?;
            core.sealed = true;
        }
        let started = self.entry(&self.owner, "task.start", &json!({}));
        if let Err(problem) = self.put_record(vec![started], false).await {
            let mut core = self.lock();
            core.sealed = core.session.end().is_some();
            return Err(problem);
        }
        self.with(|session, now| session.give_input(prepared, now));
        Ok(())
    }

    async fn prepare(&self, texts: Vec<Zeroizing<String>>, parties: usize) -> Result<Prepared, Problem> {
        let configured = Arc::clone(&self.configured);
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let read = move || {
            let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
            configured.input(parties, &texts)
        };
        let prepared = if bytes <= Job::LIGHT {
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

    /// Whether there is memory for the inputs themselves: a task may gather any number of them before it starts.
    fn check_inputs(&self, texts: &[Zeroizing<String>]) -> Result<(), Problem> {
        let most = self.context.memory.task;
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        // One alone is bounded by what a request may be.
        if bytes <= most || texts.len() == 1 {
            return Ok(());
        }
        Err(Problem::too_large(
            "TASK_TOO_LARGE",
            format!("the inputs of the task would take {bytes} bytes together, and this node has room for {most}"),
            "give fewer numbers, or ask this node's operator to raise limits.task_bytes",
        )
        .exceeds("task_bytes", most))
    }

    /// Whether there is memory for the messages of this task: one of each party in each direction, at least.
    fn check_room(&self, message: usize, parties: usize) -> Result<(), Problem> {
        let memory = &self.context.memory;
        let needed = message.saturating_mul(2 * parties.saturating_sub(1));
        let exceeded = [
            ("task_bytes", memory.task, needed),
            ("peer_inbox_bytes", memory.inbox, message),
            ("peer_outbox_bytes", memory.outbox, message),
        ];
        for (limit, most, needed) in exceeded {
            if needed > most {
                return Err(Problem::too_large(
                    "TASK_TOO_LARGE",
                    format!(
                        "with this input and {parties} parties the messages of the task would take {needed} bytes, and this node has room for {most}"
                    ),
                    format!("give fewer numbers at once, or ask this node's operator to raise limits.{limit}"),
                )
                .exceeds(limit, most));
            }
        }
        let full = |key: &PeerKey| self.context.peers.queued(*key).saturating_add(message) > memory.outbox;
        if self.others(&self.lock().session).iter().any(full) {
            return Err(Problem::unavailable(
                "PEER_BACKLOG",
                "too much waits for another node of this task that does not take it",
                "give the input again when that node is there again: progress() says whether it is",
            )
            .exceeds("peer_outbox_bytes", memory.outbox));
        }
        Ok(())
    }

    fn check_open(&self, core: &Core) -> Result<(), Problem> {
        if let Some(end) = core.session.end() {
            return Err(match end {
                End::Done { .. } => Problem::state(
                    "TASK_FINISHED",
                    "the task has ended and has its result",
                    "result() gives it; create a new task for new data",
                ),
                End::Failed { reason, reported_by } => self.failed(core, reason, *reported_by),
            });
        }
        if core.sealed {
            return Err(Problem::state(
                "ALREADY_STARTED",
                "the task has its input already and has started",
                "give all numbers at once, as a list: input(data=[1, 2, 3]); or make the task with create_task and start it with start(); for \
                 other numbers create a new task",
            ));
        }
        Ok(())
    }
}

/// Runs to its end also if the caller hangs up in between: what is written and what is in memory go together.
pub(crate) async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|_| {
        Err(Problem::internal(
            "INTERNAL",
            "the call failed",
            "report it to the operator",
        ))
    })
}

fn busy() -> Problem {
    Problem::state(
        "BUSY",
        "another input of this task is being read at the same time",
        "give one input after the other",
    )
}
