//! Barrier and Broadcast: meeting points that all callers of the node share, found by agreed tokens, or in generation 0.6 by an agreed uuid, which is the
//! same as one token.
//!
//! A point is named by a uuid that the tokens determine, so parties who agree on tokens meet without telling each other a name.
//! A point counts for whoever made it, what lies at it for whoever brought it. Points are held in memory, bounded in number, size and time.

mod waiting;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use uuid::{Uuid, uuid};

use super::{Callback, Clock, Identifiers, Principal, Reply};
use super::{callback_missing, not_public, object_unknown};
use crate::json::{Kind, Parameters, Raw};
use crate::problem::Problem;

pub use waiting::Patience;

/// The namespace from which the names of all meeting points derive.
const BASE: Uuid = uuid!("fede1a7e-0010-4e73-865d-a8e55a223b63");
/// Most bytes of the name of a party, or of another key.
const MAX_PARTY: usize = 1024;
/// What a party costs beyond its name, roughly: its entry.
const PARTY_OVERHEAD: usize = 64;

/// How much one node holds for each of the two services, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct SyncQuota {
    /// Most meeting points.
    pub max_points: usize,
    /// Most parties that have arrived at, or departed from, one barrier.
    pub max_parties: usize,
    /// Most bytes of one message.
    pub max_message: usize,
    /// Most bytes of all messages, or of all parties' names, together.
    pub max_bytes: usize,
    /// Most meeting points that one caller has made.
    pub max_points_each: usize,
    /// Most bytes of one caller's messages, or of the names of the parties for which one caller arrived, together.
    pub max_bytes_each: usize,
    /// Time to live of a point, from its last `create` (or `send`).
    pub ttl: Duration,
}

