//! What this node's owner allows. The data holder's node decides; a requester can only tighten; the strictest rules of all parties are in force.
//!
//! Pure: rules are compared with a question ([`Rules::refusal`]) or with numbers that the node has at hand. What cannot be checked is refused:
//! nothing is waved through.
//!
//! [`Rules`] are what all parties have in common and compare; [`Home`] concerns this node alone and stays here.

mod changes;
mod organisations;
mod rules;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::services::Principal;

pub use changes::Changes;
pub use organisations::{Organisations, Other};
pub use rules::{Effective, Question, Refusal, Rule, Rules};

/// A set of disclosure rules, ordered from lenient to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// For demonstrations and lessons: any number of samples, two parties with a warning.
    Teaching,
    /// The default of a node: at least 3 parties, 10 samples in all, 5 of each party.
    Standard,
    /// At least 4 parties, 20 samples in all, 10 of each party.
    Strict,
}

impl Profile {
    /// Its name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Teaching => "teaching",
            Profile::Standard => "standard",
            Profile::Strict => "strict",
        }
    }

    /// As one byte between nodes.
    pub fn to_byte(self) -> u8 {
        match self {
            Profile::Teaching => 0,
            Profile::Standard => 1,
            Profile::Strict => 2,
        }
    }

    /// From a byte of a peer.
    pub fn from_byte(byte: u8) -> Option<Profile> {
        [Profile::Teaching, Profile::Standard, Profile::Strict]
            .into_iter()
            .find(|profile| profile.to_byte() == byte)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        [Profile::Teaching, Profile::Standard, Profile::Strict]
            .into_iter()
            .find(|profile| profile.name() == text)
            .ok_or_else(|| "a policy is teaching, standard or strict".to_owned())
    }
}

/// Most rows that [`Home::differencing`] may ask for.
pub const MOST_DIFFERENCING: u8 = 16;

/// Whether the owner is asked before anything of an input leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// The rules decide.
    Auto,
    /// The first time that these peers compute this microprotocol on these columns.
    FirstTime,
    /// Each time.
    Always,
}

impl Approval {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Approval::Auto => "auto",
            Approval::FirstTime => "first-time",
            Approval::Always => "always",
        }
    }
}

/// The rules that concern this node alone. The others are not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// [`Rule::Microprotocols`]; `None` for all.
    pub microprotocols: Option<BTreeSet<String>>,
    /// [`Rule::MinOrganisations`].
    pub min_organisations: u8,
    /// [`Rule::Peers`]; `None` for all.
    pub peers: Option<BTreeSet<String>>,
    /// [`Rule::Releases`]; `None` for any number.
    pub releases: Option<u32>,
    /// [`Rule::Differencing`].
    pub differencing: u8,
    /// [`Rule::Approval`].
    pub approval: Approval,
}

impl Home {
    fn strictest(self, other: Home) -> Home {
        Home {
            microprotocols: common(self.microprotocols, other.microprotocols),
            min_organisations: self.min_organisations.max(other.min_organisations),
            peers: common(self.peers, other.peers),
            releases: match (self.releases, other.releases) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
            differencing: self.differencing.max(other.differencing),
            approval: self.approval.max(other.approval),
        }
    }
}

fn common(one: Option<BTreeSet<String>>, other: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.intersection(&other).cloned().collect()),
        (one, other) => one.or(other),
    }
}

/// All rules of a node, or of one task at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What the parties compare.
    pub rules: Rules,
    /// What stays here.
    pub home: Home,
}

impl Policy {
    /// A profile without changes.
    pub fn of(profile: Profile) -> Policy {
        let (releases, differencing) = match profile {
            Profile::Teaching => (None, 0),
            Profile::Standard => (Some(100), 5),
            Profile::Strict => (Some(20), 10),
        };
        Policy {
            rules: profile.into(),
            home: Home {
                microprotocols: None,
                min_organisations: 1,
                peers: None,
                releases,
                differencing,
                approval: Approval::Auto,
            },
        }
    }

    /// A policy that is nowhere looser than either.
    #[must_use]
    pub fn strictest(self, other: Policy) -> Policy {
        Policy {
            rules: self.rules.strictest(other.rules),
            home: self.home.strictest(other.home),
        }
    }

