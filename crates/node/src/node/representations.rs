//! What callers of representations (generation 0.6) can reach: a closed list of objects and of the functions that each of them has.
//!
//! An object has one uuid. That of a function of an object is the object's, combined with a constant of this node for the function's name: so it is the
//! same each time, and nothing has to be kept for it.

use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Node, Service, service_handle};
use crate::json::{Parameters, REPRESENTATIONS};
use crate::problem::{Problem, quoted};
use crate::services::kv::ValueText;
use crate::services::simon::{Holding, stopping};
use crate::services::sync::{Barrier, Broadcast, Patience};
use crate::services::{Callback, Identifiers, Principal, Reply, not_public, object_unknown};

/// A function of an object, with its parameters in their order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    parameters: &'static [&'static str],
}

const fn function(name: &'static str, parameters: &'static [&'static str]) -> Function {
    Function { name, parameters }
}

/// The kinds of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Service(Service),
    Storage,
    Point,
    Task,
    Value,
}

/// Something that has a uuid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Service(Service),
    /// A storage of `KeyValueStorage`.
    Storage(Uuid),
    /// A meeting point of `Barrier`.
    Point(Uuid),
    Task(Uuid),
    /// An uploaded value.
    Value(Uuid),
    /// A value that a function has returned.
    Returned(Uuid),
}

/// What a uuid stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Representation {
    Thing(Thing),
    Method(Thing, &'static Function),
}

const SIMON: &[Function] = &[
    function(
        "compute",
        &[
            "microprotocol",
            "data",
            "network",
            "parameters",
            "durations",
            "policy",
            "timeout",
        ],
    ),
    function(
        "create_task",
        &["microprotocol", "network", "parameters", "durations", "policy"],
    ),
    function("join_task", &["invitation", "network", "policy"]),
    function("get_task", &["task_id"]),
    function(
        "create",
        &["microprotocol", "network", "parameters", "durations", "policy"],
    ),
    function("join", &["invitation", "network", "policy"]),
    function("invitations", &["microprotocol", "network", "parameters", "timeout"]),
];
const TASK: &[Function] = &[
    function("invite", &[]),
    function("input", &["data", "source"]),
    function("start", &[]),
    function("result", &["timeout"]),
    function("progress", &[]),
    function("receipt", &[]),
    function("cancel", &[]),
    function("delete", &[]),
];
const BARRIER: &[Function] = &[function("create", &["uuid"]), function("delete", &["uuid"])];
const POINT: &[Function] = &[
    function("arrive", &["party"]),
    function("arrived", &[]),
    function("depart", &["party"]),
    function("departed", &[]),
    function("reset", &[]),
    function("wait", &["count", "timeout"]),
    function("wait_departed", &["count", "timeout"]),
];
const BROADCAST: &[Function] = &[
    function("create", &["uuid"]),
    function("send", &["uuid", "message"]),
    function("receive", &["uuid"]),
    function("wait", &["uuid", "timeout"]),
    function("delete", &["uuid"]),
];
const KEY_VALUE_STORAGE: &[Function] = &[function("create", &["storage"])];
const STORAGE: &[Function] = &[
    function("store", &["key", "value"]),
    function("retrieve", &["key"]),
    function("exists", &["key"]),
    function("delete", &["key"]),
];

const KINDS: [Kind; 8] = [
    Kind::Service(Service::Simon),
    Kind::Service(Service::Barrier),
    Kind::Service(Service::Broadcast),
    Kind::Service(Service::KeyValueStorage),
    Kind::Storage,
    Kind::Point,
    Kind::Task,
    Kind::Value,
];

impl Kind {
    fn functions(self) -> &'static [Function] {
        match self {
            Kind::Service(Service::Simon) => SIMON,
            Kind::Service(Service::Barrier) => BARRIER,
            Kind::Service(Service::Broadcast) => BROADCAST,
            Kind::Service(Service::KeyValueStorage) => KEY_VALUE_STORAGE,
            Kind::Storage => STORAGE,
            Kind::Point => POINT,
            Kind::Task => TASK,
            Kind::Value => &[],
        }
    }

    /// For people.
    fn name(self) -> &'static str {
        match self {
            Kind::Service(Service::Simon) => "Simon",
            Kind::Service(Service::Barrier) => "Barrier",
            Kind::Service(Service::Broadcast) => "Broadcast",
            Kind::Service(Service::KeyValueStorage) => "KeyValueStorage",
            Kind::Storage => "a storage",
            Kind::Point => "a barrier",
            Kind::Task => "a task",
            Kind::Value => "a value",
        }
    }
}

