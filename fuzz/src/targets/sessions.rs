//! What parties say to each other: any bytes as a Hello, and a whole task in which one of three parties is hostile.

use bytes::Bytes;
use fdrtd::descriptor::{Descriptor, Durations, PROTOCOL};
use fdrtd::identity::PeerKey;
use fdrtd::policy::Profile;
use fdrtd::session::{End, Session, is_abort, is_data, is_hello, peek_hello};
use fdrtd::url::NodeUrl;
use fdrtd_mpc::microprotocol::{Entry, Prepared};
use fdrtd_mpc::net::Party;
use uuid::Uuid;

use crate::source::{Source, put};

const N: usize = 3;
const HOSTILE: usize = 2;

fn party(index: usize) -> Party {
    Party::new(index, N).unwrap()
}

pub(super) fn descriptor() -> Descriptor {
    let url = |index: usize| NodeUrl::parse(&format!("http://127.0.0.1:9/{index}")).unwrap();
    Descriptor {
        protocol: PROTOCOL,
        task: Uuid::from_bytes([5; 16]),
        microprotocol: "SecureSum".to_owned(),
        parameters: Entry::find("SecureSum").unwrap().configure("{}").unwrap().canonical,
        nodes: (0..N).map(url).collect(),
        durations: Durations::default(),
        meeting: None,
    }
}

fn prepared(text: &str) -> Prepared {
    let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
    configured.input(N, &[text]).unwrap()
}

/// Every party of a task; everybody knows everybody's key.
fn parties() -> Vec<Session> {
    let key = |index: usize| PeerKey::from_bytes([index as u8 + 1; 32]);
    let session = |me: usize| {
        let mut session = Session::new(descriptor(), party(me), key(me), Profile::Teaching, 0);
        for other in (0..N).filter(|other| *other != me) {
            session.set_key(party(other), key(other));
        }
        session
    };
    (0..N).map(session).collect()
}

/// Any bytes as a message to a task that is not joined.
pub(super) fn hellos(data: &[u8]) {
    if let Ok((descriptor, _)) = peek_hello(data) {
        assert!(is_hello(data));
        let text = descriptor.text();
        let again: Descriptor = serde_json::from_str(&text).expect("what was read is written so that it can be read");
        assert_eq!(again, descriptor);
        assert_eq!(descriptor.difference(&again), None);
        let _ = descriptor.durations.usable();
    }
    assert!(u8::from(is_hello(data)) + u8::from(is_data(data)) + u8::from(is_abort(data)) <= 1);
}

pub(super) fn hello_seeds() -> Vec<Vec<u8>> {
    let mut all = parties();
    let said = all.iter_mut().flat_map(Session::outgoing);
    said.map(|(_, message)| message.to_vec()).collect()
}

/// Two honest parties, and a third whose messages are its own, changed ones, or anything. The honest ones end in time, within bounds, and never with two
/// different results that count as confirmed.
pub(super) fn sessions(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::new();
    while !source.is_empty() {
        world.act(&mut source);
    }
    world.finish();
}

struct World {
    sessions: Vec<Session>,
    /// By receiver.
    mail: [Vec<(usize, Bytes)>; N],
    /// What the hostile party would have said if it were honest, and to whom.
    said: Vec<(usize, Bytes)>,
    /// How many of these it has said in their order.
    spoken: usize,
    now: u64,
}

impl World {
    fn new() -> World {
        let mut world = World {
            sessions: parties(),
            mail: Default::default(),
            said: Vec::new(),
            spoken: 0,
            now: 0,
        };
        for me in 0..N {
            world.settle(me);
        }
        world
    }