    /// Whether releases are recorded.
    pub fn keeps_ledger(&self) -> bool {
        self.home.releases.is_some() || self.home.differencing > 1
    }

    /// Decides whether `owner` may take part in a task on this node: what can be known before anything is sent.
    ///
    /// # Errors
    /// 403 with the rule that says no.
    pub fn permit(
        self,
        owner: Principal,
        question: &Question,
        organisations: &Organisations,
        others: &[Other<'_>],
    ) -> Result<Permit, Problem> {
        match self.refusals(question, organisations, others).into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(Permit { owner, policy: self }),
        }
    }

    /// Everything that says no to a task whatever the data are.
    pub fn refusals(&self, question: &Question, organisations: &Organisations, others: &[Other<'_>]) -> Vec<Problem> {
        let mut all = Vec::new();
        if let Some(allowed) = &self.home.microprotocols
            && !allowed.contains(question.microprotocol)
        {
            all.push(words::microprotocol(question.microprotocol));
        }
        if let Some(refusal) = self.rules.refusal(question) {
            all.push(words::refused(&self.rules, refusal, question));
        }
        let count = organisations.count(others);
        if count < usize::from(self.home.min_organisations) {
            all.push(words::organisations(self.home.min_organisations, count));
        }
        if let Some(other) = self.stranger(organisations, others) {
            all.push(words::peer(&other.url.to_string()));
        }
        all
    }

    /// A party with which this node does not compute.
    pub fn stranger<'a>(&self, organisations: &Organisations, others: &'a [Other<'a>]) -> Option<&'a Other<'a>> {
        let allowed = self.home.peers.as_ref()?;
        others
            .iter()
            .find(|other| organisations.allows(allowed, other) == Some(false))
    }

    /// Whether an input has enough samples for this policy and for what the other parties that are known want.
    ///
    /// # Errors
    /// 403 with the rule and the numbers, for whoever gave the input.
    pub fn check_samples(rules: &Effective, samples: u64, me: usize) -> Result<(), Problem> {
        if samples >= u64::from(rules.rules.min_samples_own) {
            return Ok(());
        }
        Err(words::too_few_samples(rules, samples, me))
    }

    /// The rules in which this policy is looser than its profile.
    pub fn looser(&self) -> Vec<Rule> {
        let profile = Policy::of(self.rules.profile);
        let both = self.clone().strictest(profile);
        let mut looser: Vec<Rule> = Rule::COMMON.to_vec();
        looser.retain(|rule| self.rules.value(*rule) != both.rules.value(*rule));
        if self.home.releases != both.home.releases {
            looser.push(Rule::Releases);
        }
        if self.home.differencing != both.home.differencing {
            looser.push(Rule::Differencing);
        }
        looser
    }

    /// All rules by name. Who the allowed peers are is told to those who are known.
    pub fn shown(&self, with_peers: bool) -> Value {
        let mut rules = self.rules.shown();
        let home = &self.home;
        rules.insert(Rule::Microprotocols.name().into(), json!(home.microprotocols));
        rules.insert(Rule::MinOrganisations.name().into(), json!(home.min_organisations));
        if with_peers {
            rules.insert(Rule::Peers.name().into(), json!(home.peers));
        }
        rules.insert(Rule::Releases.name().into(), json!(home.releases.unwrap_or(0)));
        rules.insert(Rule::Differencing.name().into(), json!(home.differencing));
        rules.insert(Rule::Approval.name().into(), json!(home.approval));
        Value::Object(rules)
    }

    /// What the parties would compare inside the computation under these rules.
    pub fn compared(&self, question: &Question) -> Value {
        words::compared(&self.rules, question)
    }

    /// `GET {base}/policy`.
    pub fn document(&self, with_peers: bool) -> Value {
        json!({
            "profile": self.rules.profile,
            "rules": self.shown(with_peers),
            "looser_than_profile": self.looser(),
            "words": words::all(self),
        })
    }
}

/// The leave to take part in one task. Only [`Policy::permit`] makes one, and no task can be built without.
#[derive(Debug)]
pub struct Permit {
    owner: Principal,
    policy: Policy,
}

impl Permit {
    /// Who asked.
    pub fn owner(&self) -> &Principal {
        &self.owner
    }

    /// Under which rules.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

pub(crate) use words::{differencing, ledger_full, releases};

#[cfg(test)]
mod tests;