impl Thing {
    fn kind(self) -> Kind {
        match self {
            Thing::Service(service) => Kind::Service(service),
            Thing::Storage(_) => Kind::Storage,
            Thing::Point(_) => Kind::Point,
            Thing::Task(_) => Kind::Task,
            Thing::Value(_) | Thing::Returned(_) => Kind::Value,
        }
    }
}

/// The services in the order of the catalogue: the first match is selected.
const SERVICES: [Service; 4] = [
    Service::Simon,
    Service::Barrier,
    Service::Broadcast,
    Service::KeyValueStorage,
];

fn identifiers(service: Service) -> Identifiers {
    let (name, plugin) = match service {
        Service::Simon => {
            return Identifiers(vec![
                ("namespace", "federatedsecure"),
                ("protocol", "Simon"),
                ("version", "0.6.0"),
            ]);
        }
        Service::Barrier => ("Barrier", "Sync"),
        Service::Broadcast => ("Broadcast", "Sync"),
        Service::KeyValueStorage => ("KeyValueStorage", "Util"),
    };
    Identifiers(vec![
        ("microservice", name),
        ("namespace", "federatedsecure"),
        ("plugin", plugin),
        ("version", "0.6.0"),
    ])
}

/// The uuids that follow from this node's secret.
pub(super) struct Names {
    services: Vec<(Uuid, Service)>,
    /// What the uuid of a function differs in from that of its object, by the function's name.
    functions: Vec<(&'static str, u128)>,
}

impl Names {
    pub(super) fn new(secret: &[u8; 32]) -> Names {
        let services = SERVICES.map(|service| (service_handle(secret, &identifiers(service)), service));
        let mut functions: Vec<(&'static str, u128)> = Vec::new();
        for name in KINDS
            .iter()
            .flat_map(|kind| kind.functions())
            .map(|function| function.name)
        {
            if functions.iter().all(|(known, _)| *known != name) {
                functions.push((name, difference(secret, name)));
            }
        }
        Names {
            services: services.to_vec(),
            functions,
        }
    }
}

/// Where a uuid says of which version it is there is no difference.
fn difference(secret: &[u8; 32], name: &str) -> u128 {
    const SAME: u128 = 0xf000 << 64 | 0xc000 << 48;
    let key = Zeroizing::new(blake3::derive_key(
        "fdrtd 2026-11 functions of objects, version 1",
        secret,
    ));
    let hash = blake3::keyed_hash(&key, name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(bytes) & !SAME
}

impl Node {
    /// The list of services, JSON text.
    pub(crate) fn representations(&self) -> String {
        Value::from(SERVICES.map(|service| identifiers(service).to_json()).to_vec()).to_string()
    }

    /// The uuid of the first service with all the wanted identifiers.
    pub(crate) fn select_representation(&self, wanted: &Map<String, Value>) -> Option<Uuid> {
        let found = SERVICES
            .into_iter()
            .find(|service| identifiers(*service).matches(wanted))?;
        let named = self.names.services.iter().find(|(_, service)| *service == found);
        named.map(|(uuid, _)| *uuid)
    }

    /// What the caller means by a uuid.
    ///
    /// # Errors
    /// 404 for what does not exist, or is another's.
    pub(crate) fn representation(&self, who: &Principal, text: &str) -> Result<Representation, Problem> {
        let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
        let uuid = uuid.ok_or_else(unknown)?;
        if let Some(thing) = self.thing(who, uuid) {
            return Ok(Representation::Thing(thing));
        }
        let method = self.names.functions.iter().find_map(|(name, difference)| {
            let thing = self.thing(who, Uuid::from_u128(uuid.as_u128() ^ difference))?;
            let function = thing
                .kind()
                .functions()
                .iter()
                .find(|function| function.name == *name)?;
            Some(Representation::Method(thing, function))
        });
        method.ok_or_else(unknown)
    }

    /// The uuid of a function of an object.
    ///
    /// # Errors
    /// 404 for an unknown object, 403 for anything that is not on its list.
    pub(crate) fn attribute(&self, who: &Principal, object: &str, name: &str) -> Result<Uuid, Problem> {
        let thing = match self.representation(who, object)? {
            Representation::Thing(thing) => thing,
            Representation::Method(..) => return Err(attribute_not_public("a function", name, &[])),
        };
        let kind = thing.kind();
        let found = self.names.functions.iter().find(|(known, _)| *known == name);
        let public = kind.functions().iter().any(|function| function.name == name);
        match found.filter(|_| public) {
            Some((_, difference)) => Ok(Uuid::from_u128(self.uuid_of(thing).as_u128() ^ difference)),
            None => {
                let names: Vec<&str> = kind.functions().iter().map(|function| function.name).collect();
                Err(attribute_not_public(kind.name(), name, &names))
            }
        }
    }

    /// Keeps a value that the caller uploads.
    ///
    /// # Errors
    /// 429 for the quota, 503 when the store fails.
    pub(crate) async fn upload(
        &self,
        who: &Principal,
        text: Zeroizing<String>,
        one_way: bool,
    ) -> Result<Uuid, Problem> {
        self.kv.upload(who, text, one_way).await
    }

    /// Keeps what a function has returned, for the caller to fetch.
    pub(crate) fn keep_returned(&self, who: &Principal, text: ValueText) -> Uuid {
        self.returned.keep(who, text)
    }

    /// The value that an object is.
    ///
    /// # Errors
    /// 404 for an unknown one, 422 for what is no value, 403 for one that was stored one way.
    pub(crate) fn download(&self, who: &Principal, uuid: &str) -> Result<ValueText, Problem> {
        match self.representation(who, uuid)? {
            Representation::Thing(thing) => self
                .text_of(who, thing, false)?
                .ok_or_else(|| not_a_value(thing.kind())),
            Representation::Method(thing, function) => {
                let message = format!(
                    "this is the function {} of {}, not a value",
                    function.name,
                    thing.kind().name()
                );
                Err(Problem::input(
                    "NOT_A_VALUE",
                    message,
                    "call it; what it returns can be downloaded",
                ))
            }
        }
    }

    /// Calls the function with that uuid. `kwargs` and `args` are the texts of a JSON object and of a list, if they are given.
    ///
    /// # Errors
    /// 404 for an unknown object, 422 for what is no function and for unusable parameters, and those of the function.
    pub(crate) async fn call_method(
        &self,
        who: &Principal,
        uuid: &str,
        args: Option<&str>,
        kwargs: &str,
    ) -> Result<Called, Problem> {
        let (thing, function) = match self.representation(who, uuid)? {
            Representation::Method(thing, function) => (thing, function),
            Representation::Thing(thing) => {
                let message = format!("this is {}, which cannot be called", described(thing));
                let hint = "ask for one of its functions first: GET {base}/representation/{uuid}/{function}";
                return Err(Problem::input("NOT_A_FUNCTION", message, hint));
            }
        };
        let mut parameters = Parameters::parse(function.name, kwargs)?;
        let service = match thing {
            Thing::Service(service) => Some(service),
            Thing::Task(_) => Some(Service::Simon),
            _ => None,
        };
        parameters.resolve(
            &REPRESENTATIONS,
            &self.config.limits.json(),
            |parameter, uuid: &String| {
                let as_input = service.is_some_and(|service| service.takes_input(function.name, parameter));
                let found = match self.representation(who, uuid)? {
                    Representation::Thing(thing) => self.text_of(who, thing, as_input)?,
                    Representation::Method(..) => None,
                };
                found.ok_or_else(|| {
                    Problem::input(
                        "REFERENCE_INVALID",
                        "this representation does not stand for a value",
                        "hand over what upload returned, or the value itself",
                    )
                })
            },
        )?;
        if let Some(args) = args {
            parameters.add_positional(function.parameters, args)?;
        }
        self.call_function(who, thing, function.name, parameters).await
    }

    /// Lets go of an object. What belongs to it alone goes with it; a task that is not over ends for all.
    ///
    /// # Errors
    /// 404 for an unknown one, 503 when the store fails.
    pub(crate) async fn release(&self, who: &Principal, uuid: &str) -> Result<(), Problem> {
        match self.representation(who, uuid)? {
            // Nothing is kept for a function; services and meeting points are there for everybody.
            Representation::Method(..) | Representation::Thing(Thing::Service(_) | Thing::Point(_)) => Ok(()),
            Representation::Thing(Thing::Storage(uuid) | Thing::Value(uuid)) => self.kv.release(who, uuid).await,
            Representation::Thing(Thing::Returned(uuid)) => {
                self.returned.release(who, uuid).then_some(()).ok_or_else(unknown)
            }
            Representation::Thing(Thing::Task(object)) => {
                let tasks = self.simon.tasks();
                let task = tasks.of_object(who, &object).ok_or_else(unknown)?;
                Ok(tasks.delete(&task, who).await?)
            }
        }
    }

    fn thing(&self, who: &Principal, uuid: Uuid) -> Option<Thing> {
        if let Some((_, service)) = self.names.services.iter().find(|(known, _)| *known == uuid) {
            return Some(Thing::Service(*service));
        }
        if self.simon.tasks().of_object(who, &uuid).is_some() {
            return Some(Thing::Task(uuid));
        }
        if let Some(value) = self.kv.is_value(who, uuid) {
            return Some(if value {
                Thing::Value(uuid)
            } else {
                Thing::Storage(uuid)
            });
        }
        if self.returned.text(who, uuid).is_some() {
            return Some(Thing::Returned(uuid));
        }
        self.barrier.has(uuid).then_some(Thing::Point(uuid))
    }

    fn uuid_of(&self, thing: Thing) -> Uuid {
        match thing {
            Thing::Service(service) => {
                let named = self.names.services.iter().find(|(_, known)| *known == service);
                named.map(|(uuid, _)| *uuid).unwrap_or_default()
            }
            Thing::Storage(uuid) | Thing::Point(uuid) | Thing::Task(uuid) => uuid,
            Thing::Value(uuid) | Thing::Returned(uuid) => uuid,
        }
    }

    fn text_of(&self, who: &Principal, thing: Thing, as_input: bool) -> Result<Option<ValueText>, Problem> {
        match thing {
            Thing::Value(uuid) => self.kv.text_of(who, uuid, as_input).map(Some),
            Thing::Returned(uuid) => Ok(self.returned.text(who, uuid)),
            _ => Ok(None),
        }
    }

    async fn call_function(
        &self,
        who: &Principal,
        thing: Thing,
        function: &str,
        mut parameters: Parameters,
    ) -> Result<Called, Problem> {
        let patience = Patience::LONG;
        let stopping = || self.simon.tasks().context().stopping.subscribe();
        let reply = match (thing, function) {
            (Thing::Service(Service::KeyValueStorage), _) => {
                return self.kv.open_storage(who, parameters).await.map(Called::Object);
            }
            (Thing::Storage(uuid), _) => self.kv.call_storage(who, uuid, function, parameters).await?,
            (Thing::Service(Service::Barrier), "create") => {
                return self.barrier.create_by_uuid(who, parameters).map(Called::Object);
            }
            (Thing::Service(Service::Barrier), _) => {
                let point = name(Barrier::named_by(&mut parameters)?);
                self.barrier.call(who, function, parameters, Some(&point))?
            }
            (Thing::Point(uuid), "wait" | "wait_departed") => {
                let point = name(uuid);
                self.barrier
                    .wait(function, parameters, Some(&point), &patience, stopping())
                    .await?
            }
            (Thing::Point(uuid), _) => self.barrier.call(who, function, parameters, Some(&name(uuid)))?,
            (Thing::Service(Service::Broadcast), "create") => {
                self.broadcast.create_by_uuid(who, parameters)?;
                Reply::Nothing
            }
            (Thing::Service(Service::Broadcast), _) => {
                let point = name(Broadcast::named_by(&mut parameters)?);
                if function == "wait" {
                    self.broadcast
                        .wait(parameters, Some(&point), &patience, stopping())
                        .await?
                } else {
                    self.broadcast.call(who, function, parameters, Some(&point))?
                }
            }
            (Thing::Service(Service::Simon), _) => {
                self.simon.call(who, function, parameters, None, &Holding::LONG).await?
            }
            (Thing::Task(object), _) => self.call_task(who, object, function, parameters).await?,
            (Thing::Value(_) | Thing::Returned(_), _) => return Err(not_public("a value", function, &[])),
        };
        self.called(reply)
    }

    async fn call_task(
        &self,
        who: &Principal,
        object: Uuid,
        function: &str,
        parameters: Parameters,
    ) -> Result<Reply, Problem> {
        if function == "result"
            && let Some(task) = self.simon.tasks().of_object(who, &object)
            && task.is_gathering()
        {
            // It would hold until somebody else starts it; whoever asks is the one to do that.
            return Err(Problem::state(
                "NOT_STARTED",
                "the task gathers inputs and has not been started",
                "call start() when all inputs are given, then result()",
            ));
        }
        let callback = name(object);
        let reply = self
            .simon
            .call(who, function, parameters, Some(&callback), &Holding::LONG)
            .await?;
        Ok(match reply {
            Reply::Value(text) if function == "invite" => Reply::Value(with_task_id(text)),
            reply => reply,
        })
    }

    fn called(&self, reply: Reply) -> Result<Called, Problem> {
        Ok(match reply {
            Reply::Object(callback) => {
                let uuid = callback.as_str().and_then(|text| Uuid::try_parse(text).ok());
                Called::Object(uuid.ok_or_else(unknown)?)
            }
            Reply::Waiting(_) if *self.simon.tasks().context().stopping.borrow() => return Err(stopping()),
            reply => Called::Reply(reply),
        })
    }
}

/// What a function gives back to a caller of this face.
pub(crate) enum Called {
    /// An object that has a uuid already.
    Object(Uuid),
    /// A value, or nothing.
    Reply(Reply),
}

fn name(uuid: Uuid) -> Callback {
    Value::from(uuid.to_string())
}

/// Clients of this generation look for the task's id under this name.
fn with_task_id(invitation: String) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str(&invitation) else {
        return invitation;
    };
    if let Some(task) = object.get("task").cloned() {
        object.insert("task_id".to_owned(), task);
    }
    Value::Object(object).to_string()
}

fn described(thing: Thing) -> String {
    match thing.kind() {
        Kind::Service(_) => format!("the service {}", thing.kind().name()),
        kind => kind.name().to_owned(),
    }
}

fn not_a_value(kind: Kind) -> Problem {
    let message = format!("this is {}, which cannot be downloaded: it is no value", kind.name());
    Problem::input(
        "NOT_A_VALUE",
        message,
        "uploaded values, and what functions return, can be downloaded",
    )
}

fn attribute_not_public(of: &str, name: &str, public: &[&str]) -> Problem {
    let hint = match public {
        [] => format!("{of} has no attributes"),
        public => format!("{of} offers: {}", public.join(", ")),
    };
    Problem::not_public(
        "FUNCTION_NOT_PUBLIC",
        format!("attribute not public: {}", quoted(name)),
        hint,
    )
}

fn unknown() -> Problem {
    object_unknown("this node")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{kv, simon::Simon};

    fn names(functions: &[Function]) -> Vec<&'static str> {
        let mut names: Vec<_> = functions.iter().map(|function| function.name).collect();
        names.sort_unstable();
        names
    }

