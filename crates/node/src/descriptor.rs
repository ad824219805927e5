//! What all parties of a task agree on, and how it is invited to and compared.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::identity::PeerKey;
use crate::invitation::Link;
use crate::policy::{Profile, Rules};
use crate::url::NodeUrl;

/// Version of the protocol between nodes.
pub const PROTOCOL: u32 = 4;

/// Longest descriptor, so that a Hello stays below 4 KiB.
pub const MAX_BYTES: usize = 3_800;

/// How long each part of a task may take, in milliseconds on each node's own monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durations {
    /// From this node's create or join until all have joined.
    pub join: u64,
    /// From then until all have their input.
    pub input: u64,
    /// From then to the result.
    pub run: u64,
    /// How long a peer may be silent while the computation needs it.
    pub silence: u64,
}

impl Default for Durations {
    fn default() -> Self {
        const DAY: u64 = 24 * 3600 * 1000;
        Durations {
            join: DAY,
            input: DAY,
            run: 600_000,
            silence: 30_000,
        }
    }
}

impl Durations {
    /// The shortest and the longest of each, in milliseconds: a tenth of a second and 30 days.
    pub const RANGE: std::ops::RangeInclusive<u64> = 100..=30 * 24 * 3600 * 1000;

    /// Whether all are in [`Durations::RANGE`]. Invitations come from others: a silence of nothing would have peers pinged without a pause, and
    /// points in time beyond all clocks cannot be told.
    pub fn usable(&self) -> bool {
        [self.join, self.input, self.run, self.silence]
            .iter()
            .all(|duration| Self::RANGE.contains(duration))
    }
}

/// Everything about a task that is the same at every party and known before it starts. Its JSON text is hashed into the session id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The task.
    pub task: Uuid,
    /// Name in the table of microprotocols (never an alias).
    pub microprotocol: String,
    /// Canonical JSON text of the parameters.
    pub parameters: String,
    /// The parties, in order.
    pub nodes: Vec<NodeUrl>,
    /// Time limits.
    pub durations: Durations,
    /// By what the parties of a `compute` find each other; tasks with invitations have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meeting: Option<Meeting>,
}

/// A hash of what is agreed beforehand on a computation: the network's uuid, the nodes in their order, the microprotocol and its parameters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Meeting([u8; 32]);

impl Meeting {
    const CONTEXT: &str = "fdrtd 2026-11 meeting of a computation, version 1";

    /// `uuid` is whatever the parties have agreed on, or nothing.
    pub fn new(uuid: &str, nodes: &[NodeUrl], microprotocol: &str, parameters: &str) -> Meeting {
        // JSON: no two lists of texts have one text.
        let text = serde_json::json!([uuid, nodes, microprotocol, parameters]).to_string();
        Meeting(blake3::derive_key(Self::CONTEXT, text.as_bytes()))
    }
}

impl From<Meeting> for String {
    fn from(meeting: Meeting) -> String {
        blake3::Hash::from_bytes(meeting.0).to_hex().to_string()
    }
}

impl TryFrom<String> for Meeting {
    type Error = blake3::HexError;

    fn try_from(text: String) -> Result<Meeting, blake3::HexError> {
        blake3::Hash::from_hex(text).map(|hash| Meeting(*hash.as_bytes()))
    }
}

impl std::fmt::Debug for Meeting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl Descriptor {
    /// Its one text form.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The first thing in which two descriptors differ.
    pub fn difference(&self, other: &Descriptor) -> Option<Field> {
        let mut mine: Vec<_> = self.nodes.iter().collect();
        let mut theirs: Vec<_> = other.nodes.iter().collect();
        mine.sort();
        theirs.sort();
        [
            (self.protocol != other.protocol, Field::Protocol),
            (self.task != other.task, Field::Task),
            (self.microprotocol != other.microprotocol, Field::Microprotocol),
            (self.parameters != other.parameters, Field::Parameters),
            (mine != theirs, Field::Nodes),
            (self.nodes != other.nodes, Field::Order),
            (self.durations != other.durations, Field::Durations),
            (self.meeting != other.meeting, Field::Meeting),
        ]
        .into_iter()
        .find_map(|(differs, field)| differs.then_some(field))
    }
}

/// A part of the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// The version of the protocol between nodes.
    Protocol,
    /// The task's id.
    Task,
    /// The microprotocol.
    Microprotocol,
    /// Its parameters.
    Parameters,
    /// The list of nodes.
    Nodes,
    /// The same nodes in another order.
    Order,
    /// The time limits.
    Durations,
    /// What a `compute` meets by: the network's uuid, if all else is the same.
    Meeting,
}

impl Field {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Field::Protocol => "the protocol versions",
            Field::Task => "the task ids",
            Field::Microprotocol => "the microprotocols",
            Field::Parameters => "the parameters",
            Field::Nodes => "the lists of nodes",
            Field::Order => "the orders of the nodes",
            Field::Durations => "the durations",
            Field::Meeting => "the uuids of the networks",
        }
    }
}

/// What a party hands to the others, by any way it likes: it contains no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// [`PROTOCOL`].
    pub fdrtd: u32,
    /// The task.
    pub task: Uuid,
    /// The microprotocol's name.
    pub microprotocol: String,
    /// Its parameters, all of them.
    pub parameters: Box<RawValue>,
    /// The parties, in order.
    pub nodes: Vec<NodeUrl>,
    /// Their keys as far as the inviting node knows them.
    #[serde(default)]
    pub keys: Vec<Option<PeerKey>>,
    /// Time limits in milliseconds.
    pub durations: Durations,
    /// By what the parties of a `compute` find each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meeting: Option<Meeting>,
    /// The inviting node's policy, for information: the profile's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Profile>,
    /// Its rules, for information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<serde_json::Map<String, Value>>,
    /// Which party invites, for information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<usize>,
}

