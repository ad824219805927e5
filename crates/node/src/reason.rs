//! Why a task ended without a confirmed result. The same reason reaches every party; texts are made on each node, so no peer can put words into a
//! user's mouth.

use std::fmt;

use fdrtd_mpc::net::{Abort, Party};
use serde::{Deserialize, Serialize};

use crate::descriptor::Field;
use crate::policy::Rule;

/// A part of a task's life with a time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Waiting for all to join.
    Join,
    /// Waiting for all inputs.
    Input,
    /// Computing.
    Run,
}

/// Parties are given by their index. Travels between nodes as JSON of at most [`Reason::MAX_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "SCREAMING_SNAKE_CASE", deny_unknown_fields)]
pub enum Reason {
    /// A user ended or deleted it.
    Cancelled {
        /// Whose user.
        party: usize,
    },
    /// A time limit passed.
    Expired {
        /// Which one.
        stage: Stage,
        /// Who was being waited for.
        missing: Vec<usize>,
    },
    /// Nothing was heard of a party for too long while it was needed.
    PeerSilent {
        /// Who.
        party: usize,
    },
    /// A party's node was started anew in the middle of the computation.
    PeerRestarted {
        /// Who.
        party: usize,
    },
    /// A party wants another task than this one.
    DescriptorsDiffer {
        /// Who.
        party: usize,
        /// In what.
        field: Field,
    },
    /// A rule of a party's owner says no to the task, whatever the data are.
    PolicyRefused {
        /// Which rule.
        rule: Rule,
        /// Whose.
        party: usize,
    },
    /// A party does not want to take part, and says no more than that.
    Declined {
        /// Who.
        party: usize,
    },
    /// Two nodes disagree about somebody's key.
    KeysDiffer {
        /// Who sees other keys.
        party: usize,
    },
    /// A party's node was given a new key after the task was made.
    KeyRotated {
        /// Whose.
        party: usize,
    },
    /// Two entries of the list of nodes are the same node.
    KeyTwice {
        /// The first.
        party: usize,
        /// The second.
        other: usize,
    },
    /// Inputs of different form.
    ShapesDiffer {
        /// Whose differs.
        party: usize,
    },
    /// A party's node broke the protocol.
    PeerMalformed {
        /// Who.
        party: usize,
    },
    /// A party's node has no memory for what the others send it.
    NoRoom {
        /// Whose.
        party: usize,
    },
    /// The closing digests differ.
    StoriesDiffer {},
    /// The parties have too many different categories to find them all.
    CategoriesNotFound {},
    /// A mistake of a party's program.
    Internal {
        /// Whose.
        party: usize,
    },
}

/// Where a node has a reason from, if it did not find it itself. What a party says of itself or of others need not be true; so this is shown with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The party that found it.
    pub by: usize,
    /// The party that told this one, if it was not the same: the only one that is known to have said anything.
    pub passed_on_by: Option<usize>,
}

impl Reason {
    /// Longest encoding.
    pub const MAX_BYTES: usize = 1_024;

    /// From the end of a machine of party `me`.
    pub fn from_abort(abort: Abort, me: Party) -> Reason {
        match abort {
            Abort::Peer(party, _) => Reason::PeerMalformed { party: party.index() },
            Abort::StoriesDiffer => Reason::StoriesDiffer {},
            Abort::TooManyNames => Reason::CategoriesNotFound {},
            Abort::Internal(_) => Reason::Internal { party: me.index() },
        }
    }

