//! One node: its identity, peers, services and tasks. Several may live in one process; they share nothing but the listener.

pub(crate) mod representations;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::access::Access;
use crate::access::tokens::Tokens as AccessTokens;
use crate::acquaintances;
use crate::api::{Answers, Bodies, Readiness};
use crate::approvals::Approvals;
use crate::audit::Audit;
use crate::backup::STORAGE_KEY;
use crate::config::Config;
use crate::identity::Identity;
use crate::json::Parameters;
use crate::ledger::Ledger;
use crate::metrics::{Gauges, Metrics};
use crate::operator::{OperatorToken, TOKEN_FILE};
use crate::peer::{PeerConfig, Peers};
use crate::problem::Problem;
use crate::services::kv::{self, KeyValueStorage, KvQuota, ValueText};
use crate::services::returned::Returned;
use crate::services::simon::{Holding, Simon};
use crate::services::sync::{Barrier, Broadcast, Patience, SyncQuota};
use crate::services::{Callback, Clock, Identifiers, Principal, Reply, not_public};
use crate::store::{Options, Store, load_or_create_key, make_directory};
use crate::task::{Bases, Context, Memory};
use crate::tasks::Tasks;
use crate::url::NodeUrl;
use representations::Names;

/// Kind of the records of the node itself, and the name of the one that service handles are derived from.
const NODE: &str = "node";
const HANDLES: &str = "handles";

/// A service, on both faces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Stored values.
    KeyValueStorage,
    /// Meeting points.
    Barrier,
    /// Messages at meeting points.
    Broadcast,
    /// Tasks.
    Simon,
}

impl Service {
    /// In the order of the catalogue: the first match is selected.
    const ALL: [Service; 4] = [
        Service::KeyValueStorage,
        Service::Barrier,
        Service::Broadcast,
        Service::Simon,
    ];

    fn identifiers(self) -> Identifiers {
        match self {
            Service::KeyValueStorage => kv::identifiers(),
            Service::Barrier => Barrier::identifiers(),
            Service::Broadcast => Broadcast::identifiers(),
            Service::Simon => Simon::identifiers(),
        }
    }

    fn public(self) -> &'static [&'static str] {
        match self {
            Service::KeyValueStorage => &kv::PUBLIC,
            Service::Barrier => &Barrier::PUBLIC,
            Service::Broadcast => &Broadcast::PUBLIC,
            Service::Simon => Simon::PUBLIC,
        }
    }

    /// Whether this parameter becomes the input of a task. Any other might show a value to somebody, or keep a copy that can be retrieved.
    pub(crate) fn takes_input(self, function: &str, parameter: &str) -> bool {
        self == Service::Simon && matches!((function, parameter), ("input" | "compute", "data" | "source"))
    }
}

