//! All figures of a node and their names, as Prometheus text. Nothing here depends on private data: sizes and counts are those of messages whose
//! lengths follow from public parameters.
//!
//! Labels have values from closed lists only (routes, methods, codes, limits, microprotocols, peers that this node knows), so nobody can make the
//! number of series grow.

mod histogram;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::peer::{Counters, Traffic};

pub use histogram::Histogram;
use text::Text;

/// Peers with a label of their own, beside the configured ones.
pub(crate) const PEER_LABELS: usize = 32;

const HTTP_REQUESTS: &str = "fdrtd_http_requests_total";
const HTTP_SECONDS: &str = "fdrtd_http_request_seconds";
const CONNECTIONS: &str = "fdrtd_connections";
const STREAMS: &str = "fdrtd_event_streams";
const REFUSALS: &str = "fdrtd_refusals_total";
const LIMITS: &str = "fdrtd_limit_hits_total";
const TASKS: &str = "fdrtd_tasks";
const TASKS_CREATED: &str = "fdrtd_tasks_created_total";
const TASKS_DONE: &str = "fdrtd_tasks_done_total";
const TASKS_FAILED: &str = "fdrtd_tasks_failed_total";
const TASK_ROUNDS: &str = "fdrtd_task_rounds_total";
const TASK_MESSAGES: &str = "fdrtd_task_messages_total";
const OBJECTS: &str = "fdrtd_objects";
const PEER_CONNECTIONS: &str = "fdrtd_peer_connections";
const PEER_RECONNECTS: &str = "fdrtd_peer_reconnects_total";
const PEER_REFUSED: &str = "fdrtd_peer_refused_total";
const PEER_RECORDS_IN: &str = "fdrtd_peer_records_in_total";
const PEER_RECORDS_OUT: &str = "fdrtd_peer_records_out_total";
const PEER_BYTES_IN: &str = "fdrtd_peer_bytes_in_total";
const PEER_BYTES_OUT: &str = "fdrtd_peer_bytes_out_total";
const STORE_SECONDS: &str = "fdrtd_storage_commit_seconds";
const STORE_BYTES: &str = "fdrtd_storage_bytes";
const CERTIFICATE: &str = "fdrtd_tls_certificate_expires_seconds";
// These two have the names that all Prometheus clients give them.
const MEMORY: &str = "process_resident_memory_bytes";
const FILES: &str = "process_open_fds";

/// What is counted. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: Mutex<BTreeMap<Request, u64>>,
    seconds: Mutex<BTreeMap<&'static str, Histogram>>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    limits: Mutex<BTreeMap<&'static str, u64>>,
    created: Mutex<BTreeMap<&'static str, u64>>,
    done: Mutex<BTreeMap<&'static str, u64>>,
    failed: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    rounds: Mutex<BTreeMap<&'static str, u64>>,
    messages: Mutex<BTreeMap<&'static str, u64>>,
    commits: Histogram,
    connections: AtomicI64,
    /// Seconds since 1970; zero without TLS.
    certificate_end: AtomicU64,
}

