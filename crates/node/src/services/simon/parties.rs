//! Who the parties of a task are: is this node the one that its caller says, and which keys do the others have?

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fdrtd_mpc::net::Party;
use futures_util::future::join_all;

use super::Simon;
use crate::identity::PeerKey;
use crate::peer::PeerError;
use crate::problem::Problem;
use crate::url::NodeUrl;

/// How long `create` and `join` wait for the other nodes' keys; whoever is slower is looked for in the background.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(1_500);

/// How long a URL that led to this node is believed to do so still. If it no longer does, the others find another key there, and the task ends.
const STILL_MYSELF: Duration = Duration::from_secs(60);

/// What to do about keys that are not as they should be.
const COMPARE_KEYS: &str =
    "somebody may stand between the nodes, or that node has a new identity: compare `fdrtd identity` with its operator";

/// What an invitation says about the keys of the parties.
#[derive(Clone, Copy)]
pub(super) struct Promised<'a> {
    /// By party; a missing one is not known.
    pub(super) keys: &'a [Option<PeerKey>],
    /// The key of one of the parties, which is not known.
    pub(super) inviter: Option<PeerKey>,
}

impl Simon {
    /// Is `nodes[myself]` this node? By the configured URLs, else by asking that URL for its key.
    pub(super) async fn check_myself(&self, nodes: &[NodeUrl], me: Party) -> Result<(), Problem> {
        if self.public_urls.contains(&nodes[me.index()]) {
            return Ok(());
        }
        let not_me = |right: Option<usize>| {
            let hint = match right {
                Some(index) => {
                    format!("this node is nodes[{index}]: write 'myself': {index}, or ask the api of the other node")
                }
                None => {
                    "check 'myself' and the list of nodes; the node's operator may have to set public_url".to_owned()
                }
            };
            let message = format!(
                "nodes[{0}] ({1}) is not this node: 'myself': {0} is wrong here",
                me.index(),
                nodes[me.index()]
            );
            Problem::input("MYSELF_NOT_THIS_NODE", message, hint)
        };
        if let Some(index) = nodes.iter().position(|node| self.public_urls.contains(node)) {
            return Err(not_me(Some(index)));
        }
        let asked = Instant::now();
        let is_still = |(url, asked): &(NodeUrl, Instant)| *url == nodes[me.index()] && asked.elapsed() < STILL_MYSELF;
        if self.last_myself().as_ref().is_some_and(is_still) {
            return Ok(());
        }
        let context = self.tasks.context();
        match context.peers.look_up(&nodes[me.index()]).await {
            Ok(key) if key == context.identity.key() => {
                *self.last_myself() = Some((nodes[me.index()].clone(), asked));
                Ok(())
            }
            Ok(_) => {
                let looks = nodes
                    .iter()
                    .map(|node| tokio::time::timeout(FIRST_LOOK, context.peers.look_up(node)));
                let own = context.identity.key();
                let right = join_all(looks)
                    .await
                    .into_iter()
                    .position(|key| matches!(key, Ok(Ok(key)) if key == own));
                Err(not_me(right))
            }
            Err(error) => Err(Problem::input(
                "MYSELF_UNREACHABLE",
                format!(
                    "whether nodes[{}] ({}) is this node could not be checked: {error}",
                    me.index(),
                    nodes[me.index()]
                ),
                format!(
                    "{}; or set public_url in this node's configuration",
                    error.hint_at(&nodes[me.index()])
                ),
            )),
        }
    }

    fn last_myself(&self) -> MutexGuard<'_, Option<(NodeUrl, Instant)>> {
        self.myself.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other parties' keys, as far as they can be had at once.
    pub(super) async fn find_peers(
        &self,
        nodes: &[NodeUrl],
        me: Party,
        promised: Promised<'_>,
    ) -> Result<Vec<(Party, PeerKey)>, Problem> {
        let context = self.tasks.context();
        let others: Vec<Party> = Party::all(nodes.len()).filter(|party| *party != me).collect();
        let looks = others
            .iter()
            .map(|party| tokio::time::timeout(FIRST_LOOK, context.peers.resolve(&nodes[party.index()])));
        let found = join_all(looks).await;
        let mut known: Vec<(Party, PeerKey)> = Vec::new();
        for (party, found) in others.into_iter().zip(found) {
            let index = party.index();
            let key = match found {
                Ok(Ok(key)) => key,
                Ok(Err(PeerError::Myself)) => context.identity.key(),
                // These do not get better by waiting.
                Ok(Err(error)) if is_final(&error) => {
                    let message = format!("nodes[{index}] ({}): {error}", nodes[index]);
                    return Err(Problem::peer(error.code(), message, error.hint_at(&nodes[index])).with("party", index));
                }
                // Nobody else is taken for it later: that would end the task.
                _ => match promised.keys.get(index) {
                    Some(Some(key)) => *key,
                    _ => continue,
                },
            };
            let twice = known
                .iter()
                .find(|(_, other)| *other == key)
                .map(|(other, _)| other.index());
            let twice = twice.or_else(|| (key == context.identity.key()).then_some(me.index()));
            if let Some(other) = twice {
                return Err(Problem::input(
                    "KEY_TWICE",
                    format!("nodes[{other}] and nodes[{index}] are the same node under two URLs"),
                    "give every party a node of its own: parties are counted by their keys",
                ));
            }
            if let Some(Some(promised)) = promised.keys.get(index)
                && *promised != key
            {
                return Err(Problem::peer(
                    "KEYS_DIFFER",
                    format!(
                        "nodes[{index}] ({}) has the key {}, but the invitation says {}",
                        nodes[index],
                        key.fingerprint(),
                        promised.fingerprint()
                    ),
                    COMPARE_KEYS,
                )
                .with("party", index));
            }
            known.push((party, key));
        }
        if let Some(inviter) = promised.inviter
            && known.len() + 1 == nodes.len()
            && known.iter().all(|(_, key)| *key != inviter)
        {
            let message = format!(
                "the link is of the node {}, but none of the nodes of the task has this key",
                inviter.fingerprint()
            );
            return Err(Problem::peer("KEYS_DIFFER", message, COMPARE_KEYS));
        }
        Ok(known)
    }
}

/// Whether asking again cannot help: somebody has to change something first.
fn is_final(error: &PeerError) -> bool {
    match error {
        PeerError::Url(_)
        | PeerError::Address(..)
        | PeerError::NotANode(_)
        | PeerError::Version
        | PeerError::BadCertificate
        | PeerError::KeyChanged { .. }
        | PeerError::KeyForked { .. }
        | PeerError::NotPinned
        | PeerError::Myself => true,
        PeerError::Http(status) => *status < 500,
        PeerError::Dns(_)
        | PeerError::Refused(_)
        | PeerError::Timeout(_)
        | PeerError::Tls(_)
        | PeerError::NoWebSocket(_)
        | PeerError::Closed(_) => false,
    }
}
