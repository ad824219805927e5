//! What this node's owner lets happen: looked at when all have joined and the input is there, before this party says that it is ready; and the
//! record of the release, written before its first data leave.

use std::sync::Arc;

use fdrtd_mpc::microprotocol::Prepared;
use fdrtd_mpc::net::Party;
use serde_json::json;
use uuid::Uuid;

use super::{Core, Task};
use crate::approvals::TaskKind;
use crate::identity::PeerKey;
use crate::ledger::{Contributions, Ledger, Refusal};
use crate::policy::{Approval, Home, Other, Policy, Rule};
use crate::problem::Problem;
use crate::reason::Reason;
use crate::services::Principal;
use crate::session::{Declined, Session};
use crate::url::NodeUrl;

/// How far this node has come in deciding.
#[derive(Default)]
pub(super) struct Consent {
    /// It is being looked at.
    considering: bool,
    /// The owner is asked.
    pub(super) asked: bool,
    /// What the owner has said yes to. Not to whatever the task may become: peers' keys may be others after a restart.
    pub(super) approved: Option<TaskKind>,
    /// For which session the record is being written.
    charging: Option<[u8; 32]>,
    /// The rows of the input, if releases are recorded.
    rows: Option<Contributions>,
}

impl Consent {
    /// Nothing of the input is needed any more.
    pub(super) fn forget(&mut self) {
        self.rows = None;
    }
}

/// Tells the session what it has to wait for.
pub(super) fn require(policy: &Policy, session: &mut Session) {
    if policy.keeps_ledger() {
        session.require_clearance();
    }
    if policy.keeps_ledger() || policy.home.approval != Approval::Auto {
        session.require_consent();
    }
}

impl From<Refusal> for Declined {
    fn from(refusal: Refusal) -> Declined {
        Declined {
            rule: Some(refusal.rule),
            message: refusal.message,
        }
    }
}

impl Task {
    /// Whether an input has as many samples as this party and those that have joined want.
    pub(super) fn check_samples(&self, prepared: &Prepared) -> Result<(), Problem> {
        let core = self.lock();
        let (rules, me) = (core.session.rules(), core.session.me().index());
        let checked = Policy::check_samples(&rules, prepared.fewest_samples(), me);
        if let Err(problem) = &checked {
            let detail = json!({"code": problem.code, "rule": Rule::MinSamplesOwn.name()});
            self.context
                .audit
                .note(&self.owner, "task.input.refuse", Some(&self.task_id), &detail);
        }
        checked
    }

    /// A peer whose key has become known may be one with which this node does not compute.
    pub(super) fn check_peer(&self, session: &mut Session, party: Party, key: PeerKey) {
        let Some(url) = session.descriptor().nodes.get(party.index()) else {
            return;
        };
        let others = [Other { url, key: Some(key) }];
        if self.policy.stranger(&self.context.organisations, &others).is_some() {
            let message = format!(
                "this node's policy does not allow computing with party {} at {url}",
                party.index()
            );
            // Who is on its list is nobody else's business.
            session.decline(Declined {
                rule: Some(Rule::Peers),
                message,
            });
        }
    }

    /// Whether somebody has to decide now, and for which session a release has to be recorded now.
    pub(super) fn next_decision(&self, core: &mut Core) -> (bool, Option<[u8; 32]>) {
        let undecided = core.session.awaits_consent() && !core.consent.considering && !core.consent.asked;
        core.consent.considering |= undecided;
        let charge = core
            .session
            .awaits_clearance()
            .filter(|sid| core.consent.charging != Some(*sid));
        if charge.is_some() {
            core.consent.charging = charge;
        }
        (undecided, charge)
    }

    /// Looks at the rules in the owner's place, and asks the owner if they say so.
    pub(super) fn consider(self: &Arc<Self>) {
        let task = Arc::clone(self);
        tokio::spawn(async move {
            let decided = task.decide().await;
            let mut core = task.lock();
            core.consent.considering = false;
            // While it was looked at a peer may have been started anew.
            if !core.session.awaits_consent() {
                task.settle(core);
                return;
            }
            let now = task.context.now();
            task.context.bases.offer(&mut core.session, now);
            match decided {
                Ok(true) => core.session.consent(now),
                Ok(false) => core.consent.asked = true,
                Err(why) => core.session.decline(why),
            }
            task.settle(core);
        });
    }

    /// Whether it may go on; `false` if the owner has to be asked.
    async fn decide(self: &Arc<Self>) -> Result<bool, Declined> {
        if self.policy.keeps_ledger() {
            self.read_rows().await?;
            self.ask_ledger(|ledger, home, object, rows, peers| ledger.check(object, home, peers, rows))
                .await??;
        }
        let core = self.lock();
        let kind = || self.kind(&core);
        let approved = |kind: &TaskKind| core.consent.approved.as_ref() == Some(kind);
        let known = |kind: &TaskKind| self.context.approvals.contains(kind);
        Ok(match self.policy.home.approval {
            Approval::Auto => true,
            Approval::FirstTime => kind().is_some_and(|kind| approved(&kind) || known(&kind)),
            Approval::Always => kind().is_some_and(|kind| approved(&kind)),
        })
    }

