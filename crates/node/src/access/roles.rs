//! What a role lets somebody do. Whose an object is, is asked beside it: a role never opens another's values or results.

use crate::principal::{Principal, Role};
use crate::problem::Problem;

/// What can be asked of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// See which services there are.
    Catalogue,
    /// See how tasks go on: the own ones, or all of them for those who watch over the node.
    Look,
    /// Keep values, meet, and compute: everything that calls a function of a service.
    Use,
    /// End a task: the own ones, or with [`Action::Decide`] any.
    Cancel,
    /// Have the node test the way to another one.
    Probe,
    /// Read its counters.
    Metrics,
    /// Read its audit.
    Review,
    /// Decide for the node about what is not one's own: tasks, peers.
    Decide,
    /// Make, list and revoke tokens.
    Tokens,
}

/// The one place that says which role may do what. Anonymous callers, where they are admitted, are analysts.
pub fn permits(role: Role, action: Action) -> bool {
    match action {
        Action::Catalogue | Action::Look | Action::Metrics => true,
        Action::Review => role != Role::Analyst,
        Action::Use | Action::Cancel | Action::Probe => role != Role::Viewer,
        Action::Decide | Action::Tokens => role == Role::Owner,
    }
}

/// # Errors
/// 403; 401 for somebody who has not said who they are, and might be somebody who may.
pub fn check(who: &Principal, action: Action) -> Result<(), Problem> {
    if permits(who.role(), action) {
        return Ok(());
    }
    if who.is_anonymous() {
        return Err(super::credentials_missing());
    }
    tracing::info!(who = who.shown(), ?action, "refused: the role does not allow it");
    Err(Problem::policy(
        "ROLE_REFUSED",
        format!("your role at this node is {}, which does not allow this", who.role()),
        "ask this node's operator for a token with another role",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_whole_table() {
        use Action::*;
        // viewer, analyst, owner
        let table = [
            (Catalogue, [true, true, true]),
            (Look, [true, true, true]),
            (Metrics, [true, true, true]),
            (Review, [true, false, true]),
            (Use, [false, true, true]),
            (Cancel, [false, true, true]),
            (Probe, [false, true, true]),
            (Decide, [false, false, true]),
            (Tokens, [false, false, true]),
        ];
        for (action, expected) in table {
            let found = [Role::Viewer, Role::Analyst, Role::Owner].map(|role| permits(role, action));
            assert_eq!(found, expected, "{action:?}");
        }
    }

    #[test]
    fn a_refusal_says_whether_credentials_would_help() {
        let anonymous = check(&Principal::anonymous(), Action::Tokens).unwrap_err();
        assert_eq!((anonymous.status, anonymous.code), (401, "CREDENTIALS_MISSING"));
        let viewer = check(&Principal::new("token:v", Role::Viewer), Action::Use).unwrap_err();
        assert_eq!((viewer.status, viewer.code), (403, "ROLE_REFUSED"));
        assert!(viewer.message.contains("viewer"));
    }
}
