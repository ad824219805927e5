//! Who makes a call, and what the role lets them do.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a caller may do here. An object's owner may do with it what the role allows, and nobody else may do anything with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees how all tasks go on (never data or results), the policy, the audit and the metrics; changes nothing.
    Viewer,
    /// Keeps values and computes with them.
    Analyst,
    /// Decides for the node besides: approves, declines and ends any task. Even so another's values and results are not theirs.
    Owner,
}

impl Role {
    /// Its name on the command line and in tokens.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Analyst => "analyst",
            Role::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        [Role::Viewer, Role::Analyst, Role::Owner]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| "a role is owner, analyst or viewer".to_owned())
    }
}

/// Who makes a call; the owner of what the call creates. Two are the same if their names are.
///
/// Every look-up takes one, so that another's object cannot be told from one that does not exist.
#[derive(Clone)]
pub struct Principal {
    name: Arc<str>,
    role: Role,
}

impl Principal {
    /// Everybody who comes without credentials, together.
    pub fn anonymous() -> Principal {
        Principal::new("", Role::Analyst)
    }

    /// Whoever can read the file of the operator's token.
    pub fn operator() -> Principal {
        Principal::new("operator", Role::Owner)
    }

    /// This node itself, for what nobody asked it to do.
    pub(crate) fn node() -> Principal {
        Principal::new("node", Role::Viewer)
    }

    /// Somebody whose credentials this node has checked.
    pub(crate) fn new(name: &str, role: Role) -> Principal {
        Principal {
            name: Arc::from(name),
            role,
        }
    }

    /// Whether nothing is known about them.
    pub fn is_anonymous(&self) -> bool {
        self.name.is_empty()
    }

    /// What they may do.
    pub fn role(&self) -> Role {
        self.role
    }

    /// For people, logs and the audit: a name, never a credential.
    pub fn shown(&self) -> &str {
        if self.is_anonymous() { "anonymous" } else { &self.name }
    }

    /// The text under which the owner of a stored object is recorded.
    pub(crate) fn recorded(&self) -> &str {
        &self.name
    }

    /// The owner that [`Principal::recorded`] wrote. Only for what this node stored itself, never for a request.
    pub(crate) fn from_record(text: &str) -> Principal {
        Principal::new(text, Role::Analyst)
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Principal) -> bool {
        self.name == other.name
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({}, {})", self.shown(), self.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_survive_their_record() {
        let anna = Principal::new("token:anna", Role::Owner);
        assert_eq!(Principal::from_record(anna.recorded()), anna);
        assert_ne!(anna, Principal::anonymous());
        assert_eq!(Principal::anonymous().shown(), "anonymous");
    }

    #[test]
    fn roles_have_names() {
        for role in [Role::Viewer, Role::Analyst, Role::Owner] {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("admin".parse::<Role>().is_err());
    }
}
