//! What of a task survives a restart.

use std::sync::Arc;
use std::time::Duration;

use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::Party;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Context, Core, Kept, Mode, Task};
use crate::approvals::TaskKind;
use crate::chain::Note;
use crate::descriptor::Descriptor;
use crate::identity::PeerKey;
use crate::policy::{Other, Policy, Question};
use crate::problem::Problem;
use crate::reason::{Reason, Report};
use crate::receipt::Receipt;
use crate::services::Principal;
use crate::session::{Declined, End, Session};
use crate::store::{StoreError, Write};

/// Kind of a task's record in the store.
pub(crate) const RECORD: &str = "task";

/// Computations that take no longer leave a record of their end only.
const SHORT_RUN: Duration = Duration::from_millis(50);

/// How long the last signatures of a receipt may wait to be written.
const SIGNATURES_WAIT: Duration = Duration::from_millis(50);

/// What of a task survives a restart. Encrypted by the store.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) object: Uuid,
    pub(crate) owner: String,
    pub(crate) descriptor: Descriptor,
    pub(crate) me: usize,
    /// This node's key when the task was made. The others know it as this one.
    #[serde(default)]
    pub(crate) key: Option<PeerKey>,
    pub(crate) policy: Policy,
    /// What the owner has approved.
    #[serde(default)]
    pub(crate) approved: Option<TaskKind>,
    /// Why this party declined.
    #[serde(default)]
    pub(crate) declined: Option<Declined>,
    pub(crate) mode: Mode,
    pub(crate) inputs: Vec<String>,
    pub(crate) sealed: bool,
    /// When it was created or joined, in seconds since 1970.
    pub(crate) since: u64,
    pub(crate) phase: RecordPhase,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum RecordPhase {
    Waiting,
    Running,
    Done {
        result: String,
        unconfirmed: Vec<usize>,
        #[serde(default)]
        receipt: Option<String>,
        /// What only the task's owner has learnt.
        #[serde(default)]
        own: Option<String>,
    },
    Failed {
        reason: Reason,
        reported_by: Option<Report>,
    },
}

impl Task {
    /// A task that was there before a restart.
    pub(crate) fn restore(context: Arc<Context>, record: Record) -> Option<Arc<Task>> {
        let configured = Entry::find(&record.descriptor.microprotocol)?
            .configure(&record.descriptor.parameters)
            .ok()?;
        let parties = record.descriptor.nodes.len();
        let me = Party::new(record.me, parties)?;
        let age = context.clock.now().saturating_sub(record.since).saturating_mul(1000);
        let now = context.now();
        // What its owner allows may have become less since.
        let policy = record.policy.strictest(context.policy.clone());
        let mut session = Session::new(record.descriptor, me, context.identity.key(), policy.rules, now);
        session.restore_declined(record.declined);
        session.set_created(now.saturating_sub(age));
        let owner = Principal::from_record(&record.owner);
        let task = Self::build(context, record.object, owner, policy, record.mode, configured, session);
        let forbidden = task.forbidden_now();
        let mut core = task.lock();
        core.sealed = record.sealed;
        core.consent.approved = record.approved;
        let failed = |reason| {
            Some(End::Failed {
                reason,
                reported_by: None,
            })
        };
        let rotated = record.key.is_some_and(|key| key != task.context.identity.key());
        // Ends that this start brings about.
        let ended = match record.phase {
            RecordPhase::Waiting if rotated => failed(Reason::KeyRotated { party: record.me }),
            RecordPhase::Waiting if forbidden.is_some() => {
                core.session.restore_declined(forbidden);
                failed(Reason::Declined { party: record.me })
            }
            RecordPhase::Waiting => {
                core.inputs = record.inputs.into_iter().map(Zeroizing::new).collect();
                let texts: Vec<&str> = core.inputs.iter().map(|text| text.as_str()).collect();
                let prepared = core.sealed.then(|| task.configured.input(parties, &texts));
                match prepared {
                    None => None,
                    Some(Ok(prepared)) => {
                        core.session.give_input(prepared, now);
                        None
                    }
                    // It was read once; another version may read another way.
                    Some(Err(_)) => failed(Reason::Internal { party: record.me }),
                }
            }
            // The computation is never repeated. Peers notice the restart by themselves, or are told when they say Hello.
            RecordPhase::Running => failed(Reason::PeerRestarted { party: record.me }),
            RecordPhase::Done {
                result,
                unconfirmed,
                receipt,
                own,
            } => {
                core.restore(End::Done { result, unconfirmed }, own.map(Zeroizing::new));
                if let Some(receipt) = receipt.and_then(|text| Receipt::parse(&text).ok()) {
                    core.receipt_recorded = receipt.complete();
                    core.session.restore_receipt(receipt);
                }
                None
            }
            RecordPhase::Failed { reason, reported_by } => {
                core.restore(End::Failed { reason, reported_by }, None);
                None
            }
        };
        if let Some(end) = ended {
            core.inputs.clear();
            core.restore(end, None);
            let entry = task.log_end(&core);
            drop(core);
            drop(task.put_record(entry.into_iter().collect(), true));
        } else {
            drop(core);
        }
        Some(task)
    }

