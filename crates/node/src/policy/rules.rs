//! The rules that all parties have in common: each sends its own, all compute the strictest of all, and the session's id depends on every one of them.

use fdrtd_mpc::microprotocol::{Configured, Entry, Release};
use fdrtd_mpc::number::{Digits, MAX_DIGITS};
use fdrtd_mpc::threshold::Thresholds;
use fdrtd_mpc::wire::Malformed;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Profile;
use crate::descriptor::Descriptor;

/// A rule by its name: as in the configuration, in answers and between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Which microprotocols may run.
    Microprotocols,
    /// How many parties at least, by key.
    MinParties,
    /// How many organisations at least.
    MinOrganisations,
    /// Whether two parties may compute alone.
    AllowTwoParty,
    /// Samples of each party at least.
    MinSamplesOwn,
    /// Samples of all parties at least.
    MinSamplesTotal,
    /// Samples of all others at least, as each party sees it.
    MinSamplesOthers,
    /// Count of a cell at least.
    MinCell,
    /// Whether single values may open.
    AllowExtremes,
    /// Digits before the point at most.
    MaxDigitsBefore,
    /// Digits after the point at most.
    MaxDigitsAfter,
    /// With whom.
    Peers,
    /// How often a column may be released to the same peer.
    Releases,
    /// In how many rows two releases of a column differ at least.
    Differencing,
    /// Whether the owner is asked.
    Approval,
}

impl Rule {
    /// Those that all parties have in common, in the order in which they are checked.
    pub const COMMON: [Rule; 9] = [
        Rule::MinParties,
        Rule::AllowTwoParty,
        Rule::MaxDigitsBefore,
        Rule::MaxDigitsAfter,
        Rule::AllowExtremes,
        Rule::MinCell,
        Rule::MinSamplesOwn,
        Rule::MinSamplesTotal,
        Rule::MinSamplesOthers,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Microprotocols => "microprotocols",
            Rule::MinParties => "min_parties",
            Rule::MinOrganisations => "min_organisations",
            Rule::AllowTwoParty => "allow_two_party",
            Rule::MinSamplesOwn => "min_samples_own",
            Rule::MinSamplesTotal => "min_samples_total",
            Rule::MinSamplesOthers => "min_samples_others",
            Rule::MinCell => "min_cell",
            Rule::AllowExtremes => "allow_extremes",
            Rule::MaxDigitsBefore => "max_digits_before",
            Rule::MaxDigitsAfter => "max_digits_after",
            Rule::Peers => "peers",
            Rule::Releases => "releases",
            Rule::Differencing => "differencing",
            Rule::Approval => "approval",
        }
    }
}

/// The rules that all parties have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Where they come from; single ones may differ from the profile's.
    pub profile: Profile,
    /// [`Rule::MinParties`].
    pub min_parties: u8,
    /// [`Rule::AllowTwoParty`].
    pub allow_two_party: bool,
    /// [`Rule::MinSamplesOwn`].
    pub min_samples_own: u32,
    /// [`Rule::MinSamplesTotal`].
    pub min_samples_total: u32,
    /// [`Rule::MinSamplesOthers`].
    pub min_samples_others: u32,
    /// [`Rule::MinCell`].
    pub min_cell: u32,
    /// [`Rule::AllowExtremes`].
    pub allow_extremes: bool,
    /// [`Rule::MaxDigitsBefore`].
    pub max_digits_before: u16,
    /// [`Rule::MaxDigitsAfter`].
    pub max_digits_after: u16,
}

/// No declared digits are more.
#[allow(clippy::cast_possible_truncation)] // 608
const ANY_DIGITS: u16 = MAX_DIGITS as u16;

impl From<Profile> for Rules {
    fn from(profile: Profile) -> Rules {
        let teaching = Rules {
            profile,
            min_parties: 2,
            allow_two_party: true,
            min_samples_own: 0,
            min_samples_total: 0,
            min_samples_others: 0,
            min_cell: 0,
            allow_extremes: true,
            max_digits_before: ANY_DIGITS,
            max_digits_after: ANY_DIGITS,
        };
        match profile {
            Profile::Teaching => teaching,
            Profile::Standard => Rules {
                min_parties: 3,
                allow_two_party: false,
                min_samples_own: 5,
                min_samples_total: 10,
                min_samples_others: 5,
                min_cell: 5,
                allow_extremes: false,
                max_digits_before: 36,
                max_digits_after: 18,
                ..teaching
            },
            Profile::Strict => Rules {
                min_parties: 4,
                allow_two_party: false,
                min_samples_own: 10,
                min_samples_total: 20,
                min_samples_others: 10,
                min_cell: 10,
                allow_extremes: false,
                max_digits_before: 18,
                max_digits_after: 12,
                ..teaching
            },
        }
    }
}