impl Default for SyncQuota {
    /// 10 000 points, 10 000 parties a barrier, messages of 1 MiB, 256 MiB together, half of all that for each caller at most; one week.
    fn default() -> SyncQuota {
        SyncQuota {
            max_points: 10_000,
            max_parties: 10_000,
            max_message: 1 << 20,
            max_bytes: 256 << 20,
            max_points_each: 5_000,
            max_bytes_each: 128 << 20,
            ttl: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// Barrier: parties arrive and depart, and everybody can see how many have.
pub struct Barrier {
    points: Points<Parties>,
}

/// Each party with the caller that spoke for it.
#[derive(Default)]
struct Parties {
    arrived: HashMap<String, Principal>,
    departed: HashMap<String, Principal>,
}

impl Barrier {
    /// The functions of the service, in the order in which it lists them.
    pub const PUBLIC: [&str; 9] = [
        "create",
        "arrive",
        "arrived",
        "depart",
        "departed",
        "reset",
        "delete",
        "wait",
        "wait_departed",
    ];
    const SERVICE: &str = "Barrier";

    /// A service without any point.
    pub fn new(quota: SyncQuota, clock: Clock) -> Barrier {
        Barrier {
            points: Points::new(quota, clock),
        }
    }

    /// How the service is found.
    pub fn identifiers() -> Identifiers {
        identifiers(Barrier::SERVICE)
    }

    /// Calls a function. Meeting points belong to nobody: every caller that the node admits may use them.
    ///
    /// # Errors
    /// 403 for a function that is not public, 422 for parameters, 404 for an unknown point, 429 for the quota.
    pub fn call(
        &self,
        who: &Principal,
        function: &str,
        mut params: Parameters,
        callback: Option<&Callback>,
    ) -> Result<Reply, Problem> {
        if !Barrier::PUBLIC.contains(&function) {
            return Err(not_public(Barrier::SERVICE, function, &Barrier::PUBLIC));
        }
        if function == "create" {
            let uuid = point_of(Barrier::SERVICE, params)?;
            self.points.create(who, uuid)?;
            return Ok(Reply::Object(uuid.to_string().into()));
        }
        let uuid = named(Barrier::SERVICE, function, callback)?;
        let party = match function {
            "arrive" | "depart" => Some(scalar(&params.required("party")?)?),
            _ => None,
        };
        params.finish()?;
        let unknown = || object_unknown(Barrier::SERVICE);
        let uuid = uuid.ok_or_else(unknown)?;
        let mut held = self.points.lock();
        if function == "delete" {
            let deleted = held.delete(uuid, self.points.clock.now()).ok_or_else(unknown);
            drop(held);
            self.points.touch();
            return deleted;
        }
        let Held { points, ledger } = &mut *held;
        let now = self.points.clock.now();
        let point = points.get_mut(&uuid).filter(|point| point.expires_at > now);
        let parties = &mut point.ok_or_else(unknown)?.content;
        let reply = match (function, party) {
            ("arrive", Some(party)) => self.add(&mut parties.arrived, who, party, ledger)?,
            ("depart", Some(party)) => self.add(&mut parties.departed, who, party, ledger)?,
            ("arrived", _) => Reply::Value(parties.arrived.len().to_string()),
            ("departed", _) => Reply::Value(parties.departed.len().to_string()),
            // Those who have departed stay departed.
            ("reset", _) => {
                for (party, payer) in parties.arrived.drain() {
                    ledger.release(&payer, cost(&party));
                }
                Reply::Nothing
            }
            // What waits is called in another way.
            _ => return Err(not_public(Barrier::SERVICE, function, &Barrier::PUBLIC)),
        };
        drop(held);
        if matches!(reply, Reply::Nothing) {
            self.points.touch();
        }
        Ok(reply)
    }

    /// Forgets the points that have expired by `now` (seconds since 1970) and tells how many those were.
    pub fn sweep(&self, now: u64) -> usize {
        self.points.lock().sweep(now)
    }

    /// How many points are held.
    pub fn len(&self) -> usize {
        self.points.lock().points.len()
    }

    /// Whether no point is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(
        &self,
        parties: &mut HashMap<String, Principal>,
        who: &Principal,
        party: String,
        ledger: &mut Ledger,
    ) -> Result<Reply, Problem> {
        if parties.contains_key(&party) {
            return Ok(Reply::Nothing);
        }
        if parties.len() >= self.points.quota.max_parties {
            return Err(quota(format!(
                "a barrier holds at most {} parties",
                self.points.quota.max_parties
            )));
        }
        ledger.charge(who, cost(&party), &self.points.quota, "the parties of all barriers")?;
        parties.insert(party, who.clone());
        Ok(Reply::Nothing)
    }
}

/// Broadcast: one party leaves a message, the others read it.
pub struct Broadcast {
    points: Points<Option<Message>>,
}

/// What was sent, and by whom.
struct Message {
    text: String,
    sender: Principal,
}

impl Broadcast {
    /// The functions of the service, in the order in which it lists them.
    pub const PUBLIC: [&str; 5] = ["create", "send", "receive", "delete", "wait"];
    const SERVICE: &str = "Broadcast";

    /// A service without any point.
    pub fn new(quota: SyncQuota, clock: Clock) -> Broadcast {
        Broadcast {
            points: Points::new(quota, clock),
        }
    }

    /// How the service is found.
    pub fn identifiers() -> Identifiers {
        identifiers(Broadcast::SERVICE)
    }

    /// Calls a function. Meeting points belong to nobody: every caller that the node admits may use them.
    ///
    /// # Errors
    /// 403 for a function that is not public, 413 for a large message, 422 for parameters, 404 for an unknown point, 429 for the
    /// quota.
    pub fn call(
        &self,
        who: &Principal,
        function: &str,
        mut params: Parameters,
        callback: Option<&Callback>,
    ) -> Result<Reply, Problem> {
        if !Broadcast::PUBLIC.contains(&function) {
            return Err(not_public(Broadcast::SERVICE, function, &Broadcast::PUBLIC));
        }
        if function == "create" {
            let uuid = point_of(Broadcast::SERVICE, params)?;
            self.points.create(who, uuid)?;
            return Ok(Reply::Object(uuid.to_string().into()));
        }
        let uuid = named(Broadcast::SERVICE, function, callback)?;
        let message = if function == "send" {
            Some(params.required("message")?)
        } else {
            None
        };
        params.finish()?;
        let unknown = || object_unknown(Broadcast::SERVICE);
        let uuid = uuid.ok_or_else(unknown)?;
        match (function, message) {
            ("send", Some(message)) => self.send(who, uuid, message),
            ("delete", _) => {
                let now = self.points.clock.now();
                let deleted = self.points.lock().delete(uuid, now).ok_or_else(unknown);
                self.points.touch();
                deleted
            }
            ("receive", _) => Ok(self.receive(uuid)),
            // What waits is called in another way.
            _ => Err(not_public(Broadcast::SERVICE, function, &Broadcast::PUBLIC)),
        }
    }

    /// Forgets the points that have expired by `now` (seconds since 1970) and tells how many those were.
    pub fn sweep(&self, now: u64) -> usize {
        self.points.lock().sweep(now)
    }

    /// How many points are held.
    pub fn len(&self) -> usize {
        self.points.lock().points.len()
    }

    /// Whether no point is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn send(&self, who: &Principal, uuid: Uuid, message: Raw) -> Result<Reply, Problem> {
        let limits = self.points.quota;
        let message = std::mem::take(&mut *message.into_text());
        if message.len() > limits.max_message {
            return Err(Problem::too_large(
                "BODY_TOO_LARGE",
                format!(
                    "a message has at most {} bytes, this one {}",
                    limits.max_message,
                    message.len()
                ),
                "put the data into KeyValueStorage and compute on it there",
            ));
        }
        let now = self.points.clock.now();
        let mut held = self.points.lock();
        let Held { points, ledger } = &mut *held;
        let point = points.get_mut(&uuid).filter(|point| point.expires_at > now);
        let point = point.ok_or_else(|| object_unknown(Broadcast::SERVICE))?;
        // The new message takes the place of the old one, whoever sent that.
        let before = point.content.take();
        if let Some(before) = &before {
            ledger.release(&before.sender, before.text.len());
        }
        if let Err(problem) = ledger.charge(who, message.len(), &limits, "the messages of all points") {
            if let Some(before) = before {
                ledger.add(&before.sender, before.text.len());
                point.content = Some(before);
            }
            return Err(problem);
        }
        point.content = Some(Message {
            text: message,
            sender: who.clone(),
        });
        point.expires_at = now.saturating_add(limits.ttl.as_secs());
        drop(held);
        self.points.touch();
        Ok(Reply::Nothing)
    }

    /// Before the first message, and after the end of the point, there is nothing to say; that is no error.
    fn receive(&self, uuid: Uuid) -> Reply {
        let now = self.points.clock.now();
        let message = self
            .points
            .lock()
            .get(uuid, now)
            .and_then(|point| point.content.as_ref().map(|message| message.text.clone()));
        message
            .filter(|text| text != "null")
            .map_or(Reply::Nothing, Reply::Value)
    }
}

/// The meeting points of one service.
struct Points<T> {
    quota: SyncQuota,
    clock: Clock,
    held: Mutex<Held<T>>,
    /// Counts changes, so that nobody who waits for one has to ask again and again.
    changes: watch::Sender<u64>,
}

struct Held<T> {
    points: HashMap<Uuid, Point<T>>,
    ledger: Ledger,
}

struct Point<T> {
    content: T,
    maker: Principal,
    expires_at: u64,
}

/// Who takes how much room.
#[derive(Default)]
struct Ledger {
    /// Sum over all callers.
    bytes: usize,
    shares: HashMap<Principal, Share>,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Share {
    points: usize,
    bytes: usize,
}

/// What lies at a point, and who has brought how many bytes of it.
trait Charged: Default {
    fn charges(&self) -> Vec<(&Principal, usize)>;
}

impl Charged for Parties {
    fn charges(&self) -> Vec<(&Principal, usize)> {
        let all = self.arrived.iter().chain(&self.departed);
        all.map(|(party, payer)| (payer, cost(party))).collect()
    }
}

impl Charged for Option<Message> {
    fn charges(&self) -> Vec<(&Principal, usize)> {
        self.iter()
            .map(|message| (&message.sender, message.text.len()))
            .collect()
    }
}

impl Ledger {
    /// Notes bytes if there is room for them.
    fn charge(&mut self, who: &Principal, bytes: usize, limits: &SyncQuota, what: &str) -> Result<(), Problem> {
        if self.share(who).bytes.saturating_add(bytes) > limits.max_bytes_each {
            return Err(quota(format!("of {what} together, yours need too much memory"))
                .exceeds("point_bytes_per_principal", limits.max_bytes_each));
        }
        if self.bytes.saturating_add(bytes) > limits.max_bytes {
            return Err(quota(format!("{what} together need too much memory")));
        }
        self.add(who, bytes);
        Ok(())
    }

