//! Being invited: the pending invitations, what a link leads to, and which place in the network is this node's.

use std::time::Duration;

use fdrtd_mpc::microprotocol::Entry;
use fdrtd_mpc::net::Party;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::network::{Network, check_nodes, compare_nodes, read_network};
use super::parties::FIRST_LOOK;
use super::{Holding, Simon, find_microprotocol, parse_invitation, refused};
use crate::descriptor::{Descriptor, Field, Invitation, PROTOCOL};
use crate::identity::PeerKey;
use crate::invitation::Link;
use crate::json::{Kind, Parameters, Raw};
use crate::peer::PeerError;
use crate::principal::Principal;
use crate::problem::Problem;
use crate::url::NodeUrl;

/// Longest invitation that is fetched, in bytes.
const MAX_FETCHED: usize = 16 << 10;

/// An invitation, and who is known to have sent it.
pub(super) struct Invited {
    pub(super) invitation: Invitation,
    /// The node that a link names, unless its place among the nodes is known: then its key is in the invitation.
    pub(super) inviter: Option<PeerKey>,
}

/// What the caller of `invitations` looks for.
struct Wanted {
    entry: Option<&'static Entry>,
    /// In canonical form.
    parameters: Option<String>,
    network: Option<Network>,
}

impl Simon {
    /// The pending invitations that the caller looks for; waits for one if it is told to.
    pub(super) async fn invitations(&self, who: &Principal, mut parameters: Parameters) -> Result<Value, Problem> {
        let wanted = Wanted::read(&mut parameters)?;
        let patience = match parameters.optional("timeout") {
            Some(raw) => raw.seconds()?.min(Holding::SHORT.most.as_secs_f64()),
            None => 0.0,
        };
        parameters.finish()?;
        if let Some(network) = &wanted.network {
            // Who looks as somebody else would wait for an invitation to himself.
            self.check_myself(&network.nodes, network.myself).await?;
        }
        if who.is_anonymous() && !wanted.is_whole() {
            // Whoever finds an invitation can join it; anonymous callers find what they can describe.
            return Ok(Value::Array(Vec::new()));
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs_f64(patience);
        // Before the first look, so that nothing is missed in between.
        let mut arrivals = self.tasks.arrivals();
        let mut stopping = self.tasks.context().stopping.subscribe();
        loop {
            let pending = self.tasks.pending();
            let exact = pending.iter().filter(|entry| wanted.is(&entry.descriptor));
            let exact: Vec<Value> = exact.map(|entry| self.tasks.shown(entry)).collect();
            if !exact.is_empty() {
                return Ok(exact.into());
            }
            let news = tokio::select! {
                news = tokio::time::timeout_at(deadline, arrivals.changed()) => matches!(news, Ok(Ok(()))),
                _ = stopping.wait_for(|stopping| *stopping) => false,
            };
            if !news {
                let similar = pending.iter().filter_map(|entry| {
                    let field = wanted.near(&entry.descriptor)?;
                    let mut shown = if who.is_anonymous() {
                        // That there is one, for people who have mistyped something; not the one itself.
                        json!({"microprotocol": entry.descriptor.microprotocol, "nodes": entry.descriptor.nodes})
                    } else {
                        self.tasks.shown(entry)
                    };
                    shown["differs"] = field.name().into();
                    Some(shown)
                });
                return Ok(similar.collect());
            }
        }
    }

    /// An invitation as an object, as its JSON text, or as a link: then it is looked for among the pending ones, else asked for.
    pub(super) async fn read_invited(&self, raw: &Raw) -> Result<Invited, Problem> {
        if raw.kind() == Kind::String {
            let text = raw.string()?;
            if Link::is_meant(&text) {
                return self.follow(&text).await;
            }
            return Ok(Invited {
                invitation: parse_invitation(&text)?,
                inviter: None,
            });
        }
        if raw.kind() != Kind::Object {
            return Err(super::not_an_invitation(&format!("it is {}", raw.kind().name())));
        }
        Ok(Invited {
            invitation: parse_invitation(raw.text())?,
            inviter: None,
        })
    }

    async fn follow(&self, text: &str) -> Result<Invited, Problem> {
        let link = Link::parse(text).map_err(|error| {
            Problem::input(
                "INVITATION_LINK_MALFORMED",
                format!("this is not an invitation link: {error}"),
                "copy the whole link, from 'fdrtd:' to its last letter, as task.invite()['link'] gave it; or hand over the invitation itself",
            )
        })?;
        self.tasks.taken(&link.task)?;
        let pending = self.tasks.pending();
        let pending = pending
            .iter()
            .find(|entry| entry.from.contains(&link.key) && link.fits(&entry.descriptor));
        let mut invitation = match pending {
            Some(entry) => {
                let keys = vec![None; entry.descriptor.nodes.len()];
                Invitation::new(&entry.descriptor, keys, entry.rules, 0)
            }
            None => self.fetch(&link).await?,
        };
        invitation.keys.resize(invitation.nodes.len(), None);
        let place = link
            .url
            .as_ref()
            .and_then(|url| invitation.nodes.iter().position(|node| node == url));
        let inviter = match place {
            Some(place) => {
                invitation.keys[place] = Some(link.key);
                None
            }
            None => Some(link.key),
        };
        Ok(Invited { invitation, inviter })
    }

    /// Asks the inviting node. What it answers must be what the link commits to.
    async fn fetch(&self, link: &Link) -> Result<Invitation, Problem> {
        let gone = |whose: String| {
            Problem::unknown(
                "INVITATION_UNKNOWN",
                format!("{whose} has no such task any more"),
                "it has ended or was deleted there: ask the inviting party for a new invitation",
            )
        };
        let context = self.tasks.context();
        if link.key == context.identity.key() {
            return Err(gone("the link is this node's own, and this node".to_owned()));
        }
        let Some(url) = &link.url else {
            return Err(gone(
                "the link does not say where the inviting node is, and this node".to_owned(),
            ));
        };
        let page = format!("invitations/{}", link.task);
        let fetched = context.peers.fetch(url, link.key, &page, MAX_FETCHED).await;
        let text = fetched.map_err(|error| match error {
            PeerError::Http(404) => gone(format!("the inviting node ({url})")),
            PeerError::KeyChanged { found, .. } => keys_differ(url, &found, &link.key, found == context.identity.key()),
            error => {
                let message = format!("the inviting node ({url}): {error}");
                Problem::peer(error.code(), message, error.hint_at(url))
            }
        })?;
        let changed = || {
            Problem::peer(
                "INVITATION_CHANGED",
                format!("what the inviting node ({url}) answers is not what the link invites to"),
                "the link was changed on its way, or that node is not honest: ask the inviting party for the link on another way",
            )
        };
        let text = std::str::from_utf8(&text).map_err(|_| changed())?;
        let mut invitation = parse_invitation(text).map_err(|problem| match problem.code {
            "VERSIONS_DIFFER" => problem,
            _ => changed(),
        })?;
        let entry = find_microprotocol(&invitation.microprotocol)?;
        let configured = entry.configure(invitation.parameters.get()).map_err(|_| changed())?;
        let descriptor = Descriptor {
            protocol: PROTOCOL,
            parameters: configured.canonical,
            ..invitation.descriptor()
        };
        if !link.fits(&descriptor) {
            return Err(changed());
        }
        // The link does not commit to the other keys, and the inviting node's word for them is no better than asking them.
        invitation.keys.clear();
        Ok(invitation)
    }

    /// The caller's network, or that of the invitation with this node's place in it.
    pub(super) async fn place(&self, invited: &[NodeUrl], given: Option<Network>) -> Result<Network, Problem> {
        if let Some(given) = given {
            compare_nodes(invited, &given.nodes)?;
            return Ok(given);
        }
        check_nodes(invited)?;
        let own = |index: usize| {
            Party::new(index, invited.len()).map(|myself| Network {
                nodes: invited.to_vec(),
                myself,
                uuid: String::new(),
            })
        };
        let configured = invited.iter().position(|node| self.public_urls.contains(node));
        if let Some(network) = configured.and_then(own) {
            return Ok(network);
        }
        let context = self.tasks.context();
        let looks = invited
            .iter()
            .map(|node| tokio::time::timeout(FIRST_LOOK, context.peers.look_up(node)));
        let found = join_all(looks).await;
        let key = context.identity.key();
        let position = found
            .iter()
            .position(|found| matches!(found, Ok(Ok(found)) if *found == key));
        position.and_then(own).ok_or_else(|| {
            let silent = found.iter().enumerate().filter(|(_, found)| !matches!(found, Ok(Ok(_))));
            let silent: Vec<String> = silent.map(|(index, _)| format!("nodes[{index}] ({})", invited[index])).collect();
            let unsure = if silent.is_empty() {
                String::new()
            } else {
                format!("; {} did not answer this node's question", silent.join(", "))
            };
            Problem::input(
                "MYSELF_NOT_FOUND",
                format!(
                    "none of the {} nodes of the invitation is known to be this node ({}){unsure}",
                    invited.len(),
                    key.fingerprint()
                ),
                "if this node is one of them, say which: network={'nodes': invitation['nodes'], 'myself': 1}, or set public_url in its \
                 configuration; if not, ask the inviting party to create the task with this node's URL in the list",
            )
            .with("nodes", serde_json::json!(invited))
        })
    }
}

impl Wanted {
    fn read(parameters: &mut Parameters) -> Result<Wanted, Problem> {
        let entry = match parameters.optional("microprotocol") {
            Some(raw) => Some(find_microprotocol(&raw.string()?)?),
            None => None,
        };
        let network = match parameters.optional("network") {
            Some(raw) => Some(read_network(&raw)?),
            None => None,
        };
        let chosen = match parameters.optional("parameters") {
            Some(raw) => {
                raw.object()?;
                Some(raw.into_text())
            }
            None => None,
        };
        let parameters = match (entry, &chosen) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Problem::input(
                    "PARAMETER_MISSING",
                    "\"invitations\" needs \"microprotocol\" to understand \"parameters\"",
                    "write invitations(microprotocol=\"SecureSum\", parameters={}, network=…)",
                )
                .with("parameter", "microprotocol"));
            }
            // Who asks for a task as `create` would make it means the defaults.
            (Some(_), None) if network.is_none() => None,
            (Some(entry), _) => {
                let chosen = chosen.as_ref().map_or("{}", |text| text.as_str());
                Some(entry.configure(chosen).map_err(refused)?.canonical)
            }
        };
        Ok(Wanted {
            entry,
            parameters,
            network,
        })
    }

    /// Whether everything is said that a task is made from, the durations aside.
    fn is_whole(&self) -> bool {
        self.entry.is_some() && self.parameters.is_some() && self.network.is_some()
    }

    /// Whether it is exactly what is looked for.
    fn is(&self, found: &Descriptor) -> bool {
        self.entry.is_none_or(|entry| entry.name == found.microprotocol)
            && self
                .parameters
                .as_ref()
                .is_none_or(|wanted| *wanted == found.parameters)
            && self.network.as_ref().is_none_or(|wanted| wanted.nodes == found.nodes)
            // Those who compute in one call meet by themselves.
            && (found.meeting.is_none() || !self.is_whole())
    }

    /// In what something differs that the same nodes are to compute, if everything was said that can differ.
    fn near(&self, found: &Descriptor) -> Option<Field> {
        let wanted = Descriptor {
            microprotocol: self.entry?.name.to_owned(),
            parameters: self.parameters.clone()?,
            nodes: self.network.as_ref()?.nodes.clone(),
            ..found.clone()
        };
        let (mut mine, mut theirs) = (wanted.nodes.clone(), found.nodes.clone());
        mine.sort();
        theirs.sort();
        if mine == theirs { wanted.difference(found) } else { None }
    }
}

fn keys_differ(url: &NodeUrl, found: &PeerKey, promised: &PeerKey, is_own: bool) -> Problem {
    let who = if is_own {
        "the key of this very node".to_owned()
    } else {
        format!("the key {}", found.fingerprint())
    };
    let hint = if url.is_loopback() {
        "127.0.0.1 and localhost are on every machine that machine itself: the inviting party must write the address under which others reach its \
         node, and create the task anew"
    } else {
        "somebody may stand between the nodes, or that node has a new identity: compare `fdrtd identity` with its operator"
    };
    Problem::peer(
        "KEYS_DIFFER",
        format!(
            "the inviting node ({url}) has {who}, but the link says {}",
            promised.fingerprint()
        ),
        hint,
    )
}