/// What is to be computed, as far as the rules look at it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The microprotocol.
    pub microprotocol: &'static str,
    /// What opens.
    pub releases: &'static [Release],
    /// Whether it compares with thresholds before anything opens.
    pub compares: bool,
    /// Its precision.
    pub digits: Option<Digits>,
    /// By how many parties.
    pub parties: usize,
}

impl Question {
    /// About a microprotocol with its parameters.
    pub fn new(entry: &Entry, configured: &Configured, parties: usize) -> Question {
        Question {
            microprotocol: entry.name,
            releases: configured.releases,
            compares: entry.compares,
            digits: configured.digits,
            parties,
        }
    }

    /// About a task. `None` if this build does not know its microprotocol or the parameters.
    pub fn of(descriptor: &Descriptor) -> Option<Question> {
        let entry = Entry::find(&descriptor.microprotocol)?;
        let configured = entry.configure(&descriptor.parameters).ok()?;
        Some(Question::new(entry, &configured, descriptor.nodes.len()))
    }
}

/// A rule that says no whatever the data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// It is not broken, but nobody could tell whether it is.
    pub cannot_check: bool,
}

impl Rules {
    /// How long they are between nodes: the profile, then the rest.
    pub const BYTES: usize = 1 + Rules::REST;
    /// Without the profile.
    pub(crate) const REST: usize = 1 + 1 + 4 * 4 + 2 * 2;

    /// Rules that are nowhere looser than either.
    #[must_use]
    pub fn strictest(self, other: Rules) -> Rules {
        Rules {
            profile: self.profile.max(other.profile),
            min_parties: self.min_parties.max(other.min_parties),
            allow_two_party: self.allow_two_party && other.allow_two_party,
            min_samples_own: self.min_samples_own.max(other.min_samples_own),
            min_samples_total: self.min_samples_total.max(other.min_samples_total),
            min_samples_others: self.min_samples_others.max(other.min_samples_others),
            min_cell: self.min_cell.max(other.min_cell),
            allow_extremes: self.allow_extremes && other.allow_extremes,
            max_digits_before: self.max_digits_before.min(other.max_digits_before),
            max_digits_after: self.max_digits_after.min(other.max_digits_after),
        }
    }

    /// What `parties` have to compare inside the protocol before anything opens.
    ///
    /// Every party sees to it that it has as many samples as `min_samples_own` wants before it says that it is ready. So p parties have
    /// p · `min_samples_own` in all, and the others of each (p − 1) · `min_samples_own`: where that is enough nothing has to be compared.
    pub fn thresholds(&self, parties: usize) -> Thresholds {
        let parties = u64::try_from(parties).unwrap_or(u64::MAX);
        let own = u64::from(self.min_samples_own);
        let unless_certain = |wanted: u32, counted: u64| {
            let certain = counted.saturating_mul(own) >= u64::from(wanted);
            if certain { 0 } else { u64::from(wanted) }
        };
        Thresholds {
            samples_total: unless_certain(self.min_samples_total, parties),
            samples_others: unless_certain(self.min_samples_others, parties.saturating_sub(1)),
            cell: u64::from(self.min_cell),
            // One at least: the value with none beyond it is an extreme.
            beyond: if self.allow_extremes {
                0
            } else {
                u64::from(self.min_cell).max(1)
            },
            no_extremes: !self.allow_extremes,
            group_total: u64::from(self.min_samples_total),
            group_others: u64::from(self.min_samples_others),
        }
    }

    /// The first rule that says no to `question` whatever the data are.
    ///
    /// What does not follow from the minimum of each party can only be compared inside the protocol ([`Rules::thresholds`]). A microprotocol that
    /// does so hides what does not reach it; for one that does not nobody could tell, and it is refused.
    pub fn refusal(&self, question: &Question) -> Option<Refusal> {
        let parties = u64::try_from(question.parties).unwrap_or(u64::MAX);
        let (before, after) = question
            .digits
            .map_or((0, 0), |digits| (digits.before(), digits.after()));
        let opens = |release| question.releases.contains(&release);
        let single = opens(Release::Extremes) || (opens(Release::Order) && !question.compares);
        let thresholds = self.thresholds(question.parties);
        // Of every kind of release: each is of somebody's samples.
        let unchecked = !question.compares && !question.releases.is_empty();
        let broken = |rule| Refusal {
            rule,
            cannot_check: false,
        };
        let unknown = |rule| Refusal {
            rule,
            cannot_check: true,
        };
        let checks = [
            (parties < u64::from(self.min_parties), broken(Rule::MinParties)),
            (parties == 2 && !self.allow_two_party, broken(Rule::AllowTwoParty)),
            (before > self.max_digits_before, broken(Rule::MaxDigitsBefore)),
            (after > self.max_digits_after, broken(Rule::MaxDigitsAfter)),
            (!self.allow_extremes && single, broken(Rule::AllowExtremes)),
            (
                unchecked && opens(Release::Cells) && thresholds.cell > 0,
                unknown(Rule::MinCell),
            ),
            (
                unchecked && thresholds.samples_total > 0,
                unknown(Rule::MinSamplesTotal),
            ),
            (
                unchecked && thresholds.samples_others > 0,
                unknown(Rule::MinSamplesOthers),
            ),
        ];
        checks
            .into_iter()
            .find_map(|(says_no, refusal)| says_no.then_some(refusal))
    }

