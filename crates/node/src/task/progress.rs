//! A task as its owner sees it: progress, results, reasons.

use serde_json::{Value, json};

use super::{Core, Task};
use crate::descriptor::Descriptor;
use crate::identity::PeerKey;
use crate::problem::Problem;
use crate::reason::{Reason, Report, Stage, parties};
use crate::session::{End, Session};

impl Task {
    /// For people: who is waited for, why, and how long still.
    pub fn waiting_text(&self) -> String {
        let progress = self.progress();
        let waiting = progress["waiting_for"].as_array().cloned().unwrap_or_default();
        let texts: Vec<&str> = waiting.iter().filter_map(|entry| entry["why"].as_str()).collect();
        if texts.is_empty() {
            return "computing".to_owned();
        }
        let mut text = texts.join("; ");
        if ["created", "joining"].iter().any(|state| progress["state"] == *state) {
            text.push_str(if self.meeting().is_some() {
                "; the others call compute as you did, at their own nodes"
            } else {
                "; to join takes the invitation: hand over task.invite()['link'], and the others call join(invitation='fdrtd:…')"
            });
        }
        text
    }

    /// Everything its owner may know about it while it goes on.
    pub fn progress(&self) -> Value {
        self.progress_for(true)
    }

    /// The same; why this party declined is for its owner (and this node's) alone.
    pub fn progress_for(&self, owner: bool) -> Value {
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
                Stage::Input if index == me && session.has_input(me) && session.lacks_consent() => {
                    if core.consent.asked {
                        "waits for this node's owner to approve the task: fdrtd task approve, or decline"
                    } else {
                        "looks at its owner's rules"
                    }
                }
                Stage::Input if session.has_input(index) && statuses[index]["connected"] == true => {
                    "has given its input, but for another session: somebody was started anew and it has not heard of it yet"
                }
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
        let rounds = self.rounds(&core);
        let round = match session.end() {
            Some(End::Done { .. }) => rounds,
            _ => session.round().min(rounds),
        };
        let heard = self.heard(&keys);
        let left = session
            .next_deadline(&heard)
            .map(|at| at.saturating_sub(self.context.now()) / 1000);
        let rules = session.rules();
        let mut progress = json!({
            "task": descriptor.task,
            "microprotocol": descriptor.microprotocol,
            "state": state_name(session),
            "party": me,
            "parties": statuses,
            "waiting_for": waiting,
            "round": round,
            "rounds": rounds,
            "seconds_left": left,
            "policy": rules.rules.profile,
            "rules": rules.shown(),
            "messages": {"data": session.data_messages_sent()},
            "receipt": null,
        });
        if let Some(receipt) = session.receipt() {
            progress["receipt"] =
                json!({"complete": receipt.complete(), "id": receipt.id(), "signed": receipt.signed()});
        }
        if let Some(End::Failed { reason, reported_by }) = session.end() {
            progress["cause"] = cause(reason, *reported_by, descriptor);
            if let Some(declined) = session.declined().filter(|_| owner) {
                progress["cause"]["declined"] = json!(declined);
            }
        }
        if core.consent.asked && session.awaits_consent() {
            progress["approval"] = "waiting".into();
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

    /// Why there is no result, for the task's owner.
    pub(super) fn failed(&self, core: &Core, reason: &Reason, reported_by: Option<Report>) -> Problem {
        let mut cause = cause(reason, reported_by, core.session.descriptor());
        let mut message = format!("the task has no result: {}", told(reason, reported_by));
        if let Some(declined) = core.session.declined() {
            cause["declined"] = json!(declined);
            message = format!("{message}: {}", declined.message);
        }
        Problem::state("TASK_FAILED", message, reason.hint()).with("cause", cause)
    }

    fn connection(&self, core: &Core, keys: &[Option<PeerKey>], index: usize) -> (bool, Option<String>) {
        if index == core.session.me().index() || core.session.end().is_some() {
            return (true, None);
        }
        let url = &core.session.descriptor().nodes[index];
        let Some(key) = keys[index] else {
            let error = core.resolve_errors[index].as_ref();
            return (
                false,
                Some(error.map_or("looking for its node".to_owned(), |error| {
                    format!("{error}; {}", error.hint_at(url))
                })),
            );
        };
        let status = self.context.peers.status(key);
        let problem = if status.connected {
            None
        } else {
            Some(status.last_error.map_or("not connected".to_owned(), |error| {
                format!("{error}; {}", error.hint_at(url))
            }))
        };
        (status.connected, problem)
    }
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
///
/// What only this party's owner learns comes after it, as `own`: that is each party's own.
pub(super) fn whole_result(result: &str, inputs: usize, unconfirmed: &[usize], own: Option<&str>) -> String {
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
    let mut whole = format!("{{\"inputs\":{inputs},\"result\":{result}");
    if let Some(own) = own {
        whole.push_str(&format!(",\"own\":{own}"));
    }
    if !warnings.is_empty() {
        whole.push_str(&format!(",\"warnings\":{}", Value::from(warnings)));
    }
    whole.push('}');
    whole
}

/// Who says so is told wherever a party speaks of others: a dishonest one may say anything.
fn told(reason: &Reason, reported_by: Option<Report>) -> String {
    match reported_by {
        Some(Report {
            by,
            passed_on_by: Some(party),
        }) => format!("{reason} (reported by party {by}, passed on by party {party})"),
        Some(Report { by, .. }) if reason.party() != Some(by) => format!("{reason} (reported by party {by})"),
        _ => reason.to_string(),
    }
}

pub(crate) fn cause(reason: &Reason, reported_by: Option<Report>, descriptor: &Descriptor) -> Value {
    let mut cause = serde_json::to_value(reason).unwrap_or_default();
    cause["message"] = told(reason, reported_by).into();
    cause["hint"] = reason.hint().into();
    if let Some(party) = reason.party() {
        cause["party"] = party.into();
        cause["node"] = descriptor.nodes.get(party).map(|url| url.to_string()).into();
    }
    if let Some(Report { by, passed_on_by }) = reported_by {
        cause["reported_by"] = by.into();
        if let Some(party) = passed_on_by {
            cause["passed_on_by"] = party.into();
        }
    }
    cause
}
