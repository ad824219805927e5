//! Whether a task would be allowed, without making one.

use fdrtd_mpc::net::{MAX_PARTIES, Party};
use serde_json::{Map, Value, json};

use super::network::read_network;
use super::{Simon, find_microprotocol, refused};
use crate::json::Parameters;
use crate::policy::{Effective, Other, Policy, Question};
use crate::problem::Problem;
use crate::url::NodeUrl;

impl Simon {
    /// `{"microprotocol", "network" or "parties", "parameters"?, "policy"?, "samples"?}`: what this node's rules say to it. The others' rules, their
    /// data, the record of releases and the owner's approval are not asked.
    ///
    /// # Errors
    /// 422 for a question that cannot be asked. What is not allowed is an answer.
    pub(crate) fn check(&self, mut parameters: Parameters) -> Result<Value, Problem> {
        let entry = find_microprotocol(&parameters.required("microprotocol")?.string()?)?;
        let (nodes, me) = match parameters.optional("network") {
            Some(raw) => {
                let network = read_network(&raw)?;
                (network.nodes, network.myself.index())
            }
            None => (Vec::new(), 0),
        };
        let parties = match parameters.optional("parties") {
            Some(raw) => usize::try_from(raw.u64()?).unwrap_or(usize::MAX),
            None => nodes.len(),
        };
        if !(2..=MAX_PARTIES).contains(&parties) || (!nodes.is_empty() && nodes.len() != parties) {
            return Err(Problem::input(
                "NETWORK_SIZE",
                format!("a computation has 2 to {MAX_PARTIES} parties"),
                "give 'network' as for create, or 'parties', their number",
            ));
        }
        let chosen = match parameters.optional("parameters") {
            Some(raw) => {
                raw.object()?;
                raw.into_text().to_string()
            }
            None => "{}".to_owned(),
        };
        let policy = self.read_policy(&mut parameters)?;
        let samples = match parameters.optional("samples") {
            Some(raw) => read_samples(raw.text())?,
            None => Vec::new(),
        };
        parameters.finish()?;
        let configured = entry.configure(&chosen).map_err(refused)?;
        let question = Question::new(entry, &configured, parties);
        Ok(self.answer(&policy, &question, &nodes, me, &samples))
    }

    fn answer(
        &self,
        policy: &Policy,
        question: &Question,
        nodes: &[NodeUrl],
        me: usize,
        samples: &[(String, u64)],
    ) -> Value {
        let context = self.tasks.context();
        let others: Vec<Other<'_>> = Party::all(nodes.len())
            .filter(|party| party.index() != me)
            .map(|party| Other {
                url: &nodes[party.index()],
                key: None,
            })
            .collect();
        let mut refusals = policy.refusals(question, &context.organisations, &others);
        if nodes.is_empty() {
            // Nothing is known of the others.
            refusals.retain(|problem| problem.code != "POLICY_TOO_FEW_ORGANISATIONS");
        }
        let own = Effective::of(vec![Some(policy.rules)]);
        for (column, count) in samples {
            if let Err(problem) = Policy::check_samples(&own, *count, 0) {
                refusals.push(problem.with("party", me).with("column", column.as_str()));
            }
        }
        let (unknown, broken): (Vec<_>, Vec<_>) = refusals
            .iter()
            .map(|problem| problem.clone().with("party", me).body())
            .map(shown)
            .partition(|problem| problem["code"] == "POLICY_CANNOT_CHECK");
        json!({
            "allowed": refusals.is_empty(),
            "policy": policy.rules.profile,
            "rules": policy.shown(false),
            "refused": broken,
            "cannot_check": unknown,
            "compared": policy.compared(question),
            "approval": policy.home.approval,
        })
    }
}

/// Of an error only what says why.
fn shown(body: Value) -> Value {
    let wanted = ["code", "rule", "message", "hint", "party", "column"];
    let members = wanted
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), body.get(*name)?.clone())));
    Value::Object(members.collect::<Map<_, _>>())
}

/// A number, or numbers by column.
fn read_samples(text: &str) -> Result<Vec<(String, u64)>, Problem> {
    let unusable = || {
        Problem::input(
            "VALUE_OUT_OF_RANGE",
            "'samples' is a number of samples, or an object of such numbers by column",
            "for example samples=12, or samples={\"age\": 12}",
        )
    };
    match serde_json::from_str(text).map_err(|_| unusable())? {
        Value::Number(number) => Ok(vec![(String::new(), number.as_u64().ok_or_else(unusable)?)]),
        Value::Object(columns) => columns
            .into_iter()
            .map(|(name, count)| Ok((name, count.as_u64().ok_or_else(unusable)?)))
            .collect(),
        _ => Err(unusable()),
    }
}