    /// What a service has on one face is there on the other one: only the objects are cut differently.
    #[test]
    fn both_faces_have_the_same_functions() {
        let sorted = |public: &[&'static str]| {
            let mut public = public.to_vec();
            public.sort_unstable();
            public.dedup();
            public
        };
        let both = |one: &[Function], other: &[Function]| {
            let mut all = names(one);
            all.extend(names(other));
            sorted(&all)
        };
        assert_eq!(both(SIMON, TASK), sorted(Simon::PUBLIC));
        assert_eq!(both(BARRIER, POINT), sorted(&Barrier::PUBLIC));
        assert_eq!(names(BROADCAST), sorted(&Broadcast::PUBLIC));
        assert_eq!(both(KEY_VALUE_STORAGE, STORAGE), sorted(&kv::PUBLIC));
        assert_eq!(names(STORAGE), sorted(&kv::STORAGE));
    }

    #[test]
    fn functions_have_uuids_of_their_own_which_tell_nothing_of_the_object() {
        let names = Names::new(&[7; 32]);
        let object = Uuid::new_v4();
        let mut seen = vec![object];
        for (name, difference) in &names.functions {
            let uuid = Uuid::from_u128(object.as_u128() ^ difference);
            assert_eq!(
                (uuid.get_version_num(), uuid.get_variant()),
                (4, object.get_variant()),
                "{name}"
            );
            assert!(!seen.contains(&uuid), "{name}");
            seen.push(uuid);
        }
        assert_ne!(Names::new(&[8; 32]).functions, names.functions);
    }
}