/// See the [module](self).
pub struct Node {
    /// Its configuration.
    pub config: Config,
    /// Its tasks.
    pub simon: Simon,
    identity: Arc<Identity>,
    handles: Vec<(String, Service)>,
    names: Names,
    returned: Returned,
    kv: KeyValueStorage,
    barrier: Barrier,
    broadcast: Broadcast,
    store: Store,
    /// Room for request bodies.
    pub(crate) bodies: Bodies,
    /// Room for large answers.
    pub(crate) answers: Answers,
    /// Whether it can work.
    pub(crate) readiness: Readiness,
    /// Room for tests of the way to other nodes.
    pub(crate) probes: Semaphore,
    /// Room for streams of events.
    pub(crate) streams: Arc<Semaphore>,
    /// Who is admitted.
    pub(crate) access: Access,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Why a node cannot start.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

impl Node {
    /// Opens identity and storage, and brings back what was there. Needs a tokio runtime.
    ///
    /// # Errors
    /// An unusable data directory.
    pub async fn start(config: Config) -> Result<Arc<Node>, StartError> {
        let (identity, store) = open(&config)?;
        let audit = Audit::new(store.clone());
        let access = open_access(&config, &store, &audit)?;
        let memory = acquaintances::load(&store)?;
        let tasks: Arc<std::sync::OnceLock<Tasks>> = Arc::default();
        let on_event = {
            let tasks = Arc::clone(&tasks);
            Box::new(move |event| {
                if let Some(tasks) = tasks.get() {
                    tasks.on_event(event);
                }
            })
        };
        let on_news = Box::new(acquaintances::keep(store.clone(), audit.clone()));
        let metrics = Metrics::default();
        store.measure(metrics.clone());
        let peer_config = PeerConfig {
            metrics: metrics.clone(),
            ..config.peer_config()?
        };
        let peers = Peers::new(Arc::clone(&identity), peer_config, memory, on_event, on_news);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let policy = config.owner_policy()?;
        let looser = policy.looser();
        if !looser.is_empty() {
            let rules: Vec<_> = looser.iter().map(|rule| rule.name()).collect();
            tracing::warn!(profile = %config.policy, rules = rules.join(", "), "this node's rules are looser than its profile");
        }
        let context = Arc::new(Context {
            identity: Arc::clone(&identity),
            peers,
            store: store.clone(),
            audit: audit.clone(),
            policy,
            organisations: config.organisations(),
            ledger: Ledger::open(&store)?,
            approvals: Approvals::open(&store)?,
            bases: Bases::default(),
            pool: Arc::new(Semaphore::new(cores)),
            metrics,
            clock: Clock::System,
            memory: Memory {
                task: config.limits.task_bytes,
                inbox: config.limits.peer_inbox_bytes,
                outbox: config.limits.peer_outbox_bytes,
            },
            time_to_live: config.time_to_live(),
            stopping: tokio::sync::watch::Sender::new(false),
            stop_at: config.stop_at,
            start: Instant::now(),
        });
        let all = Tasks::new(context, config.quota());
        let _ = tasks.set(all.clone());
        let quota = KvQuota {
            max_objects: config.limits.objects,
            max_bytes: config.limits.object_bytes,
            max_objects_each: config.limits.objects_per_principal,
            max_bytes_each: config.limits.object_bytes_per_principal,
            ttl: config.time_to_live(),
        };
        let kv = KeyValueStorage::new(store.clone(), quota)?;
        let restored = all.restore()?;
        if restored > 0 {
            tracing::info!(tasks = restored, "tasks of an earlier run go on");
        }
        let meeting = SyncQuota {
            max_points_each: config.limits.points_per_principal,
            max_bytes_each: config.limits.point_bytes_per_principal,
            ttl: config.time_to_live(),
            ..SyncQuota::default()
        };
        let secret = handle_secret(&store, &identity).await?;
        let handles = Service::ALL
            .map(|service| (service_handle(&secret, &service.identifiers()).to_string(), service))
            .to_vec();
        let node = Arc::new(Node {
            simon: Simon::new(all, config.public_url.clone()),
            handles,
            names: Names::new(&secret),
            returned: Returned::new(quota, Clock::System),
            kv,
            barrier: Barrier::new(meeting, Clock::System),
            broadcast: Broadcast::new(meeting, Clock::System),
            identity,
            store,
            bodies: Bodies::new(config.limits.bodies_bytes),
            answers: Arc::new(Semaphore::new(config.limits.bodies_bytes / 1024)),
            readiness: Readiness::default(),
            probes: Semaphore::new(config.limits.probes),
            streams: Arc::new(Semaphore::new(config.limits.streams)),
            config,
            access,
        });
        node.warn_of_strangers();
        let detail = json!({"version": env!("CARGO_PKG_VERSION"), "policy": node.config.policy, "tasks": restored});
        audit.noted(&Principal::node(), "node.start", None, &detail).await?;
        tokio::spawn(sweep(Arc::downgrade(&node)));
        Ok(node)
    }

    /// The other nodes.
    pub fn peers(&self) -> &Peers {
        &self.simon.tasks().context().peers
    }

    /// What was done here.
    pub fn audit(&self) -> &Audit {
        &self.simon.tasks().context().audit
    }

    /// This node's key for people.
    pub fn fingerprint(&self) -> String {
        self.identity.key().fingerprint()
    }

    /// What people know this node by: its fingerprint, and where it is. `host` is what the caller calls it.
    pub(crate) fn name(&self, host: Option<&str>) -> String {
        let asked = || NodeUrl::parse(&format!("http://{}{}", host?, self.config.base_path)).ok();
        // Of what a caller says only the place: a proxy may have ended TLS.
        let place = match (self.config.public_url.first(), asked()) {
            (Some(url), _) => url.to_string(),
            (None, Some(url)) => format!("{}{}", url.authority(), url.path()),
            (None, None) => return self.fingerprint(),
        };
        format!("{} at {place}", self.fingerprint())
    }

    /// Answers everybody who waits for a result, so that the node can end.
    pub fn leave(&self) {
        self.simon.tasks().context().stopping.send_replace(true);
    }