    /// The rows of the input, once.
    async fn read_rows(self: &Arc<Self>) -> Result<(), Declined> {
        let texts = {
            let core = self.lock();
            if core.consent.rows.is_some() {
                return Ok(());
            }
            core.inputs.clone()
        };
        let (ledger, configured) = (self.context.ledger.clone(), Arc::clone(&self.configured));
        let read = move || {
            let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
            ledger.contributions(&configured, &texts)
        };
        let _permit = self.context.pool.acquire().await;
        let rows = tokio::task::spawn_blocking(read)
            .await
            .ok()
            .flatten()
            .ok_or_else(unreadable)?;
        let mut core = self.lock();
        // At the end they are forgotten, and none come after it.
        if core.session.end().is_none() {
            core.consent.rows = Some(rows);
        }
        Ok(())
    }

    /// Asks the ledger about this task, apart from those that carry messages: many columns with many releases take their time.
    async fn ask_ledger<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Ledger, &Home, &Uuid, &Contributions, &[(PeerKey, &NodeUrl)]) -> T + Send + 'static,
    ) -> Result<T, Declined> {
        let task = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let (descriptor, keys, rows) = {
                let core = task.lock();
                let session = &core.session;
                (session.descriptor().clone(), session.keys(), core.consent.rows.clone())
            };
            let own = task.context.identity.key();
            let peers: Vec<(PeerKey, &NodeUrl)> = keys
                .iter()
                .zip(&descriptor.nodes)
                .filter_map(|(key, url)| Some(((*key)?, url)))
                .filter(|(key, _)| *key != own)
                .collect();
            let (ledger, home) = (&task.context.ledger, &task.policy.home);
            // By the object: the id of the task is chosen by whoever makes it, and one that comes again is another release.
            rows.map(|rows| ask(ledger, home, &task.object, &rows, &peers))
        });
        asked.await.ok().flatten().ok_or_else(unreadable)
    }

    /// Records the release, then lets the data go.
    pub(super) fn charge(self: &Arc<Self>, sid: [u8; 32]) {
        let task = Arc::clone(self);
        tokio::spawn(async move {
            // Whatever becomes of the task: from here on others may learn from it.
            let note = task.entry(&task.owner, "task.charge", &json!({}));
            let recorded =
                task.ask_ledger(|ledger, home, object, rows, peers| ledger.charge(object, home, peers, rows, note));
            let charged = match recorded.await {
                Ok(Ok(written)) => Ok(written.await),
                Ok(Err(refusal)) => Err(refusal.into()),
                Err(why) => Err(why),
            };
            let mut core = task.lock();
            // Somebody may have been started anew meanwhile: if the session waits for another record still, or again, that is written.
            core.consent.charging.take_if(|charged| *charged == sid);
            let now = task.context.now();
            match charged {
                Ok(Ok(())) => core.session.clear(sid, now),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a release could not be recorded, so it does not happen");
                    let party = core.session.me().index();
                    core.session.fail(Reason::Internal { party });
                }
                Err(why) => core.session.decline(why),
            }
            task.settle(core);
        });
    }

    /// What kind of task it is, once all keys and the input are known.
    fn kind(&self, core: &Core) -> Option<TaskKind> {
        let secret = self
            .context
            .identity
            .derive_secret("fdrtd 2026-11 kinds of approved tasks, version 1");
        let keys: Vec<PeerKey> = core.session.keys().into_iter().collect::<Option<_>>()?;
        let shape = core.session.shape()?;
        let descriptor = core.session.descriptor();
        Some(TaskKind::new(&secret, &keys, &descriptor.microprotocol, &shape.exact))
    }

    /// The owner says yes.
    ///
    /// # Errors
    /// 409 if nobody is asked.
    pub async fn approve(self: &Arc<Self>, who: &Principal) -> Result<(), Problem> {
        let kind = {
            let mut core = self.lock();
            if !core.consent.asked || !core.session.awaits_consent() {
                return Err(not_asked());
            }
            let kind = self.kind(&core).ok_or_else(not_asked)?;
            core.consent.approved = Some(kind.clone());
            kind
        };
        let written = async {
            // The entry first: nothing counts as approved of which the audit knows nothing.
            let entry = self.entry(who, "task.approve", &json!({}));
            self.put_record(vec![entry], true).await?;
            Ok(self.context.approvals.add(&kind).await?)
        };
        if let Err(problem) = written.await {
            self.lock().consent.approved = None;
            self.keep_record();
            return Err(problem);
        }
        self.lock().consent.asked = false;
        // From the beginning: what was released meanwhile counts.
        self.with(|_, _| {});
        Ok(())
    }

    /// The owner says no. The others are told that, and not why.
    ///
    /// # Errors
    /// 409 if it computes already or has ended.
    pub fn decline(self: &Arc<Self>, who: &Principal, reason: Option<&str>) -> Result<(), Problem> {
        let mut core = self.lock();
        if core.session.end().is_some() || core.session.running() {
            return Err(Problem::state(
                "TASK_NOT_WAITING",
                "the task has begun to compute, or has ended",
                "a task can be declined before its computation begins; cancel ends one that computes",
            ));
        }
        let id = core.session.descriptor().task;
        self.context
            .audit
            .note(who, "task.decline", Some(&id), &json!({"reason": reason}));
        core.session.decline(Declined {
            rule: None,
            message: match reason {
                Some(reason) => format!("this node's owner declined: {reason}"),
                None => "this node's owner declined".to_owned(),
            },
        });
        self.settle(core);
        Ok(())
    }
}

fn unreadable() -> Declined {
    Declined {
        rule: None,
        message: "the node could not read the rows of the input".to_owned(),
    }
}

fn not_asked() -> Problem {
    Problem::state(
        "TASK_NOT_WAITING",
        "the task does not wait for this node's owner to approve",
        "GET {base}/tasks/{id} tells what it waits for",
    )
}