/// A kind of request: route, method, class of the status.
type Request = (&'static str, &'static str, &'static str);

/// What is looked up when the text is made.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Tasks kept, by microprotocol and whether they have ended.
    pub tasks: BTreeMap<(&'static str, bool), u64>,
    /// Values and meeting points kept.
    pub objects: u64,
    /// Event streams that are open.
    pub streams: u64,
    /// Bytes of the storage's files, if there are any.
    pub storage: Option<u64>,
    /// Connections to peers.
    pub peers: Counters,
    /// By peer: its label, and what went to and came from it.
    pub traffic: Vec<(String, Traffic)>,
}

impl Metrics {
    /// A request was answered. Route and method are from the table of routes.
    pub fn request(&self, route: &'static str, method: &'static str, status: u16, time: Duration) {
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        add(&self.0.requests, (route, method, class));
        lock(&self.0.seconds).entry(route).or_default().observe(time);
    }

    /// A request was refused with this code, one of [`crate::problem::CODES`].
    pub fn refused(&self, code: &'static str) {
        add(&self.0.refusals, code);
    }

    /// A limit was hit: one of the members of `[limits]`.
    pub fn limit_hit(&self, limit: &'static str) {
        debug_assert!(Limits::NAMES.contains(&limit), "{limit} is no limit");
        add(&self.0.limits, limit);
    }

    /// A task was created or joined.
    pub fn task_created(&self, microprotocol: &'static str) {
        add(&self.0.created, microprotocol);
    }

    /// A task has its result.
    pub fn task_done(&self, microprotocol: &'static str) {
        add(&self.0.done, microprotocol);
    }

    /// A task ended without a result, for the reason with that code.
    pub fn task_failed(&self, microprotocol: &'static str, code: &'static str) {
        add(&self.0.failed, (microprotocol, code));
    }

    /// A task has done so many more rounds.
    pub fn task_rounds(&self, microprotocol: &'static str, rounds: u64) {
        *lock(&self.0.rounds).entry(microprotocol).or_default() += rounds;
    }

    /// A message of a task was handed to a link.
    pub fn task_message(&self, microprotocol: &'static str) {
        add(&self.0.messages, microprotocol);
    }

    /// A client's connection, for as long as what this returns is kept.
    pub fn connection(&self) -> OpenConnection {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    /// The storage has committed what began then.
    pub fn committed(&self, begin: Instant) {
        self.0.commits.observe(begin.elapsed());
    }

    /// The listener has a certificate that ends at that time, in seconds since 1970.
    pub fn certificate_ends(&self, end: u64) {
        self.0.certificate_end.store(end, Ordering::Relaxed);
    }

    /// In the text format of Prometheus.
    pub fn text(&self, gauges: &Gauges) -> String {
        let mut text = Text::default();
        self.http(&mut text, gauges);
        self.tasks(&mut text, gauges);
        peers(&mut text, gauges);
        text.begin(STORE_SECONDS, "histogram", "Time that a commit to the storage takes.");
        text.histogram(STORE_SECONDS, "", &self.0.commits);
        if let Some(bytes) = gauges.storage {
            text.single(STORE_BYTES, "gauge", "Bytes of the storage's files.", bytes);
        }
        let end = self.0.certificate_end.load(Ordering::Relaxed);
        if end > 0 {
            let help = "When the listener's certificate ends, in seconds since 1970.";
            text.single(CERTIFICATE, "gauge", help, end);
        }
        if let Some(bytes) = resident() {
            text.single(MEMORY, "gauge", "Resident memory of the process.", bytes);
        }
        if let Some(files) = open_files() {
            text.single(FILES, "gauge", "Open files of the process.", files);
        }
        text.finish()
    }

    fn http(&self, text: &mut Text, gauges: &Gauges) {
        text.begin(
            HTTP_REQUESTS,
            "counter",
            "Requests answered, by route and class of the status.",
        );
        for ((route, method, class), number) in lock(&self.0.requests).iter() {
            let labels = [("route", *route), ("method", *method), ("status", *class)];
            text.line(HTTP_REQUESTS, &labels, *number);
        }
        text.begin(HTTP_SECONDS, "histogram", "Time until a request is answered, by route.");
        for (route, histogram) in lock(&self.0.seconds).iter() {
            text.histogram(HTTP_SECONDS, route, histogram);
        }
        text.begin(REFUSALS, "counter", "Requests refused, by the code of the answer.");
        for (code, number) in lock(&self.0.refusals).iter() {
            text.line(REFUSALS, &[("code", code)], *number);
        }
        text.begin(LIMITS, "counter", "How often a limit was hit, by its name in [limits].");
        for (limit, number) in lock(&self.0.limits).iter() {
            text.line(LIMITS, &[("limit", limit)], *number);
        }
        let open = u64::try_from(self.0.connections.load(Ordering::Relaxed)).unwrap_or(0);
        text.single(
            CONNECTIONS,
            "gauge",
            "Connections of clients, other nodes included.",
            open,
        );
        text.single(STREAMS, "gauge", "Streams of events that are open.", gauges.streams);
    }

    fn tasks(&self, text: &mut Text, gauges: &Gauges) {
        text.begin(TASKS, "gauge", "Tasks kept, by microprotocol and state.");
        // Each microprotocol has both states, so that a series does not end when there is none.
        for entry in fdrtd_mpc::microprotocol::ALL {
            for (ended, state) in [(false, "open"), (true, "ended")] {
                let number = gauges.tasks.get(&(entry.name, ended)).copied().unwrap_or(0);
                text.line(TASKS, &[("microprotocol", entry.name), ("state", state)], number);
            }
        }
        let counters = [
            (TASKS_CREATED, "Tasks created or joined.", &self.0.created),
            (TASKS_DONE, "Tasks that ended with a result.", &self.0.done),
            (TASK_ROUNDS, "Rounds of tasks that were completed.", &self.0.rounds),
            (TASK_MESSAGES, "Messages of tasks to peers.", &self.0.messages),
        ];
        for (name, help, numbers) in counters {
            text.begin(name, "counter", help);
            let numbers = lock(numbers);
            for entry in fdrtd_mpc::microprotocol::ALL {
                let number = numbers.get(entry.name).copied().unwrap_or(0);
                text.line(name, &[("microprotocol", entry.name)], number);
            }
        }
        text.begin(
            TASKS_FAILED,
            "counter",
            "Tasks that ended without, by the code of the reason.",
        );
        for ((microprotocol, code), number) in lock(&self.0.failed).iter() {
            let labels = [("microprotocol", *microprotocol), ("code", *code)];
            text.line(TASKS_FAILED, &labels, *number);
        }
        let help = "Stored values and meeting points kept.";
        text.single(OBJECTS, "gauge", help, gauges.objects);
    }
}

fn peers(text: &mut Text, gauges: &Gauges) {
    let help = "Connections to peers that are up.";
    text.single(PEER_CONNECTIONS, "gauge", help, gauges.peers.connections);
    let help = "Connections to peers made again.";
    text.single(PEER_RECONNECTS, "counter", help, gauges.peers.reconnects);
    let help = "Incoming connections of nodes that are not welcome.";
    text.single(PEER_REFUSED, "counter", help, gauges.peers.refused);
    type Figure = fn(&Traffic) -> u64;
    let figures: [(&str, &str, Figure); 4] = [
        (PEER_RECORDS_IN, "Encrypted records received, by peer.", |t| {
            t.records_in
        }),
        (PEER_RECORDS_OUT, "Encrypted records sent, by peer.", |t| t.records_out),
        (PEER_BYTES_IN, "Bytes of records received, by peer.", |t| t.bytes_in),
        (PEER_BYTES_OUT, "Bytes of records sent, by peer.", |t| t.bytes_out),
    ];
    for (name, help, figure) in figures {
        text.begin(name, "counter", help);
        for (peer, traffic) in &gauges.traffic {
            text.line(name, &[("peer", peer)], figure(traffic));
        }
    }
}

/// See [`Metrics::connection`].
#[derive(Debug)]
pub struct OpenConnection(Metrics);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add<K: Ord>(numbers: &Mutex<BTreeMap<K, u64>>, key: K) {
    *lock(numbers).entry(key).or_default() += 1;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From `/proc`, where there is one.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<u64> {
    // One of them is open for this list.
    Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_label_and_goes_back_with_connections() {
        let metrics = Metrics::default();
        metrics.request("/tasks/{id}", "GET", 404, Duration::from_millis(3));
        metrics.request("/tasks/{id}", "GET", 404, Duration::from_millis(3));
        metrics.request("/", "POST", 200, Duration::from_millis(3));
        metrics.limit_hit("json_depth");
        let open = metrics.connection();
        let text = metrics.text(&Gauges::default());
        for line in [
            "fdrtd_http_requests_total{route=\"/tasks/{id}\",method=\"GET\",status=\"4xx\"} 2",
            "fdrtd_http_requests_total{route=\"/\",method=\"POST\",status=\"2xx\"} 1",
            "fdrtd_http_request_seconds_count{route=\"/tasks/{id}\"} 2",
            "fdrtd_limit_hits_total{limit=\"json_depth\"} 1",
            "fdrtd_connections 1",
            "fdrtd_tasks{microprotocol=\"SecureSum\",state=\"open\"} 0",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} in {text}");
        }
        drop(open);
        assert!(metrics.text(&Gauges::default()).contains("fdrtd_connections 0\n"));
    }
}