    /// Delivers what is queued, closes connections, and waits until everything is written.
    pub async fn stop(&self) {
        self.peers().drain(Duration::from_secs(2)).await;
        self.peers().shutdown();
        self.audit().note(&Principal::node(), "node.stop", None, &json!({}));
        if self.store.flush().await.is_err() {
            tracing::error!("the storage failed at the end");
        }
    }

    /// `GET {base}/identity`, JSON text.
    pub(crate) fn identity_document(&self) -> String {
        serde_json::to_string(&self.identity.document()).unwrap_or_default()
    }

    /// The list of services, JSON text.
    pub(crate) fn catalogue(&self) -> String {
        let entry =
            |service: Service| json!({"identifiers": service.identifiers().to_json(), "public": service.public()});
        Value::from(Service::ALL.map(entry).to_vec()).to_string()
    }

    /// The first service with all the wanted identifiers.
    pub(crate) fn select(&self, wanted: &Map<String, Value>) -> Option<Service> {
        Service::ALL
            .into_iter()
            .find(|service| service.identifiers().matches(wanted))
    }

    /// A service's handle: derived from a secret of this node, so that it survives a restart, and a new key as well.
    pub(crate) fn handle(&self, service: Service) -> &str {
        self.handles
            .iter()
            .find(|(_, known)| *known == service)
            .map_or("", |(handle, _)| handle)
    }

    /// The service with that handle.
    pub(crate) fn service(&self, handle: &str) -> Option<Service> {
        self.handles
            .iter()
            .find(|(known, _)| known == handle)
            .map(|(_, service)| *service)
    }

    /// Whether a service has a function of that name.
    pub(crate) fn is_public(&self, service: Service, function: &str) -> bool {
        service.public().contains(&function)
    }

    /// The value that an object stands for; `as_input` if it becomes the input of a task, see [`takes_input`](Service::takes_input).
    pub(crate) fn value_of(
        &self,
        service: Service,
        who: &Principal,
        callback: &Callback,
        as_input: bool,
    ) -> Result<ValueText, Problem> {
        match service {
            Service::KeyValueStorage => self.kv.value_text(who, callback, as_input),
            _ => Err(Problem::input(
                "REFERENCE_INVALID",
                "this handle does not stand for a value",
                "hand over what KeyValueStorage's create returned, or the value itself",
            )),
        }
    }

    /// Calls a function of a service.
    pub(crate) async fn call(
        &self,
        service: Service,
        who: &Principal,
        function: &str,
        parameters: Parameters,
        callback: Option<&Callback>,
    ) -> Result<Reply, Problem> {
        if !self.is_public(service, function) {
            let name = service
                .identifiers()
                .0
                .iter()
                .find(|(name, _)| *name == "microservice")
                .map_or("", |(_, name)| name);
            return Err(not_public(name, function, service.public()));
        }
        let stopping = || self.simon.tasks().context().stopping.subscribe();
        let patience = Patience::SHORT;
        match service {
            Service::Barrier if function.starts_with("wait") => {
                self.barrier
                    .wait(function, parameters, callback, &patience, stopping())
                    .await
            }
            Service::Broadcast if function == "wait" => {
                self.broadcast.wait(parameters, callback, &patience, stopping()).await
            }
            Service::KeyValueStorage => self.kv.call(who, function, parameters, callback).await,
            Service::Barrier => self.barrier.call(who, function, parameters, callback),
            Service::Broadcast => self.broadcast.call(who, function, parameters, callback),
            Service::Simon => {
                self.simon
                    .call(who, function, parameters, callback, &Holding::SHORT)
                    .await
            }
        }
    }

    /// Who listens on loopback behind a proxy may believe that nobody else comes in.
    fn warn_of_strangers(&self) {
        let beyond = self.config.public_url.iter().find(|url| !url.is_loopback());
        if self.config.listen.ip().is_loopback()
            && let Some(url) = beyond
            && self.access.admits_anonymous()
        {
            tracing::warn!(
                %url,
                "this node listens on its own machine only, but has a URL beyond it, and admits callers without credentials: whoever gets through \
                 the proxy there can use it; make tokens (fdrtd token create), or let the proxy ask"
            );
        }
    }

    /// Its counters.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.simon.tasks().context().metrics
    }

