//! How a command ends, for people (one line on standard error) and for programs (the exit status).

use std::fmt;
use std::process::ExitCode;

use fdrtd::node::StartError;
use serde_json::Value;

/// Exit statuses; they stay as they are. clap's own for wrong usage is 2 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Ok = 0,
    /// The task failed, something was found, or a node could not be started.
    Failed = 1,
    /// The command line, or a file named on it, cannot be used.
    Usage = 2,
    /// The node cannot be reached.
    Unreachable = 3,
    /// The node refused.
    Refused = 4,
    /// A time limit has passed.
    TimedOut = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// What every `--help` says about them.
pub(crate) const EXIT_HELP: &str = "\
Exit status:
  0    all is well
  1    the task failed, doctor found something, or a node could not be started
  2    the command line, or a file named on it, cannot be used
  3    the node cannot be reached
  4    the node refused
  5    a time limit has passed
  130  interrupted (Ctrl-C)";

/// What went wrong, on whose side, and what to do. Shown as `what — whose side — what to do (CODE)`.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    /// Empty if there is only one side.
    pub(crate) side: &'static str,
    pub(crate) hint: String,
    pub(crate) code: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, side: &'static str, hint: &str, code: &str) -> Failure {
        Failure {
            exit,
            what: what.into(),
            side,
            hint: hint.to_owned(),
            code: code.to_owned(),
        }
    }

    /// Something on the command line, or in a file that it names.
    pub(crate) fn usage(what: impl Into<String>, hint: &str, code: &str) -> Failure {
        Failure::new(Exit::Usage, what, "your call", hint, code)
    }

    /// From the body of a node's refusal, `None` if it is none.
    pub(crate) fn from_problem(status: u16, body: &[u8]) -> Option<Failure> {
        let problem: Value = serde_json::from_slice(body).ok()?;
        let text = |name: &str| problem[name].as_str().map(printable);
        let code = text("code")?;
        let expired = problem["cause"]["code"] == "EXPIRED";
        let exit = match (code.as_str(), status) {
            ("TASK_FAILED", _) if expired => Exit::TimedOut,
            ("TASK_FAILED", _) => Exit::Failed,
            (_, 400..=499) => Exit::Refused,
            _ => Exit::Failed,
        };
        let side = match problem["side"].as_str() {
            Some("call") => "your call",
            Some("policy") => "your node's policy",
            Some("peer") => "another node",
            Some("task") => "the task",
            Some("node") => "your node",
            _ if code == "TASK_FAILED" => "the task",
            _ => "",
        };
        Some(Failure {
            exit,
            what: text("message").unwrap_or_default(),
            side,
            hint: text("hint").unwrap_or_default(),
            code,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for part in [self.side, &self.hint] {
            if !part.is_empty() {
                write!(f, " — {part}")?;
            }
        }
        if !self.code.is_empty() {
            write!(f, " ({})", self.code)?;
        }
        Ok(())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        Failure::new(Exit::Failed, error.to_string(), "", "", "")
    }
}

impl From<std::io::Error> for Failure {
    /// Of standard output: files have errors of their own.
    fn from(error: std::io::Error) -> Failure {
        Failure::new(
            Exit::Failed,
            format!("standard output cannot be written: {error}"),
            "",
            "",
            "",
        )
    }
}

/// What came over the network, for a terminal: control characters could move its cursor or do worse.
pub(crate) fn printable(text: &str) -> String {
    let safe = |c: char| {
        if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) {
            ' '
        } else {
            c
        }
    };
    text.chars().take(4_000).map(safe).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn problems_become_one_line_and_a_status() {
        let body = br#"{"code":"POLICY_X","message":"no\u001b[2J","hint":"ask","side":"policy"}"#;
        let failure = Failure::from_problem(403, body).unwrap();
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(failure.to_string(), "no [2J — your node's policy — ask (POLICY_X)");
        let expired = br#"{"code":"TASK_FAILED","message":"m","hint":"h","cause":{"code":"EXPIRED"}}"#;
        assert_eq!(Failure::from_problem(409, expired).unwrap().exit, Exit::TimedOut);
        assert!(Failure::from_problem(502, b"<html>").is_none());
    }
}
