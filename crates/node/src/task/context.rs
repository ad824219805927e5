//! What all tasks of a node use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::bases::Bases;
use crate::approvals::Approvals;
use crate::audit::Audit;
use crate::identity::Identity;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::policy::{Organisations, Policy};
use crate::services::Clock;
use crate::session::Millis;
use crate::store::Store;

/// What all tasks of a node use.
pub struct Context {
    /// This node.
    pub identity: Arc<Identity>,
    /// The other nodes.
    pub peers: Peers,
    /// What survives a restart.
    pub store: Store,
    /// What was done, by whom.
    pub audit: Audit,
    /// What this node's owner allows.
    pub policy: Policy,
    /// Who belongs together.
    pub organisations: Organisations,
    /// What was released.
    pub ledger: Ledger,
    /// What the owner has approved.
    pub approvals: Approvals,
    /// Base oblivious transfers that are held together with other nodes.
    pub bases: Bases,
    /// As many heavy jobs at once as there are cores.
    pub pool: Arc<Semaphore>,
    /// Counters.
    pub metrics: Metrics,
    /// Time of day, for expiry.
    pub clock: Clock,
    /// How much memory tasks may need.
    pub memory: Memory,
    /// How long an ended task is kept, at least.
    pub time_to_live: Duration,
    /// True when the node is to end: whoever waits is answered at once.
    pub stopping: watch::Sender<bool>,
    /// Ends the process at a chosen point; only tests that link this crate can set it.
    pub stop_at: Option<StopAt>,
    /// When this node was started; [`Context::now`] counts from long before it.
    pub start: Instant,
}

/// Bytes of messages: of one task, and from and to one peer.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Of one task, of all parties in both directions.
    pub task: usize,
    /// Under way from one peer.
    pub inbox: usize,
    /// Not acknowledged by one peer.
    pub outbox: usize,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// A point at which a test's node falls over, as if its machine had lost power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAt {
    /// When it would send its data; the others have its Ready.
    Data,
    /// When it would send its closing digest; its data have been delivered.
    Closing,
}

impl Context {
    /// Milliseconds on a monotonic clock. It starts high, so that times before the start of the process can be told, too.
    pub fn now(&self) -> Millis {
        (1 << 40) + Millis::try_from(self.start.elapsed().as_millis()).unwrap_or(Millis::MAX >> 1)
    }

    pub(super) fn at(&self, millis: Millis) -> Instant {
        self.start + Duration::from_millis(millis.saturating_sub(1 << 40))
    }

    pub(super) fn millis(&self, instant: Instant) -> Millis {
        (1 << 40) + Millis::try_from(instant.saturating_duration_since(self.start).as_millis()).unwrap_or(0)
    }
}
