//! Places for incoming handshakes in progress. A newcomer takes the oldest one's when there is none left: whoever opens
//! connections and says nothing would otherwise keep every other node out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::sync::oneshot;

use super::inner::lock;
use crate::metrics::Metrics;

#[derive(Clone)]
pub(super) struct Handshakes {
    places: Arc<Mutex<Places>>,
    most: usize,
    metrics: Metrics,
}

#[derive(Default)]
struct Places {
    next: u64,
    /// Oldest first. A place ends when its sender is dropped.
    taken: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// The place of one handshake, until it is dropped.
pub(super) struct Place {
    id: u64,
    taken: oneshot::Receiver<()>,
    all: Handshakes,
}

impl Handshakes {
    pub(super) fn new(most: usize, metrics: Metrics) -> Handshakes {
        Handshakes {
            places: Arc::default(),
            most: most.max(1),
            metrics,
        }
    }

    /// A place, if need be that of the oldest.
    pub(super) fn enter(&self) -> Place {
        let (sender, taken) = oneshot::channel();
        let mut places = lock(&self.places);
        if places.taken.len() >= self.most {
            places.taken.pop_front();
            self.metrics.limit_hit("peer_handshakes");
        }
        let id = places.next;
        places.next += 1;
        places.taken.push_back((id, sender));
        drop(places);
        Place {
            id,
            taken,
            all: self.clone(),
        }
    }
}

impl Place {
    /// Runs `work` as long as this place is not taken away; `None` if it is.
    pub(super) async fn hold<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // What is done counts, even if the place was taken away at the same moment.
            biased;
            done = work => Some(done),
            _ = &mut self.taken => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.all.places).taken.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        time::Duration,
    };

    use super::*;

    const MAX_HANDSHAKES: usize = 64;

    #[tokio::test]
    async fn the_oldest_gives_way_and_nobody_else() {
        let all = Handshakes::new(MAX_HANDSHAKES, Metrics::default());
        let mut places: VecDeque<Place> = (0..MAX_HANDSHAKES).map(|_| all.enter()).collect();
        let mut oldest = places.pop_front().expect("there are some");
        places.push_back(all.enter());
        // Far beyond what it takes; a test that meets it has failed.
        let gone = tokio::time::timeout(Duration::from_secs(20), oldest.hold(pending::<()>()));
        assert_eq!(gone.await, Ok(None));
        drop(oldest);
        // One that ends by itself makes room, and the next costs nobody the place.
        places.remove(5);
        places.push_back(all.enter());
        assert_eq!(lock(&all.places).taken.len(), MAX_HANDSHAKES);
        for place in &mut places {
            let kept = place.hold(tokio::task::yield_now());
            assert_eq!(kept.await, Some(()));
        }
        places.clear();
        assert!(lock(&all.places).taken.is_empty());
        assert_eq!(all.enter().hold(ready(1)).await, Some(1));
    }
}
