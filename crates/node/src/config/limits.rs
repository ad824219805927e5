//! `[limits]`: what this node lets others make it keep or do. `docs/limits.md` says of each how it is answered.

use std::time::Duration;

use fdrtd_mpc::net::MAX_PARTIES;
use serde::Deserialize;

use super::ConfigError;

/// The longest time to live, in seconds: ten years. Points in time that far away can still be told.
const LONGEST: f64 = 10.0 * 365.0 * 24.0 * 3600.0;
/// More of anything is no limit.
const MOST: usize = 1 << 40;

/// What this node lets others make it keep or do; `docs/limits.md` has all of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest request body.
    pub body_bytes: usize,
    /// Bytes of all large request bodies that are held at once.
    pub bodies_bytes: usize,
    /// Longest time for a request's body, in seconds.
    pub body_time: f64,
    /// Bytes per second that a client has to send of a body, or to take of an answer, after a few seconds of grace.
    pub slowest: u64,
    /// Deepest nesting of JSON.
    pub json_depth: usize,
    /// Bytes of a string of JSON.
    pub json_string_bytes: usize,
    /// Values of all kinds in a body.
    pub json_values: usize,
    /// Members of one object of JSON.
    pub json_members: usize,
    /// Connections of clients at once.
    pub connections: usize,
    /// Those of one address.
    pub connections_per_address: usize,
    /// Requests in progress, over all connections of HTTP/2.
    pub requests: usize,
    /// Seconds for the header of a request, and that a connection is kept which asks for nothing or takes nothing.
    pub header_time: f64,
    /// Seconds for a TLS handshake.
    pub handshake_time: f64,
    /// Streams of events at once.
    pub streams: usize,
    /// Tests of the way to another node at once.
    pub probes: usize,
    /// Handshakes of other nodes in progress.
    pub peer_handshakes: usize,
    /// Other nodes with which no task is shared.
    pub peer_strangers: usize,
    /// Bytes of messages of one peer that are under way to this node.
    pub peer_inbox_bytes: usize,
    /// Bytes of messages to one peer that it has not acknowledged.
    pub peer_outbox_bytes: usize,
    /// Tasks at once, ended ones included.
    pub tasks: usize,
    /// Parties of a task.
    pub parties: usize,
    /// Bytes of messages that a task may need memory for.
    pub task_bytes: usize,
    /// Stored values at once.
    pub objects: usize,
    /// Bytes of stored values.
    pub object_bytes: usize,
    /// Tasks of one principal.
    pub tasks_per_principal: usize,
    /// Stored values of one principal.
    pub objects_per_principal: usize,
    /// Bytes of the stored values of one principal.
    pub object_bytes_per_principal: usize,
    /// Meeting points of one principal, for each of the two services.
    pub points_per_principal: usize,
    /// Bytes at meeting points of one principal, for each of the two services.
    pub point_bytes_per_principal: usize,
    /// Pending invitations in all, and of one node.
    pub invitations: usize,
    /// Pending invitations of one node.
    pub invitations_per_peer: usize,
    /// Seconds that values, and tasks after their end, are kept.
    pub time_to_live: f64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 64 << 20,
            bodies_bytes: 512 << 20,
            body_time: 120.0,
            slowest: 1024,
            json_depth: 64,
            json_string_bytes: 16 << 20,
            json_values: 16 << 20,
            json_members: 10_000,
            connections: 700,
            connections_per_address: 350,
            requests: 700,
            header_time: 60.0,
            handshake_time: 10.0,
            streams: 64,
            probes: 4,
            peer_handshakes: 64,
            peer_strangers: 256,
            peer_inbox_bytes: 512 << 20,
            peer_outbox_bytes: 512 << 20,
            tasks: 10_000,
            parties: MAX_PARTIES,
            task_bytes: 1 << 30,
            objects: 10_000,
            object_bytes: 1 << 30,
            tasks_per_principal: 5_000,
            objects_per_principal: 5_000,
            object_bytes_per_principal: 512 << 20,
            points_per_principal: 5_000,
            point_bytes_per_principal: 128 << 20,
            invitations: 1_000,
            invitations_per_peer: 200,
            time_to_live: 48.0 * 3600.0,
        }
    }
}

