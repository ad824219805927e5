//! Single rules that differ from the profile's: the owner's, in the configuration, and a requester's, in a call.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Approval, Home, MOST_DIFFERENCING, Policy, Profile};

/// Each rule that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// Names of microprotocols that may run; without it all.
    pub microprotocols: Option<BTreeSet<String>>,
    /// Parties at least.
    pub min_parties: Option<u8>,
    /// Organisations at least.
    pub min_organisations: Option<u8>,
    /// Whether two parties may compute alone.
    pub allow_two_party: Option<bool>,
    /// Samples of each party at least.
    pub min_samples_own: Option<u32>,
    /// Samples of all parties at least.
    pub min_samples_total: Option<u32>,
    /// Samples of all other parties at least.
    pub min_samples_others: Option<u32>,
    /// Count of a cell at least.
    pub min_cell: Option<u32>,
    /// Whether single values may open.
    pub allow_extremes: Option<bool>,
    /// Whether names of categories that nobody declared may open.
    pub allow_names: Option<bool>,
    /// Digits before the point at most.
    pub max_digits_before: Option<u16>,
    /// Digits after the point at most.
    pub max_digits_after: Option<u16>,
    /// URLs (with everything below them), keys and organisations; without it all.
    pub peers: Option<BTreeSet<String>>,
    /// Releases of a column to the same peer at most; 0 for any number.
    pub releases: Option<u32>,
    /// Rows in which two releases of a column differ at least, if they differ; 0 and 1 for any.
    pub differencing: Option<u8>,
    /// Whether the owner is asked.
    pub approval: Option<Approval>,
}

impl Changes {
    /// The policy with these rules in place of its own.
    ///
    /// # Errors
    /// A value that no rule can have, for people.
    pub fn apply(&self, policy: Policy) -> Result<Policy, String> {
        let Policy { rules: base, home } = policy;
        let mut rules = base;
        set(&mut rules.min_parties, self.min_parties);
        set(&mut rules.allow_two_party, self.allow_two_party);
        set(&mut rules.min_samples_own, self.min_samples_own);
        set(&mut rules.min_samples_total, self.min_samples_total);
        set(&mut rules.min_samples_others, self.min_samples_others);
        set(&mut rules.min_cell, self.min_cell);
        set(&mut rules.allow_extremes, self.allow_extremes);
        set(&mut rules.allow_names, self.allow_names);
        set(&mut rules.max_digits_before, self.max_digits_before);
        set(&mut rules.max_digits_after, self.max_digits_after);
        let home = Home {
            microprotocols: self.microprotocols.clone().or(home.microprotocols),
            min_organisations: self.min_organisations.unwrap_or(home.min_organisations),
            peers: self.peers.clone().or(home.peers),
            releases: self.releases.map_or(home.releases, |most| (most > 0).then_some(most)),
            differencing: self.differencing.unwrap_or(home.differencing),
            approval: self.approval.unwrap_or(home.approval),
        };
        if rules.min_parties < 2 {
            return Err("min_parties is 2 or more: nobody computes alone".to_owned());
        }
        if home.differencing > MOST_DIFFERENCING {
            return Err(format!(
                "differencing is a number of rows from 0 to {MOST_DIFFERENCING}"
            ));
        }
        Ok(Policy { rules, home })
    }

    /// What a requester asks for besides: a profile, single rules, or both. What is looser than the policy it meets changes nothing.
    ///
    /// # Errors
    /// What is neither, for people.
    pub fn of_requester(json: &str) -> Result<Policy, String> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Asked {
            Profile(Profile),
            Rules(serde_json::Map<String, serde_json::Value>),
        }
        let asked =
            serde_json::from_str(json).map_err(|_| "it is neither the name of a profile nor an object of rules")?;
        match asked {
            Asked::Profile(profile) => Ok(Policy::of(profile)),
            Asked::Rules(mut rules) => {
                let base = match rules.remove("profile") {
                    Some(profile) => {
                        let profile: Profile =
                            serde_json::from_value(profile).map_err(|_| "a profile is teaching, standard or strict")?;
                        Policy::of(profile)
                    }
                    None => Policy::of(Profile::Teaching),
                };
                if rules.contains_key("peers") || rules.contains_key("approval") {
                    return Err("peers and approval are the owner's rules: name the nodes in 'network'".to_owned());
                }
                // Names of rules are public, and serde repeats those and types only.
                let changes: Changes = serde_json::from_value(rules.into()).map_err(|error| error.to_string())?;
                changes.apply(base)
            }
        }
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}
