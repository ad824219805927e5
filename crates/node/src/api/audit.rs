//! `GET {base}/audit?after=SEQ&limit=N`: entries of the audit, for those who watch over the node.

use axum::response::Response;
use serde_json::json;

use super::json as json_answer;
use crate::node::Node;
use crate::problem::{Problem, quoted};

/// Entries of one answer, if nothing else is asked for, and at most.
const LIMIT: (usize, usize) = (100, 1_000);

pub(super) async fn answer(node: &Node, query: Option<&str>) -> Result<Response, Problem> {
    let (after, limit) = read(query.unwrap_or(""))?;
    let entries = node.audit().after(after, limit).await?;
    Ok(json_answer(&json!({"entries": entries}).to_string()))
}

fn read(query: &str) -> Result<(u64, usize), Problem> {
    let (mut after, mut limit) = (0, LIMIT.0);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number: Option<u64> = value.parse().ok();
        match (name, number) {
            ("after", Some(number)) => after = number,
            ("limit", Some(number)) if number > 0 => limit = usize::try_from(number).unwrap_or(LIMIT.1).min(LIMIT.1),
            _ => {
                return Err(Problem::input(
                    "VALUE_OUT_OF_RANGE",
                    format!("{} is not a parameter of the audit", quoted(pair)),
                    format!(
                        "after=NUMBER gives the entries that follow it, limit=1 to {} how many",
                        LIMIT.1
                    ),
                ));
            }
        }
    }
    Ok((after, limit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parameters_are_numbers() {
        assert_eq!(read("").unwrap(), (0, 100));
        assert_eq!(read("after=7&limit=5").unwrap(), (7, 5));
        assert_eq!(read("limit=99999999999999999999999&").unwrap_err().status, 422);
        assert_eq!(read("limit=5000").unwrap(), (0, 1000));
        for wrong in ["after", "after=-1", "limit=0", "limit=x", "task=3"] {
            assert_eq!(read(wrong).unwrap_err().code, "VALUE_OUT_OF_RANGE", "{wrong}");
        }
    }
}