    fn act(&mut self, source: &mut Source<'_>) {
        let (what, me) = (source.below(13), source.below(N));
        match what {
            0..=2 => self.deliver(me, source.below(4)),
            3 => {
                self.sessions[me].give_input(prepared(&format!("{}", source.u8())), self.now);
                self.settle(me);
            }
            // What is next, as an honest party would say it, or with a changed byte.
            12 => {
                if let Some((to, message)) = self.said.get(self.spoken).cloned() {
                    self.spoken += 1;
                    let mut bytes = message.to_vec();
                    let at = usize::from(source.u8()) % bytes.len();
                    bytes[at] ^= source.u8();
                    self.say(to, &Bytes::from(bytes));
                }
            }
            // Its own words, as they are, changed, cut, prolonged, or to somebody else.
            4..=7 if !self.said.is_empty() => {
                let (to, message) = self.said[source.below(self.said.len())].clone();
                let message = match what {
                    4 => message,
                    5 => {
                        let mut bytes = message.to_vec();
                        let at = usize::from(source.u16()) % bytes.len().max(1);
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte ^= source.u8();
                        }
                        Bytes::from(bytes)
                    }
                    6 => message.slice(..usize::from(source.u16()) % (message.len() + 1)),
                    _ => Bytes::from([&message[..], source.bytes()].concat()),
                };
                let to = if source.u8().is_multiple_of(8) { 1 - to } else { to };
                self.say(to, &message);
            }
            8 => {
                let message = Bytes::copy_from_slice(source.bytes());
                self.say(me % HOSTILE, &message);
            }
            9 => self.restart(me % HOSTILE),
            10 => {
                self.now += u64::from(source.u16()) * 1000;
                self.tick(me);
            }
            _ => {
                let away = source.u8().is_multiple_of(2);
                let now = self.now;
                self.sessions[me].set_away(party((me + 1) % N), away, now);
                self.settle(me);
            }
        }
    }

    /// The hostile party speaks to an honest one.
    fn say(&mut self, to: usize, message: &Bytes) {
        if message.len() <= self.sessions[to].limit() {
            self.sessions[to].receive(party(HOSTILE), message, self.now);
        } else {
            self.sessions[to].fail(fdrtd::reason::Reason::PeerMalformed { party: HOSTILE });
        }
        if self.sessions[to].end().is_some() {
            let _ = self.sessions[to].farewell(Some(party(HOSTILE)), message);
            let _ = self.sessions[to].epitaph();
        }
        self.settle(to);
    }

    fn restart(&mut self, me: usize) {
        let now = self.now;
        self.sessions[me].peer_restarted(party(HOSTILE), now);
        self.settle(me);
    }

    fn deliver(&mut self, me: usize, most: usize) {
        for _ in 0..=most {
            if self.mail[me].is_empty() {
                return;
            }
            let (from, message) = self.mail[me].remove(0);
            self.sessions[me].receive(party(from), &message, self.now);
            self.settle(me);
        }
    }

    fn tick(&mut self, me: usize) {
        let now = self.now;
        self.sessions[me].tick(now, &[0; N]);
        self.settle(me);
    }

    /// Computes, and takes what is to be sent.
    fn settle(&mut self, me: usize) {
        let session = &mut self.sessions[me];
        while let Some(job) = session.job() {
            session.finish(job.run());
        }
        let sent = session.outgoing();
        assert!(sent.len() <= 40, "one event has few consequences");
        let _ = (
            session.waiting_for(),
            session.rules(),
            session.joined_count(),
            session.round(),
        );
        for (to, message) in sent {
            if me == HOSTILE {
                self.said.push((to.index(), message));
                continue;
            }
            self.mail[to.index()].push((me, message));
        }
        self.said.truncate(200);
    }

    fn finish(&mut self) {
        for _ in 0..1000 {
            if (0..N).all(|me| self.mail[me].is_empty()) {
                break;
            }
            for me in 0..N {
                self.deliver(me, 10);
            }
        }
        // Far beyond all durations: nothing waits for ever.
        for _ in 0..3 {
            self.now += 10 * 24 * 3600 * 1000;
            for me in 0..N {
                self.tick(me);
            }
        }
        let mut results: Vec<&str> = Vec::new();
        for session in &self.sessions[..HOSTILE] {
            match session.end().expect("it has ended") {
                End::Done { result, unconfirmed } => {
                    assert!(!unconfirmed.contains(&session.me().index()));
                    let honest_confirmed = unconfirmed.iter().all(|party| *party == HOSTILE);
                    if honest_confirmed {
                        results.push(result);
                    }
                }
                End::Failed { reason, .. } => assert!(reason.fits(N)),
            }
        }
        results.dedup();
        assert!(results.len() <= 1, "two results");
    }
}

pub(super) fn session_seeds() -> Vec<Vec<u8>> {
    let deliver = [0, 0, 3, 0, 1, 3, 0, 2, 3].repeat(3);
    let speak = |at: u8, change: u8| [12, 0, at, change];
    let say = |count: usize| speak(0, 0).repeat(count);
    let inputs = [3, 0, 10, 3, 1, 7, 3, 2, 14];
    // Hellos, Readies, data, closing digests: to each of the two.
    let joined = [&say(2)[..], &deliver, &say(4), &deliver].concat();
    let ready = [&joined[..], &inputs, &deliver, &say(2), &deliver].concat();
    let honest = [&ready[..], &say(2), &deliver, &say(2), &deliver].concat();
    let two_stories = [&ready[..], &speak(50, 1), &say(1), &deliver, &say(2), &deliver].concat();
    let mut raw = joined.clone();
    for message in hello_seeds() {
        raw.extend_from_slice(&[8, 0]);
        put(&mut raw, &message);
    }
    let restarted = [&joined[..], &[9, 0, 9, 1], &say(4), &deliver, &honest[..]].concat();
    let late = [&ready[..], &[10, 0, 255, 255, 10, 1, 255, 255]].concat();
    let abort = [&ready[..], &[8, 0, 30, 0, 4, 2], br#"{"code":"CANCELLED","party":2}"#].concat();
    let again = [
        &ready[..],
        &[4, 0, 0, 1, 4, 0, 3, 1, 6, 0, 2, 9, 0, 1, 7, 0, 1, 1, 0, 9, 1],
        &deliver,
    ]
    .concat();
    vec![honest, two_stories, raw, restarted, late, abort, again]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise everything that is made of the seeds would show little.
    #[test]
    fn the_honest_seed_has_a_result_and_two_stories_have_none() {
        for (seed, done) in session_seeds().iter().zip([true, false]) {
            let mut source = Source::new(seed);
            let mut world = World::new();
            while !source.is_empty() {
                world.act(&mut source);
            }
            for session in &world.sessions[..HOSTILE] {
                let ended = matches!(session.end(), Some(End::Done { unconfirmed, .. }) if unconfirmed.is_empty());
                assert_eq!(ended, done, "{:?}", session.end());
                assert!(session.end().is_some(), "{:?}", session.waiting_for());
            }
        }
    }
}