    /// `GET {base}/metrics`.
    pub(crate) fn metrics_text(&self) -> String {
        let objects = self.kv.len() + self.returned.len() + self.barrier.len() + self.broadcast.len();
        let streams = self.config.limits.streams - self.streams.available_permits();
        self.metrics().text(&Gauges {
            tasks: self.simon.tasks().by_state(),
            objects: objects as u64,
            streams: streams as u64,
            storage: self.storage_bytes(),
            peers: self.peers().counters(),
            traffic: self.peers().traffic(),
        })
    }

    /// Bytes of the database and its log.
    fn storage_bytes(&self) -> Option<u64> {
        if self.config.ephemeral {
            return None;
        }
        let files = ["node.db", "node.db-wal"];
        let lengths = files.map(|name| {
            std::fs::metadata(self.config.data_dir.join(name))
                .ok()
                .map(|file| file.len())
        });
        Some(lengths.into_iter().flatten().sum())
    }
}

fn open(config: &Config) -> Result<(Arc<Identity>, Store), StartError> {
    if config.ephemeral {
        let identity = Arc::new(Identity::ephemeral()?);
        return Ok((Arc::clone(&identity), Store::in_memory(identity)));
    }
    let create = make_directory(&config.data_dir);
    create.map_err(|error| {
        format!(
            "the data directory {} cannot be made: {error}",
            config.data_dir.display()
        )
    })?;
    let identity = Arc::new(Identity::open(&config.data_dir)?);
    let key_file = config
        .storage_key_file
        .clone()
        .unwrap_or_else(|| config.data_dir.join(STORAGE_KEY));
    let options = Options {
        identity: Arc::clone(&identity),
        sync: config.storage.sync,
        max_bytes: config.storage.max_bytes,
    };
    let store = Store::open(&config.data_dir, load_or_create_key(&key_file)?, &options)?;
    // The storage locks the directory: only now nobody gives the node a new key any more.
    if Identity::open(&config.data_dir)?.key() != identity.key() {
        return Err("the node's key was just changed; start it again".into());
    }
    Ok((identity, store))
}

fn open_access(config: &Config, store: &Store, audit: &Audit) -> Result<Access, StartError> {
    let tokens = AccessTokens::open(store.clone(), Clock::System)?;
    let operator = open_token(config)?;
    Ok(Access::new(
        &config.access,
        config.listen.ip(),
        tokens,
        operator,
        audit.clone(),
    )?)
}

fn open_token(config: &Config) -> Result<OperatorToken, StartError> {
    let path = match &config.operator_token_file {
        Some(path) => path.clone(),
        None if config.ephemeral => return Ok(OperatorToken::unknown()?),
        None => config.data_dir.join(TOKEN_FILE),
    };
    Ok(OperatorToken::open(&path)?)
}

/// What the handles of services are derived from: the first identity of the node's storage. Clients keep them when the node is given a new key.
async fn handle_secret(store: &Store, identity: &Identity) -> Result<Zeroizing<[u8; 32]>, StartError> {
    let kept = store
        .load(NODE)?
        .records
        .into_iter()
        .find(|record| record.id == HANDLES);
    if let Some(kept) = kept.and_then(|record| <[u8; 32]>::try_from(&record.bytes[..]).ok()) {
        return Ok(Zeroizing::new(kept));
    }
    let secret = identity.derive_secret("fdrtd 2026-11 service handles, version 1");
    store
        .put(NODE, HANDLES.to_owned(), secret.to_vec(), u64::MAX >> 1)
        .await?;
    Ok(secret)
}

fn service_handle(secret: &[u8; 32], identifiers: &Identifiers) -> Uuid {
    let text = identifiers.to_json().to_string();
    let hash = blake3::keyed_hash(secret, text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// Removes what has lived long enough, for as long as the node lives.
async fn sweep(node: std::sync::Weak<Node>) {
    loop {
        let Some(live) = node.upgrade() else { return };
        let pause = live
            .config
            .time_to_live()
            .div_f64(4.0)
            .clamp(Duration::from_millis(100), Duration::from_secs(60));
        let now = Clock::System.now();
        let objects = live.kv.sweep(now)
            + live.returned.sweep(now)
            + live.barrier.sweep(now)
            + live.broadcast.sweep(now)
            + live.simon.sweep();
        let removed = objects + live.simon.tasks().sweep().await + live.access.tokens.sweep(now);
        if live.store.purge(now).await.is_err() {
            tracing::error!("expired records could not be removed from the storage");
        }
        if removed > 0 {
            tracing::debug!(removed, "time to live is over");
        }
        drop(live);
        tokio::time::sleep(pause).await;
    }
}