    /// Why this node's owner no longer allows it, if that is so.
    fn forbidden_now(&self) -> Option<Declined> {
        let core = self.lock();
        let (descriptor, me) = (core.session.descriptor(), core.session.me().index());
        let question = Question::of(descriptor)?;
        let nodes = descriptor.nodes.iter().enumerate();
        let others: Vec<Other<'_>> = nodes
            .filter(|(index, _)| *index != me)
            .map(|(_, url)| Other { url, key: None })
            .collect();
        let refusals = self.policy.refusals(&question, &self.context.organisations, &others);
        refusals.first().map(|problem| Declined {
            rule: None,
            message: format!(
                "since the task was made the node's rules were changed: {}",
                problem.message
            ),
        })
    }

    /// Writes the record without waiting for it. What a task has come to is kept even if the quota is reached.
    pub(super) fn keep_record(self: &Arc<Self>) {
        let (task, written) = (Arc::clone(self), self.put_record(Vec::new(), true));
        if !self.context.store.is_ephemeral() {
            tokio::spawn(async move {
                if written.await.is_err() {
                    tracing::error!(task = %task.id(), "the task's record could not be written");
                }
            });
        }
    }

    /// Writes the end, with its entry in the audit. Queued by the call itself; when the future ends, whoever waits for the end is told of it.
    ///
    /// # Errors
    /// When it is not written; then the next one who asks for the result tries again.
    pub(super) fn keep_end(
        self: &Arc<Self>,
        entry: Option<Note>,
    ) -> impl Future<Output = Result<(), Problem>> + Send + use<> {
        let (task, again) = (Arc::clone(self), entry.clone());
        let written = self.put_record(entry.into_iter().collect(), true);
        async move {
            let written = written.await;
            task.lock().kept = match &written {
                Ok(()) => Kept::Yes,
                Err(_) => Kept::Failed(again),
            };
            task.touch();
            written
        }
    }

    /// Writes that the computation has begun, unless it is over in no time: the record of its end comes then, and two writes would cost more than
    /// the computation. Whoever is started anew in between says Hello and learns from its peers that it is too late.
    pub(super) fn keep_record_of_run(self: &Arc<Self>) {
        if !self.context.store.is_ephemeral() {
            let task = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(SHORT_RUN).await;
                if task.ended().is_none() {
                    task.keep_record();
                }
            });
        }
    }

    /// Writes the receipt that is complete now, in a moment: other answers are more urgent, and whoever falls over before asks for the signatures again.
    pub(super) fn keep_signatures(self: &Arc<Self>) {
        if !self.context.store.is_ephemeral() {
            let task = Arc::clone(self);
            tokio::spawn(async move {
                task.pause(SIGNATURES_WAIT).await;
                task.keep_record();
            });
        }
    }

    /// Writes what must survive a restart, together with entries in the audit; the future ends when all are written.
    ///
    /// It is queued by the call itself and under the task's lock: the last record is that of the last state, and none comes after the deletion.
    pub(crate) fn put_record(
        &self,
        notes: Vec<Note>,
        beyond_the_quota: bool,
    ) -> impl Future<Output = Result<(), Problem>> + Send + use<> {
        let core = self.lock();
        let kept = !self.context.store.is_ephemeral() && !core.deleted;
        let mut notes = notes.into_iter();
        let write = if kept {
            let (bytes, expires) = self.record(&core);
            Some(Write::put(RECORD, self.object.to_string(), bytes, expires).noting(notes))
        } else {
            notes.next().map(|first| Write::note(first).noting(notes))
        };
        let write = write.map(|write| {
            if beyond_the_quota {
                write.beyond_the_quota()
            } else {
                write
            }
        });
        let written = write.map(|write| self.context.store.commit(write));
        async move {
            match written {
                Some(written) => written.await.map_err(Problem::from),
                None => Ok(()),
            }
        }
    }

    /// Deletes what would survive a restart, because `who` wants it.
    pub(crate) fn delete_record(&self, who: &Principal) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let mut core = self.lock();
        core.deleted = true;
        let entry = self.entry(who, "task.delete", &json!({}));
        let write = Write::delete(RECORD, self.object.to_string()).noting([entry]);
        self.context.store.commit(write)
    }

    /// What must survive a restart, and until when.
    fn record(&self, core: &Core) -> (Zeroizing<Vec<u8>>, u64) {
        let session = &core.session;
        let phase = match session.end() {
            Some(End::Done { result, unconfirmed }) => RecordPhase::Done {
                result: result.clone(),
                unconfirmed: unconfirmed.clone(),
                receipt: session.receipt().map(|receipt| receipt.shown(true).to_string()),
                own: session.own().map(str::to_owned),
            },
            Some(End::Failed { reason, reported_by }) => RecordPhase::Failed {
                reason: reason.clone(),
                reported_by: *reported_by,
            },
            None if session.running() => RecordPhase::Running,
            None => RecordPhase::Waiting,
        };
        let waiting = matches!(phase, RecordPhase::Waiting);
        let age = self.context.now().saturating_sub(session.created()) / 1000;
        let record = Record {
            object: self.object,
            owner: self.owner.recorded().to_owned(),
            descriptor: session.descriptor().clone(),
            me: session.me().index(),
            key: Some(self.context.identity.key()),
            policy: self.policy.clone(),
            approved: core.consent.approved.clone(),
            declined: session.declined().cloned(),
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
        let own = match record.phase {
            RecordPhase::Done { own, .. } => own,
            _ => None,
        };
        for text in record.inputs.into_iter().chain(own) {
            drop(Zeroizing::new(text));
        }
        (bytes, self.context.clock.now() + kept)
    }
}