impl Limits {
    /// Those that can be hit, by name.
    pub const NAMES: [&str; 31] = [
        "body_bytes",
        "bodies_bytes",
        "body_time",
        "slowest",
        "json_depth",
        "json_string_bytes",
        "json_values",
        "json_members",
        "connections",
        "connections_per_address",
        "requests",
        "header_time",
        "handshake_time",
        "streams",
        "probes",
        "peer_handshakes",
        "peer_strangers",
        "peer_inbox_bytes",
        "peer_outbox_bytes",
        "tasks",
        "parties",
        "task_bytes",
        "objects",
        "object_bytes",
        "tasks_per_principal",
        "objects_per_principal",
        "object_bytes_per_principal",
        "points_per_principal",
        "point_bytes_per_principal",
        "invitations",
        "invitations_per_peer",
    ];

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// With the member and its range.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("body_bytes", self.body_bytes, 1024, 1 << 31),
            ("bodies_bytes", self.bodies_bytes, 1 << 20, MOST),
            (
                "slowest",
                usize::try_from(self.slowest).unwrap_or(usize::MAX),
                1,
                1 << 30,
            ),
            ("json_depth", self.json_depth, 1, 100),
            ("json_string_bytes", self.json_string_bytes, 256, 1 << 31),
            ("json_values", self.json_values, 16, 1 << 31),
            ("json_members", self.json_members, 16, 1 << 31),
            ("connections", self.connections, 1, 1_000_000),
            ("connections_per_address", self.connections_per_address, 1, 1_000_000),
            ("requests", self.requests, 1, 1_000_000),
            ("streams", self.streams, 1, 1_000_000),
            ("probes", self.probes, 1, 1_000),
            ("peer_handshakes", self.peer_handshakes, 1, 100_000),
            ("peer_strangers", self.peer_strangers, 1, 100_000),
            ("peer_inbox_bytes", self.peer_inbox_bytes, 64 << 10, MOST),
            ("peer_outbox_bytes", self.peer_outbox_bytes, 64 << 10, MOST),
            ("tasks", self.tasks, 1, 10_000_000),
            ("parties", self.parties, 2, MAX_PARTIES),
            ("task_bytes", self.task_bytes, 64 << 10, MOST),
            ("objects", self.objects, 0, MOST),
            ("object_bytes", self.object_bytes, 0, MOST),
            ("tasks_per_principal", self.tasks_per_principal, 1, MOST),
            ("objects_per_principal", self.objects_per_principal, 0, MOST),
            ("object_bytes_per_principal", self.object_bytes_per_principal, 0, MOST),
            ("points_per_principal", self.points_per_principal, 0, MOST),
            ("point_bytes_per_principal", self.point_bytes_per_principal, 0, MOST),
            ("invitations", self.invitations, 0, MOST),
            ("invitations_per_peer", self.invitations_per_peer, 0, MOST),
        ];
        for (name, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::Value(format!("limits.{name} is {least} to {most}")));
            }
        }
        if self.body_bytes > self.bodies_bytes {
            return Err(ConfigError::Value(
                "limits.bodies_bytes is at least limits.body_bytes".to_owned(),
            ));
        }
        let times = [
            ("body_time", self.body_time, 0.1, 86_400.0),
            ("header_time", self.header_time, 0.1, 3_600.0),
            ("handshake_time", self.handshake_time, 0.1, 600.0),
            ("time_to_live", self.time_to_live, 0.1, LONGEST),
        ];
        for (name, value, least, most) in times {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::Value(format!(
                    "limits.{name} is a number of seconds from {least} to {most}"
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn body_time(&self) -> Duration {
        Duration::from_secs_f64(self.body_time)
    }

    /// What JSON has to keep to.
    pub(crate) fn json(&self) -> crate::json::Limits {
        crate::json::Limits {
            depth: self.json_depth,
            bytes: self.body_bytes,
            string_bytes: self.json_string_bytes,
            values: self.json_values,
            members: self.json_members,
        }
    }

    /// The listener's part. Nodes that share one share the first one's.
    pub(crate) fn listener(&self) -> Listener {
        Listener {
            connections: self.connections,
            per_address: self.connections_per_address,
            requests: self.requests,
            header_time: Duration::from_secs_f64(self.header_time),
            handshake_time: Duration::from_secs_f64(self.handshake_time),
            slowest: self.slowest,
        }
    }
}

/// The limits of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) connections: usize,
    pub(crate) per_address: usize,
    pub(crate) requests: usize,
    pub(crate) header_time: Duration,
    pub(crate) handshake_time: Duration,
    pub(crate) slowest: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_member_that_can_be_hit_has_its_name_in_the_table() {
        let refused = toml::from_str::<Limits>("nothing = 1").unwrap_err().to_string();
        let (_, members) = refused.split_once("expected one of").unwrap();
        let members: BTreeSet<&str> = members.split('`').skip(1).step_by(2).collect();
        let mut named = BTreeSet::from(Limits::NAMES);
        assert!(named.insert("time_to_live"), "what is kept is gone, nobody hits it");
        assert_eq!(named, members);
    }

    #[test]
    fn the_defaults_are_within_their_ranges_and_nonsense_is_not() {
        assert!(Limits::default().check().is_ok());
        let refused = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits.check().err().map(|error| error.to_string())
        };
        type Change = fn(&mut Limits);
        let wrong: [(&str, Change); 6] = [
            ("limits.json_depth is 1 to 100", |l| l.json_depth = 0),
            ("limits.parties is 2 to 64", |l| l.parties = 65),
            ("limits.connections is 1 to 1000000", |l| l.connections = 0),
            (
                "limits.time_to_live is a number of seconds from 0.1 to 315360000",
                |l| l.time_to_live = f64::INFINITY,
            ),
            ("limits.body_time is a number of seconds from 0.1 to 86400", |l| {
                l.body_time = f64::NAN
            }),
            ("limits.header_time is a number of seconds from 0.1 to 3600", |l| {
                l.header_time = -1.0
            }),
        ];
        for (message, change) in wrong {
            assert_eq!(refused(change).as_deref(), Some(message));
        }
    }
}