    /// Stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Reason::Cancelled { .. } => "CANCELLED",
            Reason::Expired { .. } => "EXPIRED",
            Reason::PeerSilent { .. } => "PEER_SILENT",
            Reason::PeerRestarted { .. } => "PEER_RESTARTED",
            Reason::DescriptorsDiffer { .. } => "DESCRIPTORS_DIFFER",
            Reason::PolicyRefused { .. } => "POLICY_REFUSED",
            Reason::Declined { .. } => "DECLINED",
            Reason::KeysDiffer { .. } => "KEYS_DIFFER",
            Reason::KeyRotated { .. } => "KEY_ROTATED",
            Reason::KeyTwice { .. } => "KEY_TWICE",
            Reason::ShapesDiffer { .. } => "SHAPES_DIFFER",
            Reason::PeerMalformed { .. } => "PEER_MALFORMED",
            Reason::NoRoom { .. } => "NO_ROOM",
            Reason::StoriesDiffer {} => "STORIES_DIFFER",
            Reason::CategoriesNotFound {} => "CATEGORIES_NOT_FOUND",
            Reason::Internal { .. } => "INTERNAL",
        }
    }

    /// The one party it is about, if it is one.
    pub fn party(&self) -> Option<usize> {
        match self {
            Reason::Cancelled { party }
            | Reason::PeerSilent { party }
            | Reason::PeerRestarted { party }
            | Reason::DescriptorsDiffer { party, .. }
            | Reason::PolicyRefused { party, .. }
            | Reason::Declined { party }
            | Reason::KeysDiffer { party }
            | Reason::KeyRotated { party }
            | Reason::KeyTwice { party, .. }
            | Reason::ShapesDiffer { party }
            | Reason::PeerMalformed { party }
            | Reason::NoRoom { party }
            | Reason::Internal { party } => Some(*party),
            Reason::Expired { missing, .. } => match missing[..] {
                [only] => Some(only),
                _ => None,
            },
            Reason::StoriesDiffer {} | Reason::CategoriesNotFound {} => None,
        }
    }

    /// Whether it says that somebody is not honest, or that the parties do not compute the same thing: then no result is to be trusted.
    pub fn accuses(&self) -> bool {
        match self {
            Reason::DescriptorsDiffer { .. }
            | Reason::KeysDiffer { .. }
            | Reason::KeyTwice { .. }
            | Reason::ShapesDiffer { .. }
            | Reason::PeerMalformed { .. }
            | Reason::StoriesDiffer {} => true,
            Reason::Cancelled { .. }
            | Reason::Expired { .. }
            | Reason::PeerSilent { .. }
            | Reason::PeerRestarted { .. }
            | Reason::KeyRotated { .. }
            | Reason::PolicyRefused { .. }
            | Reason::Declined { .. }
            | Reason::CategoriesNotFound {}
            | Reason::NoRoom { .. }
            | Reason::Internal { .. } => false,
        }
    }

    /// Whether every party it mentions exists.
    pub fn fits(&self, parties: usize) -> bool {
        let others = match self {
            Reason::Expired { missing, .. } => missing.clone(),
            Reason::KeyTwice { other, .. } => vec![*other],
            _ => Vec::new(),
        };
        self.party().into_iter().chain(others).all(|party| party < parties)
    }

    /// What the user may do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Reason::Cancelled { .. } => "ask that party, and create a new task",
            Reason::Expired { stage: Stage::Join, .. } => {
                "give these parties the invitation and see that their nodes reach this one; then create a new task"
            }
            Reason::Expired {
                stage: Stage::Input, ..
            } => "these parties have joined, but given no input or lost their connection; create a new task",
            Reason::Expired { stage: Stage::Run, .. } => {
                "create a new task, with a longer 'run' duration if the data are large"
            }
            Reason::PeerSilent { .. } => "see whether that node runs and can be reached, then create a new task",
            Reason::PeerRestarted { .. } => {
                "create a new task: a computation that was cut off is never repeated with the same randomness"
            }
            Reason::DescriptorsDiffer { .. } => "join with the invitation as it was sent, unchanged",
            Reason::PolicyRefused { .. } => {
                "ask the owner of that node, who alone can change its rules; `fdrtd policy show` there lists them"
            }
            Reason::Declined { .. } => "ask the owner of that node: the reason is not told",
            Reason::KeysDiffer { .. } => {
                "somebody may stand between the nodes, or a node has a new identity: compare `fdrtd identity` of all nodes"
            }
            Reason::KeyRotated { .. } => {
                "create a new task: parties are counted by the keys that they had when the task was made"
            }
            Reason::KeyTwice { .. } => "give every party a node of its own",
            Reason::ShapesDiffer { .. } => {
                "all parties must give the same form: numbers, vectors of one length, or the same columns"
            }
            Reason::PeerMalformed { .. } => "that node runs other software or is not honest; tell its operator",
            Reason::NoRoom { .. } => {
                "create a new task when less is under way, or with fewer numbers, or ask that node's operator to raise limits.peer_inbox_bytes"
            }
            Reason::StoriesDiffer {} => {
                "one of the parties is not honest or its node is broken; do not use any of these results"
            }
            Reason::CategoriesNotFound {} => {
                "declare the categories: parameters={\"categories\": […]}; others can be counted together with \"other\": true"
            }
            Reason::Internal { .. } => "report it to the operator of that node, with the task's id",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Cancelled { party } => write!(f, "party {party} cancelled the task"),
            Reason::Expired { stage, missing } => {
                let what = match stage {
                    Stage::Join => "to join",
                    Stage::Input => "for the input",
                    Stage::Run => "for the computation",
                };
                write!(f, "the time {what} is over; missing: {}", parties(missing))
            }
            Reason::PeerSilent { party } => write!(f, "nothing was heard of party {party} for too long"),
            Reason::PeerRestarted { party } => {
                write!(f, "the node of party {party} was started anew during the computation")
            }
            Reason::DescriptorsDiffer { party, field } => {
                write!(f, "{} of party {party} and of the others differ", field.name())
            }
            Reason::PolicyRefused { rule, party } => {
                write!(f, "the rule {} of party {party} refuses this task", rule.name())
            }
            Reason::Declined { party } => write!(f, "party {party} declined"),
            Reason::KeysDiffer { party } => write!(f, "party {party} sees other keys behind the same list of nodes"),
            Reason::KeyRotated { party } => {
                write!(
                    f,
                    "the node of party {party} was given a new key after the task was made"
                )
            }
            Reason::KeyTwice { party, other } => write!(f, "party {party} and party {other} are the same node"),
            Reason::ShapesDiffer { party } => {
                write!(f, "the input of party {party} has another form than that of the others")
            }
            Reason::PeerMalformed { party } => write!(f, "party {party} broke the protocol"),
            Reason::NoRoom { party } => write!(
                f,
                "the node of party {party} had no memory left for the messages of the others"
            ),
            Reason::StoriesDiffer {} => write!(f, "what the parties were told does not agree, so there is no result"),
            Reason::CategoriesNotFound {} => {
                write!(
                    f,
                    "the parties together have more different categories than can be found in one task"
                )
            }
            Reason::Internal { party } => write!(f, "the node of party {party} made a mistake of its own"),
        }
    }
}

