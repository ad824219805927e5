//! What this party looks at before it says that it is ready (rules, its owner's consent) and before its first data (the records of its input and of the release).

use super::{Millis, Phase, Session};
use crate::policy::{Effective, Rule};
use crate::reason::Reason;
use serde::{Deserialize, Serialize};

/// Why this party declined: for its owner alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// The rule; `None` if the owner has decided.
    pub rule: Option<Rule>,
    /// For people.
    pub message: String,
}

impl Declined {
    pub(super) fn samples(rules: &Effective) -> Declined {
        let by = rules.set_by(Rule::MinSamplesOwn).unwrap_or(0);
        let least = rules.rules.min_samples_own;
        Declined {
            rule: Some(Rule::MinSamplesOwn),
            message: format!(
                "the policy of party {by} wants at least {least} samples of each party in each column, and the input of this node has fewer"
            ),
        }
    }
}

/// What stands between this party and its next step.
#[derive(Default)]
pub(super) struct Gate {
    /// Of the column that has the fewest.
    pub(super) samples: u64,
    /// The most that these were compared with.
    compared: Option<u32>,
    /// Somebody decides before Ready.
    wants_consent: bool,
    consent: bool,
    /// Something is recorded before the first data.
    wants_clearance: bool,
    cleared: Option<[u8; 32]>,
    /// The record of the input is being written.
    unrecorded: bool,
    /// For the owner alone.
    declined: Option<Declined>,
}

impl Session {
    /// Does not say that it is ready before [`Session::consent`].
    pub fn require_consent(&mut self) {
        self.gate.wants_consent = true;
    }

    /// Does not send data before [`Session::clear`].
    pub fn require_clearance(&mut self) {
        self.gate.wants_clearance = true;
    }

    /// Does not send data before [`Session::recorded`]: of the input that is given now there is no record yet.
    pub fn require_record(&mut self) {
        self.gate.unrecorded = true;
    }

    /// The input would survive a fall.
    pub fn recorded(&mut self, now: Millis) {
        self.gate.unrecorded = false;
        self.start_if_all_ready(now);
    }

    /// Whether the record of the input is being written.
    pub(super) fn is_unrecorded(&self) -> bool {
        self.gate.unrecorded
    }

    /// Whether all have joined, this party has its input, and only consent is missing.
    pub fn awaits_consent(&self) -> bool {
        matches!(self.phase, Phase::Gathering) && self.input.is_some() && self.sid().is_some() && self.lacks_consent()
    }

    /// The owner, or the rules in the owner's place, say yes.
    pub fn consent(&mut self, now: Millis) {
        self.gate.consent = true;
        self.announce(now);
    }

    /// The session for which all are ready, if only clearance is missing.
    pub fn awaits_clearance(&self) -> Option<[u8; 32]> {
        let sid = self.ready?;
        let awaits = matches!(self.phase, Phase::Gathering) && self.lacks_clearance(&sid) && !self.is_unrecorded();
        (awaits && self.all_agree()).then_some(sid)
    }

    /// The release of that session is recorded.
    pub fn clear(&mut self, sid: [u8; 32], now: Millis) {
        self.gate.cleared = Some(sid);
        self.start_if_all_ready(now);
    }

    /// Ends it because this party does not want to. The others are told that, and not why.
    pub fn decline(&mut self, why: Declined) {
        if self.end().is_some() {
            return;
        }
        self.gate.declined = Some(why);
        let party = self.me.index();
        self.fail(Reason::Declined { party });
    }

    /// Why this party has declined: for its owner alone.
    pub fn declined(&self) -> Option<&Declined> {
        self.gate.declined.as_ref()
    }

    /// Puts back what was known before a restart.
    pub fn restore_declined(&mut self, why: Option<Declined>) {
        self.gate.declined = why;
    }

    /// What the strictest rules of all say, whatever the data are. All parties find the same.
    pub(super) fn refusal(&self) -> Option<Reason> {
        let rules = self.rules();
        let question = self.question.as_ref()?;
        let rule = rules.rules.refusal(question)?.rule;
        let party = rules.set_by(rule).unwrap_or(self.me.index());
        Some(Reason::PolicyRefused { rule, party })
    }

    /// Whether there are as many samples as the strictest rules want; if not, it has ended.
    ///
    /// Once they were compared with a number, they are compared with no higher one: a peer that raised its rule again and again, each time as if its
    /// node had been started anew, would count them.
    pub(super) fn has_enough_samples(&mut self) -> bool {
        let rules = self.rules();
        let least = rules.rules.min_samples_own;
        if self.gate.compared.is_some_and(|compared| least > compared) {
            let party = rules.set_by(Rule::MinSamplesOwn).unwrap_or(self.me.index());
            let rule = Rule::MinSamplesOwn;
            self.fail(Reason::PolicyRefused { rule, party });
            return false;
        }
        self.gate.compared.get_or_insert(least);
        if self.gate.samples < u64::from(least) {
            self.decline(Declined::samples(&rules));
            return false;
        }
        true
    }

    /// Whether somebody has to say yes before this party is ready.
    pub fn lacks_consent(&self) -> bool {
        self.gate.wants_consent && !self.gate.consent
    }

    pub(super) fn lacks_clearance(&self, sid: &[u8; 32]) -> bool {
        self.gate.wants_clearance && self.gate.cleared != Some(*sid)
    }
}
