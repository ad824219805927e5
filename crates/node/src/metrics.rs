//! All counters of a node and their names, as Prometheus text. Nothing here depends on private data: sizes and counts are those of messages whose
//! lengths follow from public parameters.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::peer::Counters;

/// Counters of tasks. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    created: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    messages: AtomicU64,
    /// Seconds since 1970; zero without TLS.
    certificate_end: AtomicU64,
}

impl Metrics {
    /// A task was created or joined.
    pub fn task_created(&self) {
        self.0.created.fetch_add(1, Ordering::Relaxed);
    }

    /// A task has its result.
    pub fn task_done(&self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }

    /// A task ended without a result.
    pub fn task_failed(&self) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A message of a task was handed to a link.
    pub fn task_message(&self) {
        self.0.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// The listener has a certificate that ends at that time, in seconds since 1970.
    pub fn certificate_ends(&self, end: u64) {
        self.0.certificate_end.store(end, Ordering::Relaxed);
    }

    /// In the text format of Prometheus, with what other parts count.
    pub fn text(&self, peers: Counters, tasks: usize, objects: usize) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let lines: [(&str, &str, &str, u64); 13] = [
            (
                "fdrtd_tasks_created_total",
                "counter",
                "Tasks created or joined.",
                count(&self.0.created),
            ),
            (
                "fdrtd_tasks_done_total",
                "counter",
                "Tasks that ended with a result.",
                count(&self.0.done),
            ),
            (
                "fdrtd_tasks_failed_total",
                "counter",
                "Tasks that ended without.",
                count(&self.0.failed),
            ),
            (
                "fdrtd_task_messages_total",
                "counter",
                "Messages of tasks to peers.",
                count(&self.0.messages),
            ),
            ("fdrtd_tasks", "gauge", "Tasks kept, ended ones included.", tasks as u64),
            (
                "fdrtd_objects",
                "gauge",
                "Stored values and meeting points kept.",
                objects as u64,
            ),
            (
                "fdrtd_peer_connections",
                "gauge",
                "Connections to peers that are up.",
                peers.connections,
            ),
            (
                "fdrtd_peer_reconnects_total",
                "counter",
                "Connections made again.",
                peers.reconnects,
            ),
            (
                "fdrtd_peer_refused_total",
                "counter",
                "Incoming connections of nodes that are not welcome.",
                peers.refused,
            ),
            (
                "fdrtd_peer_records_in_total",
                "counter",
                "Encrypted records received.",
                peers.records_in,
            ),
            (
                "fdrtd_peer_records_out_total",
                "counter",
                "Encrypted records sent.",
                peers.records_out,
            ),
            (
                "fdrtd_peer_bytes_in_total",
                "counter",
                "Bytes of records received.",
                peers.bytes_in,
            ),
            (
                "fdrtd_peer_bytes_out_total",
                "counter",
                "Bytes of records sent.",
                peers.bytes_out,
            ),
        ];
        let end = count(&self.0.certificate_end);
        let certificate = (end > 0).then_some((
            "fdrtd_tls_certificate_expires_seconds",
            "gauge",
            "When the listener's certificate ends, in seconds since 1970.",
            end,
        ));
        let mut text = String::new();
        for (name, kind, help, number) in lines.into_iter().chain(certificate) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {number}");
        }
        text
    }
}