    /// What one of [`Rule::COMMON`] says.
    pub fn value(&self, rule: Rule) -> Value {
        match rule {
            Rule::MinParties => json!(self.min_parties),
            Rule::AllowTwoParty => json!(self.allow_two_party),
            Rule::MinSamplesOwn => json!(self.min_samples_own),
            Rule::MinSamplesTotal => json!(self.min_samples_total),
            Rule::MinSamplesOthers => json!(self.min_samples_others),
            Rule::MinCell => json!(self.min_cell),
            Rule::AllowExtremes => json!(self.allow_extremes),
            Rule::MaxDigitsBefore => json!(self.max_digits_before),
            Rule::MaxDigitsAfter => json!(self.max_digits_after),
            _ => Value::Null,
        }
    }

    /// All of them, by name.
    pub fn shown(&self) -> Map<String, Value> {
        let all = Rule::COMMON.map(|rule| (rule.name().to_owned(), self.value(rule)));
        all.into_iter().collect()
    }

    /// All of them as one text, the same at every party: what a receipt says of the rules.
    pub fn text(&self) -> String {
        let mut all = self.shown();
        all.insert("profile".to_owned(), self.profile.name().into());
        Value::Object(all).to_string()
    }

    /// Whether nothing has to be looked at in an input.
    pub fn want_no_samples(&self) -> bool {
        self.min_samples_own == 0
    }

    /// Between nodes.
    pub(crate) fn to_bytes(self) -> [u8; Rules::BYTES] {
        let mut bytes = vec![self.profile.to_byte(), self.min_parties];
        bytes.push(u8::from(self.allow_two_party) | u8::from(self.allow_extremes) << 1);
        for number in [
            self.min_samples_own,
            self.min_samples_total,
            self.min_samples_others,
            self.min_cell,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.max_digits_before.to_le_bytes());
        bytes.extend_from_slice(&self.max_digits_after.to_le_bytes());
        let mut fixed = [0; Rules::BYTES];
        fixed.copy_from_slice(&bytes);
        fixed
    }

    /// From bytes of a peer; there is one way only to write the same rules.
    ///
    /// # Errors
    /// A profile or flags that do not exist.
    pub(crate) fn from_bytes(profile: u8, rest: &[u8; Rules::REST]) -> Result<Rules, Malformed> {
        let [min_parties, flags, numbers @ ..] = rest;
        if *flags > 0b11 {
            return Err(Malformed::Value);
        }
        let (numbers, digits) = numbers.split_at(16);
        let number = |index: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&numbers[4 * index..4 * index + 4]);
            u32::from_le_bytes(bytes)
        };
        Ok(Rules {
            profile: Profile::from_byte(profile).ok_or(Malformed::Value)?,
            min_parties: *min_parties,
            allow_two_party: flags & 1 != 0,
            min_samples_own: number(0),
            min_samples_total: number(1),
            min_samples_others: number(2),
            min_cell: number(3),
            allow_extremes: flags & 2 != 0,
            max_digits_before: u16::from_le_bytes([digits[0], digits[1]]),
            max_digits_after: u16::from_le_bytes([digits[2], digits[3]]),
        })
    }
}

/// The strictest of all parties' rules, and who has set each: the first party that has the strictest.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The strictest.
    pub rules: Rules,
    all: Vec<Option<Rules>>,
}

impl Effective {
    /// Of the parties' rules, as far as they are known.
    pub fn of(all: Vec<Option<Rules>>) -> Effective {
        let rules = all.iter().flatten().copied().reduce(Rules::strictest);
        Effective {
            rules: rules.unwrap_or_else(|| Profile::Teaching.into()),
            all,
        }
    }

    /// The first party whose rule is the one in force.
    pub fn set_by(&self, rule: Rule) -> Option<usize> {
        let value = self.rules.value(rule);
        let sets = |rules: &Option<Rules>| rules.is_some_and(|rules| rules.value(rule) == value);
        self.all.iter().position(sets)
    }

    /// `{"min_parties": {"value": 3, "party": 1}, …}`.
    pub fn shown(&self) -> Value {
        let entry = |rule: Rule| json!({"value": self.rules.value(rule), "party": self.set_by(rule)});
        let all = Rule::COMMON.map(|rule| (rule.name().to_owned(), entry(rule)));
        Value::Object(all.into_iter().collect())
    }
}
