//! What this node's owner allows. The data holder's node decides; a requester can only tighten; the strictest profile of all parties is in force.
//!
//! Until a number of samples can be compared with a threshold inside a protocol, `standard` and `strict` refuse what they cannot check, and say
//! so: nothing is waved through.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::services::Principal;

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

/// The leave to take part in one task. Only [`Profile::permit`] makes one, and no task can be built without.
#[derive(Debug)]
pub struct Permit {
    owner: Principal,
    profile: Profile,
}

impl Permit {
    /// Who asked.
    pub fn owner(&self) -> &Principal {
        &self.owner
    }

    /// Under which profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }
}

impl Profile {
    /// Decides whether `owner` may take part in `microprotocol` with `parties` parties on this node.
    ///
    /// # Errors
    /// 403 with the rule that says no.
    pub fn permit(self, owner: Principal, microprotocol: &str, parties: usize) -> Result<Permit, Problem> {
        match self {
            Profile::Teaching => Ok(Permit { owner, profile: self }),
            Profile::Standard | Profile::Strict => {
                let (min_parties, total, own) = if self == Profile::Standard {
                    (3, 10, 5)
                } else {
                    (4, 20, 10)
                };
                if parties < min_parties {
                    return Err(Problem::policy(
                        "POLICY_TOO_FEW_PARTIES",
                        format!(
                            "this node's policy '{self}' wants at least {min_parties} parties, the network has {parties}"
                        ),
                        "take more parties; or ask this node's operator, who alone can change its policy (policy in its configuration, or --policy)"
                            .to_owned(),
                    ));
                }
                Err(Problem::policy(
                    "POLICY_CANNOT_CHECK",
                    format!(
                        "this node's policy '{self}' wants at least {total} samples in all and {own} of each party, and that no earlier \
                         release differs by a few rows; this version cannot check that for {microprotocol} yet, so it refuses"
                    ),
                    "only this node's operator can change its policy: for lessons and trials with data that need no protection, the node may be \
                     started with --policy teaching"
                        .to_owned(),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_strictest_is_the_greatest() {
        assert_eq!(
            [Profile::Strict, Profile::Teaching].into_iter().max(),
            Some(Profile::Strict)
        );
        for profile in [Profile::Teaching, Profile::Standard, Profile::Strict] {
            assert_eq!(Profile::from_byte(profile.to_byte()), Some(profile));
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        assert_eq!(Profile::from_byte(3), None);
    }

    #[test]
    fn what_cannot_be_checked_is_refused_with_the_rule() {
        assert!(Profile::Teaching.permit(Principal::anonymous(), "SecureSum", 2).is_ok());
        let few = Profile::Standard
            .permit(Principal::anonymous(), "SecureSum", 2)
            .unwrap_err();
        assert_eq!((few.status, few.code), (403, "POLICY_TOO_FEW_PARTIES"));
        let unchecked = Profile::Strict
            .permit(Principal::anonymous(), "SecureSum", 9)
            .unwrap_err();
        assert_eq!((unchecked.status, unchecked.code), (403, "POLICY_CANNOT_CHECK"));
        assert!(unchecked.message.contains("20 samples"));
    }
}
