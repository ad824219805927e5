//! What the rules say to people.

use fdrtd_mpc::microprotocol::Release;
use serde_json::{Value, json};

use super::{Approval, Effective, Policy, Question, Refusal, Rule, Rules};
use crate::problem::Problem;

const ASK_OPERATOR: &str =
    "ask this node's operator, who alone can change its policy (policy in its configuration, or --policy)";

/// Every refusal names the rule; `whose` is "own" if it is this node's.
fn no(code: &'static str, rule: Rule, message: String, hint: String) -> Problem {
    Problem::policy(code, message, hint).with("rule", rule.name())
}

pub(super) fn microprotocol(name: &str) -> Problem {
    no(
        "POLICY_MICROPROTOCOL",
        Rule::Microprotocols,
        format!("this node's policy does not allow the microprotocol {name}"),
        format!("GET {{base}}/policy shows what it allows; or {ASK_OPERATOR}"),
    )
}

pub(super) fn organisations(least: u8, count: usize) -> Problem {
    no(
        "POLICY_TOO_FEW_ORGANISATIONS",
        Rule::MinOrganisations,
        format!("this node's policy wants nodes of at least {least} organisations, and knows of {count} among these"),
        "nodes without an 'organisation' in this node's configuration count as one organisation together: its operator writes down whose they are \
         ([[peers]])"
            .to_owned(),
    )
}

pub(super) fn peer(url: &str) -> Problem {
    no(
        "POLICY_PEER",
        Rule::Peers,
        format!("this node's policy does not allow computing with {url}"),
        "its operator names the URLs, keys and organisations with which it computes: peers in [rules]".to_owned(),
    )
}

/// A rule that this node's own policy has.
pub(super) fn refused(rules: &Rules, refusal: Refusal, question: &Question) -> Problem {
    let profile = rules.profile;
    let parties = question.parties;
    let digits = question.digits;
    if refusal.cannot_check {
        let (wanted, known) = match refusal.rule {
            Rule::MinCell => (
                format!("that every cell counts at least {}", rules.min_cell),
                String::new(),
            ),
            Rule::MinSamplesTotal => (
                format!("at least {} samples in all", rules.min_samples_total),
                follows(rules, parties as u64),
            ),
            _ => (
                format!(
                    "at least {} samples of all the others together",
                    rules.min_samples_others
                ),
                follows(rules, (parties as u64).saturating_sub(1)),
            ),
        };
        return no(
            "POLICY_CANNOT_CHECK",
            refusal.rule,
            format!(
                "this node's policy '{profile}' wants {wanted}{known}; {} does not compare that inside the computation, so nobody could tell, and it is refused",
                question.microprotocol
            ),
            format!(
                "a greater min_samples_own, or more parties, may make it certain beforehand; for the rest {ASK_OPERATOR}"
            ),
        );
    }
    match refusal.rule {
        Rule::MinParties => no(
            "POLICY_TOO_FEW_PARTIES",
            refusal.rule,
            format!(
                "this node's policy '{profile}' wants at least {} parties, the network has {parties}",
                rules.min_parties
            ),
            format!("take more parties; or {ASK_OPERATOR}"),
        ),
        Rule::AllowTwoParty => no(
            "POLICY_TWO_PARTIES",
            refusal.rule,
            format!("this node's policy '{profile}' does not allow two parties alone: each learns the other's input"),
            format!("take more parties; or {ASK_OPERATOR}"),
        ),
        Rule::AllowExtremes => no(
            "POLICY_EXTREMES",
            refusal.rule,
            format!(
                "this node's policy '{profile}' does not let {} open, as {} does",
                if question.releases.contains(&Release::Extremes) {
                    "smallest and greatest values"
                } else {
                    "single values that may be the smallest or greatest"
                },
                question.microprotocol
            ),
            ASK_OPERATOR.to_owned(),
        ),
        Rule::AllowNames => no(
            "POLICY_NAMES",
            refusal.rule,
            format!(
                "this node's policy '{profile}' does not let categories be found in the data, as {} does without declared ones: their names would open",
                question.microprotocol
            ),
            format!("declare the categories, as parameters={{\"categories\": …}}; or {ASK_OPERATOR}"),
        ),
        rule => {
            let (most, which) = if rule == Rule::MaxDigitsBefore {
                (rules.max_digits_before, "digits_before")
            } else {
                (rules.max_digits_after, "digits_after")
            };
            let given = digits.map_or(0, |digits| {
                if rule == Rule::MaxDigitsBefore {
                    digits.before()
                } else {
                    digits.after()
                }
            });
            no(
                "POLICY_DIGITS",
                rule,
                format!("this node's policy '{profile}' allows {which} up to {most}, the task has {given}"),
                format!("give a smaller {which} in the parameters; or {ASK_OPERATOR}"),
            )
        }
    }
}

fn follows(rules: &Rules, parties: u64) -> String {
    format!(
        ", of which {} are certain because each party has {}",
        parties.saturating_mul(u64::from(rules.min_samples_own)),
        rules.min_samples_own
    )
}