impl Invitation {
    /// Invites to the task of `descriptor`.
    pub fn new(
        descriptor: &Descriptor,
        keys: Vec<Option<PeerKey>>,
        policy: impl Into<Rules>,
        from: usize,
    ) -> Invitation {
        let policy = policy.into();
        let parameters =
            RawValue::from_string(descriptor.parameters.clone()).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Invitation {
            fdrtd: descriptor.protocol,
            task: descriptor.task,
            microprotocol: descriptor.microprotocol.clone(),
            parameters,
            nodes: descriptor.nodes.clone(),
            keys,
            durations: descriptor.durations,
            meeting: descriptor.meeting,
            policy: Some(policy.profile),
            rules: Some(policy.shown()),
            from: Some(from),
        }
    }

    /// What is invited to.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            protocol: self.fdrtd,
            task: self.task,
            microprotocol: self.microprotocol.clone(),
            parameters: self.parameters.get().to_owned(),
            nodes: self.nodes.clone(),
            durations: self.durations,
            meeting: self.meeting,
        }
    }

    /// As JSON, with the link of the inviting node if its key and place are known.
    pub fn shown(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        let place = self
            .from
            .and_then(|from| Some((self.nodes.get(from)?, (*self.keys.get(from)?)?)));
        if let Some((url, key)) = place {
            let link = Link::new(Some(url.clone()), key, &self.descriptor());
            value["link"] = link.to_string().into();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn descriptor() -> Descriptor {
        Descriptor {
            protocol: PROTOCOL,
            task: Uuid::from_bytes([7; 16]),
            microprotocol: "SecureSum".into(),
            parameters: "{\"digits_after\":12}".into(),
            nodes: ["http://localhost:1/a", "http://localhost:1/b"]
                .map(|url| NodeUrl::parse(url).unwrap())
                .to_vec(),
            durations: Durations::default(),
            meeting: None,
        }
    }

    #[test]
    fn meetings_differ_in_all_that_is_agreed_on() {
        let nodes = descriptor().nodes;
        let turned: Vec<_> = nodes.iter().rev().cloned().collect();
        let all = [
            Meeting::new("u", &nodes, "SecureSum", "{}"),
            Meeting::new("", &nodes, "SecureSum", "{}"),
            Meeting::new("u", &turned, "SecureSum", "{}"),
            Meeting::new("u", &nodes, "SecureSum2", "{}"),
            Meeting::new("u", &nodes, "SecureSum", "{\"digits_after\":1}"),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|other| other != one), "{index}");
        }
        let mine = Descriptor {
            meeting: Some(all[0]),
            ..descriptor()
        };
        assert_eq!(serde_json::from_str::<Descriptor>(&mine.text()).unwrap(), mine);
        assert_eq!(mine.difference(&descriptor()), Some(Field::Meeting));
        let cut = mine.text().replacen(&String::from(all[0])[..2], "", 1);
        assert!(serde_json::from_str::<Descriptor>(&cut).is_err());
    }

    #[test]
    fn the_first_difference_is_named() {
        let mine = descriptor();
        assert_eq!(mine.difference(&mine.clone()), None);
        let order = Descriptor {
            nodes: mine.nodes.iter().rev().cloned().collect(),
            ..mine.clone()
        };
        assert_eq!(mine.difference(&order), Some(Field::Order));
        let list = Descriptor {
            nodes: vec![mine.nodes[0].clone()],
            ..mine.clone()
        };
        assert_eq!(mine.difference(&list), Some(Field::Nodes));
        let other = Descriptor {
            microprotocol: "Other".into(),
            parameters: "{}".into(),
            ..mine.clone()
        };
        assert_eq!(mine.difference(&other), Some(Field::Microprotocol));
        let durations = Descriptor {
            durations: Durations {
                run: 1,
                ..Durations::default()
            },
            ..mine.clone()
        };
        assert_eq!(mine.difference(&durations), Some(Field::Durations));
    }

    #[test]
    fn durations_are_bounded_on_both_sides() {
        let with = |change: fn(&mut Durations, u64), millis: u64| {
            let mut durations = Durations::default();
            change(&mut durations, millis);
            durations.usable()
        };
        let members: [fn(&mut Durations, u64); 4] = [
            |durations, millis| durations.join = millis,
            |durations, millis| durations.input = millis,
            |durations, millis| durations.run = millis,
            |durations, millis| durations.silence = millis,
        ];
        for change in members {
            assert!(with(change, 100) && with(change, *Durations::RANGE.end()));
            for millis in [0, 99, *Durations::RANGE.end() + 1, u64::MAX] {
                assert!(!with(change, millis), "{millis}");
            }
        }
    }

    #[test]
    fn texts_are_read_back() {
        let mine = descriptor();
        assert_eq!(serde_json::from_str::<Descriptor>(&mine.text()).unwrap(), mine);
        let text = serde_json::to_string(&Invitation::new(&mine, vec![None, None], Profile::Teaching, 0)).unwrap();
        assert!(text.contains("\"parameters\":{\"digits_after\":12}"));
        assert_eq!(serde_json::from_str::<Invitation>(&text).unwrap().nodes, mine.nodes);
    }
}
