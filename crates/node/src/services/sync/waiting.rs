//! Waiting at meeting points, and finding them as generation 0.6 does.

use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use super::{Barrier, Broadcast, Charged, Points, named, point_at};
use crate::json::Parameters;
use crate::problem::Problem;
use crate::services::{Callback, Principal, Reply, object_unknown};

/// How long a waiting function waits if it is not told, and at most.
pub struct Patience {
    /// If it is not told.
    pub usual: Duration,
    /// At most.
    pub most: Duration,
}

impl Patience {
    /// On the handle face: no longer than proxies between client and node hold a request.
    pub const SHORT: Patience = Patience {
        usual: Duration::from_secs(10),
        most: Duration::from_secs(60),
    };
    /// On the face of representations.
    pub const LONG: Patience = Patience {
        usual: Duration::from_secs(60),
        most: Duration::from_secs(3600),
    };

    fn read(&self, params: &mut Parameters) -> Result<Duration, Problem> {
        match params.optional("timeout") {
            Some(raw) => Ok(Duration::from_secs_f64(raw.seconds()?.min(self.most.as_secs_f64()))),
            None => Ok(self.usual),
        }
    }
}

impl Barrier {
    /// `wait` and `wait_departed`: the number of parties that have arrived (departed), as soon as it is `count` or more.
    ///
    /// # Errors
    /// 422 for parameters, 404 for an unknown point, also for one that is deleted meanwhile.
    pub async fn wait(
        &self,
        function: &str,
        mut params: Parameters,
        callback: Option<&Callback>,
        patience: &Patience,
        stopping: watch::Receiver<bool>,
    ) -> Result<Reply, Problem> {
        let uuid = named(Barrier::SERVICE, function, callback)?;
        let count = params.required("count")?.u64()?;
        let patience = patience.read(&mut params)?;
        params.finish()?;
        let departed = function == "wait_departed";
        let look = |found: Option<&super::Parties>| {
            let parties = found.ok_or_else(|| object_unknown(Barrier::SERVICE))?;
            let there = if departed {
                parties.departed.len()
            } else {
                parties.arrived.len()
            };
            let word = if departed { "departed" } else { "arrived" };
            Ok(if there as u64 >= count {
                Reply::Value(there.to_string())
            } else {
                Reply::Waiting(format!("{there} of {count} parties have {word}"))
            })
        };
        self.points.wait(uuid, patience, stopping, look).await
    }

    /// `create(uuid)` of generation 0.6, and the point's name.
    ///
    /// # Errors
    /// 422 for parameters, 429 for the quota.
    pub(crate) fn create_by_uuid(&self, who: &Principal, mut params: Parameters) -> Result<Uuid, Problem> {
        let uuid = by_uuid(Barrier::SERVICE, &mut params)?;
        params.finish()?;
        self.points.create(who, uuid)?;
        Ok(uuid)
    }

    /// The point that the parameter `uuid` of generation 0.6 means.
    ///
    /// # Errors
    /// 422 if it is missing or no text.
    pub(crate) fn named_by(params: &mut Parameters) -> Result<Uuid, Problem> {
        by_uuid(Barrier::SERVICE, params)
    }

    /// Whether there is such a point.
    pub(crate) fn has(&self, uuid: Uuid) -> bool {
        self.points.has(uuid)
    }
}

impl Broadcast {
    /// `wait`: the message, as soon as there is one.
    ///
    /// # Errors
    /// 422 for parameters, 404 for an unknown point, also for one that is deleted meanwhile.
    pub async fn wait(
        &self,
        mut params: Parameters,
        callback: Option<&Callback>,
        patience: &Patience,
        stopping: watch::Receiver<bool>,
    ) -> Result<Reply, Problem> {
        let uuid = named(Broadcast::SERVICE, "wait", callback)?;
        let patience = patience.read(&mut params)?;
        params.finish()?;
        let look = |found: Option<&Option<super::Message>>| {
            let message = found.ok_or_else(|| object_unknown(Broadcast::SERVICE))?;
            Ok(match message {
                Some(message) => Reply::Value(message.text.clone()),
                None => Reply::Waiting("no message has been sent yet".to_owned()),
            })
        };
        self.points.wait(uuid, patience, stopping, look).await
    }

    /// `create(uuid)` of generation 0.6.
    ///
    /// # Errors
    /// 422 for parameters, 429 for the quota.
    pub(crate) fn create_by_uuid(&self, who: &Principal, mut params: Parameters) -> Result<(), Problem> {
        let uuid = by_uuid(Broadcast::SERVICE, &mut params)?;
        params.finish()?;
        self.points.create(who, uuid)
    }

    /// The point that the parameter `uuid` of generation 0.6 means.
    ///
    /// # Errors
    /// 422 if it is missing or no text.
    pub(crate) fn named_by(params: &mut Parameters) -> Result<Uuid, Problem> {
        by_uuid(Broadcast::SERVICE, params)
    }
}

/// What generation 0.6 calls a uuid is any text the parties have agreed on: the one token of a point.
fn by_uuid(service: &str, params: &mut Parameters) -> Result<Uuid, Problem> {
    Ok(point_at(service, &[params.required("uuid")?.string()?]))
}

impl<T: Charged> Points<T> {
    fn has(&self, uuid: Uuid) -> bool {
        let now = self.clock.now();
        self.lock().get(uuid, now).is_some()
    }

    /// Looks at a point again and again as it changes, until there is more to say than that one has to wait.
    async fn wait(
        &self,
        uuid: Option<Uuid>,
        patience: Duration,
        mut stopping: watch::Receiver<bool>,
        look: impl Fn(Option<&T>) -> Result<Reply, Problem>,
    ) -> Result<Reply, Problem> {
        let deadline = tokio::time::Instant::now() + patience;
        // Before the first look, so that nothing is missed in between.
        let mut changes = self.changes.subscribe();
        loop {
            let reply = {
                let now = self.clock.now();
                let mut held = self.lock();
                let point = uuid.and_then(|uuid| held.get(uuid, now));
                look(point.map(|point| &point.content))?
            };
            if !matches!(reply, Reply::Waiting(_)) {
                return Ok(reply);
            }
            let news = tokio::select! {
                news = tokio::time::timeout_at(deadline, changes.changed()) => matches!(news, Ok(Ok(()))),
                _ = stopping.wait_for(|stopping| *stopping) => false,
            };
            if !news {
                return Ok(reply);
            }
        }
    }
}