/// The minimums that there are.
fn samples(rules: &Rules) -> Option<String> {
    let minimums = [
        ("every party has at least", rules.min_samples_own),
        ("all together at least", rules.min_samples_total),
        ("all others of a party at least", rules.min_samples_others),
    ];
    let wanted = minimums.iter().filter(|(_, least)| *least > 0);
    let all: Vec<String> = wanted.map(|(who, least)| format!("{who} {least}")).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// What the parties compare inside the computation of `question`, by the names of [`Thresholds`](fdrtd_mpc::threshold::Thresholds); nothing if the
/// microprotocol compares nothing.
pub(super) fn compared(rules: &Rules, question: &Question) -> Value {
    let wanted = rules.thresholds(question.parties);
    let opens = |release| question.releases.contains(&release);
    let all = [
        ("samples_total", wanted.samples_total, !question.releases.is_empty()),
        ("samples_others", wanted.samples_others, !question.releases.is_empty()),
        ("group_total", wanted.group_total, opens(Release::Groups)),
        ("group_others", wanted.group_others, opens(Release::Groups)),
        ("cell", wanted.cell, opens(Release::Cells)),
        ("beyond", wanted.beyond, opens(Release::Order)),
    ];
    let compared = all
        .iter()
        .filter(|(_, least, opens)| question.compares && *opens && *least > 0);
    Value::Object(
        compared
            .map(|(name, least, _)| ((*name).to_owned(), json!(least)))
            .collect(),
    )
}

pub(super) fn too_few_samples(rules: &Effective, samples: u64, me: usize) -> Problem {
    let least = rules.rules.min_samples_own;
    let party = rules.set_by(Rule::MinSamplesOwn).unwrap_or(me);
    let whose = if party == me {
        "this node's policy".to_owned()
    } else {
        format!("the policy of party {party}")
    };
    no(
        "POLICY_TOO_FEW_SAMPLES",
        Rule::MinSamplesOwn,
        format!("{whose} wants at least {least} samples of each party (in each column), this input has {samples}"),
        "nothing was sent and nobody was told; the task waits for another input".to_owned(),
    )
    .with("party", party)
    .with("least", least)
}

/// The budget of a column is used up.
pub(crate) fn releases(column: &str, most: u32) -> String {
    format!(
        "the column {column} has been released {most} times to one of these peers, which is as often as this node's policy allows (releases)"
    )
}

/// Two releases of a column differ by too few rows.
pub(crate) fn differencing(column: &str, least: u8) -> String {
    format!(
        "the rows of the column {column} differ from those of an earlier release by fewer than {least}, the least that this node's policy allows \
         (differencing): the difference of both results would tell about single rows"
    )
}

/// There is no more room.
pub(crate) fn ledger_full(most: usize) -> String {
    format!("this node has recorded {most} releases of columns and has room for no more (releases)")
}

/// All rules in sentences.
pub(super) fn all(policy: &Policy) -> Vec<String> {
    let (rules, home) = (&policy.rules, &policy.home);
    let mut words = Vec::new();
    words.push(match &home.microprotocols {
        None => "Every microprotocol of this version may run.".to_owned(),
        Some(names) if names.is_empty() => "No microprotocol may run.".to_owned(),
        Some(names) => format!(
            "Only these microprotocols may run: {}.",
            names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        ),
    });
    words.push(format!("At least {} parties compute together.", rules.min_parties));
    if rules.min_parties <= 2 {
        words.push(if rules.allow_two_party {
            "Two parties may compute alone, although each then learns the other's input; the result warns of it."
                .to_owned()
        } else {
            "Two parties may not compute alone.".to_owned()
        });
    }
    if home.min_organisations > 1 {
        words.push(format!(
            "They belong to at least {} organisations.",
            home.min_organisations
        ));
    }
    words.push(match &home.peers {
        None => "With every node that this one can reach and trusts.".to_owned(),
        Some(peers) => format!("Only with {} named URLs, keys or organisations.", peers.len()),
    });
    words.push(match samples(rules) {
        None => "A party may have any number of samples.".to_owned(),
        Some(wanted) => format!("Samples in each column: {wanted}."),
    });
    if rules.min_samples_total > 0 || rules.min_samples_others > 0 {
        words.push(
            "What does not follow from each party's own minimum is compared inside the computation, or the task is refused: numbers of too few \
             samples do not open, and nobody learns how many there were."
                .to_owned(),
        );
    }
    if rules.min_cell > 0 {
        words.push(format!("No cell of a table counts fewer than {}.", rules.min_cell));
    }
    words.push(match rules.thresholds(0).beyond {
        0 => "Smallest and greatest values may open.".to_owned(),
        beyond => format!(
            "Smallest and greatest values do not open; a median or quantile does if it has at least {beyond} other values on either side."
        ),
    });
    words.push(if rules.allow_names {
        "Categories need not be declared: the names of those that are common enough at one party open.".to_owned()
    } else {
        "Categories are declared with the task; none are found in the data.".to_owned()
    });
    words.push(format!(
        "Results have at most {} digits before the point and {} after it.",
        rules.max_digits_before, rules.max_digits_after
    ));
    if let Some(most) = home.releases {
        words.push(format!("A column is released at most {most} times to the same peer."));
    }
    if home.differencing > 1 {
        words.push(format!(
            "Two releases of a column are of the same rows, or differ in at least {}.",
            home.differencing
        ));
    }
    words.push(
        match home.approval {
            Approval::Auto => "Nobody is asked before a task that the rules allow.",
            Approval::FirstTime => "The owner approves the first task of each kind (peers, microprotocol, columns).",
            Approval::Always => "The owner approves every task.",
        }
        .to_owned(),
    );
    words
}