    fn add(&mut self, who: &Principal, bytes: usize) {
        self.bytes += bytes;
        self.shares.entry(who.clone()).or_default().bytes += bytes;
    }

    fn release(&mut self, who: &Principal, bytes: usize) {
        self.bytes -= bytes;
        self.change(who, |share| share.bytes -= bytes);
    }

    fn share(&self, who: &Principal) -> Share {
        self.shares.get(who).copied().unwrap_or_default()
    }

    /// A share of nothing is not kept.
    fn change(&mut self, who: &Principal, change: impl FnOnce(&mut Share)) {
        let share = self.shares.entry(who.clone()).or_default();
        change(share);
        if *share == Share::default() {
            self.shares.remove(who);
        }
    }
}

impl<T: Charged> Points<T> {
    fn new(quota: SyncQuota, clock: Clock) -> Points<T> {
        Points {
            quota,
            clock,
            held: Mutex::new(Held {
                points: HashMap::new(),
                ledger: Ledger::default(),
            }),
            changes: watch::Sender::new(0),
        }
    }

    fn touch(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Makes the point, or prolongs the one that is there without changing it.
    fn create(&self, who: &Principal, uuid: Uuid) -> Result<(), Problem> {
        let now = self.clock.now();
        let expires_at = now.saturating_add(self.quota.ttl.as_secs());
        let mut held = self.lock();
        if let Some(point) = held.get(uuid, now) {
            point.expires_at = expires_at;
            return Ok(());
        }
        // An expired point of this name is made anew; its bytes count no longer.
        held.remove(uuid);
        let share_full = |held: &Held<T>| held.ledger.share(who).points >= self.quota.max_points_each;
        if held.points.len() >= self.quota.max_points || share_full(&held) {
            held.sweep(now);
        }
        if share_full(&held) {
            return Err(quota(format!(
                "this node holds at most {} meeting points of one caller",
                self.quota.max_points_each
            ))
            .exceeds("points_per_principal", self.quota.max_points_each));
        }
        if held.points.len() >= self.quota.max_points {
            return Err(quota(format!(
                "this node holds at most {} meeting points",
                self.quota.max_points
            )));
        }
        held.points.insert(
            uuid,
            Point {
                content: T::default(),
                maker: who.clone(),
                expires_at,
            },
        );
        held.ledger.change(who, |share| share.points += 1);
        Ok(())
    }

    /// No code between lock and unlock leaves the points half changed, so a poisoned lock can be used.
    fn lock(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Charged> Held<T> {
    fn get(&mut self, uuid: Uuid, now: u64) -> Option<&mut Point<T>> {
        self.points.get_mut(&uuid).filter(|point| point.expires_at > now)
    }

    /// Removes a point that is still alive; `None` when there is none.
    fn delete(&mut self, uuid: Uuid, now: u64) -> Option<Reply> {
        self.get(uuid, now)?;
        self.remove(uuid);
        Some(Reply::Nothing)
    }

    fn remove(&mut self, uuid: Uuid) {
        if let Some(point) = self.points.remove(&uuid) {
            self.settle(&point);
        }
    }

    /// A point that is no longer there counts no longer.
    fn settle(&mut self, point: &Point<T>) {
        for (payer, bytes) in point.content.charges() {
            self.ledger.release(payer, bytes);
        }
        self.ledger.change(&point.maker, |share| share.points -= 1);
    }

    fn sweep(&mut self, now: u64) -> usize {
        let over: Vec<Point<T>> = self
            .points
            .extract_if(|_, point| point.expires_at <= now)
            .map(|(_, point)| point)
            .collect();
        for point in &over {
            self.settle(point);
        }
        over.len()
    }
}

fn identifiers(service: &'static str) -> Identifiers {
    Identifiers(vec![
        ("namespace", "fdrtd"),
        ("plugin", "Sync"),
        ("version", "0.2.0"),
        ("microservice", service),
    ])
}

/// The name of the point that the parameter `tokens` determines: a list of strings, or null for none.
fn point_of(service: &str, mut params: Parameters) -> Result<Uuid, Problem> {
    let tokens = params.required("tokens")?;
    params.finish()?;
    let tokens = if tokens.kind() == Kind::Null {
        Vec::new()
    } else {
        tokens.strings()?
    };
    Ok(point_at(service, &tokens))
}

fn point_at(service: &str, tokens: &[String]) -> Uuid {
    let start = Uuid::new_v5(&BASE, service.as_bytes());
    tokens
        .iter()
        .fold(start, |uuid, token| Uuid::new_v5(&uuid, token.as_bytes()))
}

/// The point that a callback names; `None` when its text is no uuid and so names nothing.
fn named(service: &str, function: &str, callback: Option<&Callback>) -> Result<Option<Uuid>, Problem> {
    match callback {
        None | Some(Value::Null) => Err(callback_missing(service, function)),
        Some(Value::String(text)) => Ok(Uuid::try_parse(text).ok()),
        Some(_) => Err(Problem::input(
            "CALLBACK_INVALID",
            format!("the callback of {service} is a string"),
            "send the callback as create returned it",
        )),
    }
}

/// A simple value as one text for each: a string in its plainest form (so that escapes make no difference), all else as it came.
pub(super) fn scalar(raw: &Raw) -> Result<String, Problem> {
    let text = match raw.kind() {
        Kind::Array | Kind::Object => return Err(raw.wrong_type("a string or a number")),
        Kind::String => Value::from(raw.string()?).to_string(),
        Kind::Null | Kind::Boolean | Kind::Number => raw.text().to_owned(),
    };
    if text.len() > MAX_PARTY {
        return Err(Problem::input(
            "VALUE_OUT_OF_RANGE",
            format!(
                "the parameter \"{}\" has at most {MAX_PARTY} bytes, this one {}",
                raw.name(),
                text.len()
            ),
            "choose a shorter name",
        ));
    }
    Ok(text)
}

fn cost(party: &str) -> usize {
    party.len() + PARTY_OVERHEAD
}

fn quota(message: String) -> Problem {
    Problem::too_many("QUOTA", message, "delete what is no longer needed, or try again later")
}

#[cfg(test)]
mod tests;