/// "party 1 and party 2", for people.
pub fn parties(list: &[usize]) -> String {
    let names: Vec<String> = list.iter().map(|party| format!("party {party}")).collect();
    match &names[..] {
        [] => "nobody".to_owned(),
        [only] => only.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn travels_as_json_with_its_code() {
        let reasons = [
            Reason::Cancelled { party: 1 },
            Reason::Expired {
                stage: Stage::Join,
                missing: vec![0, 2],
            },
            Reason::DescriptorsDiffer {
                party: 2,
                field: Field::Order,
            },
            Reason::KeyTwice { party: 0, other: 1 },
            Reason::StoriesDiffer {},
            Reason::CategoriesNotFound {},
        ];
        for reason in reasons {
            let text = serde_json::to_string(&reason).unwrap();
            assert!(text.contains(&format!("\"code\":\"{}\"", reason.code())), "{text}");
            assert_eq!(serde_json::from_str::<Reason>(&text).unwrap(), reason);
        }
    }

    #[test]
    fn parties_that_do_not_exist_are_noticed() {
        assert!(
            Reason::Expired {
                stage: Stage::Run,
                missing: vec![0, 2]
            }
            .fits(3)
        );
        assert!(
            !Reason::Expired {
                stage: Stage::Run,
                missing: vec![0, 3]
            }
            .fits(3)
        );
        assert!(!Reason::KeyTwice { party: 0, other: 9 }.fits(3));
    }
}
