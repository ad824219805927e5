//! How often somebody may ask: a token bucket for each address and each principal, kept as the one point in time at which it would be full again
//! (the generic cell rate algorithm). A bucket that is full is not kept at all, so what is kept is bounded by the rate of requests, and by a limit
//! besides: beyond it newcomers share one bucket.
//!
//! The crates that do this bring a concurrent map, a clock and a random generator of their own; what is needed here is one comparison under a lock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most buckets at once.
const MOST: usize = 50_000;
/// Between two looks for full ones.
const PAUSE: Duration = Duration::from_secs(1);

/// Whose bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// An IPv4 address, or the upper half of an IPv6 address: the lower half is its owner's to choose.
    Address([u8; 8], bool),
    /// A principal's name.
    Principal(Arc<str>),
    /// Everybody for whom there is no room.
    Rest,
}

impl Key {
    /// The bucket of an address; one that is not known counts as one address.
    pub fn of_address(address: Option<IpAddr>) -> Key {
        let mut half = [0; 8];
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => {
                half[..4].copy_from_slice(&address.octets());
                Key::Address(half, false)
            }
            Some(IpAddr::V6(address)) => {
                half.copy_from_slice(&address.octets()[..8]);
                Key::Address(half, true)
            }
            None => Key::Rest,
        }
    }
}

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Time for one request.
    interval: Duration,
    /// Time from empty to full.
    whole: Duration,
}

impl Rate {
    /// `burst` is at least one request.
    pub fn new(per_second: f64, burst: f64) -> Rate {
        let interval = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::MAX / 4);
        let whole = Duration::try_from_secs_f64(burst.max(1.0) / per_second).unwrap_or(Duration::MAX / 4);
        Rate {
            interval,
            whole: whole.max(interval),
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Rates {
    rate: Rate,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When each bucket will be full. Times are since any fixed start.
    full_at: HashMap<Key, Duration>,
    swept: Duration,
}

impl Rates {
    /// All buckets are full.
    pub fn new(rate: Rate) -> Rates {
        Rates {
            rate,
            most: MOST,
            state: Mutex::default(),
        }
    }

    /// Takes one request's worth, or tells how long to wait for it. `now` never goes back.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(&self, key: &Key, now: Duration) -> Result<(), Duration> {
        // No code between lock and unlock leaves it half changed.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sweep(now);
        let known = state.full_at.contains_key(key);
        let key = if known || state.full_at.len() < self.most {
            key
        } else {
            &Key::Rest
        };
        let full_at = state.full_at.get(key).copied().unwrap_or(now).max(now);
        let after = full_at.saturating_add(self.rate.interval);
        let missing = after.saturating_sub(now).saturating_sub(self.rate.whole);
        if !missing.is_zero() {
            return Err(missing);
        }
        state.full_at.insert(key.clone(), after);
        Ok(())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).full_at.len()
    }
}

impl State {
    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) < PAUSE {
            return;
        }
        self.swept = now;
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.capacity() > 4 * self.full_at.len() + 64 {
            self.full_at.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Key {
        Key::of_address(Some(text.parse().unwrap()))
    }

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rates = Rates::new(Rate::new(2.0, 3.0));
        let anna = address("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(rates.take(&anna, at(10.0)), Ok(()));
        }
        assert_eq!(rates.take(&anna, at(10.0)), Err(at(0.5)));
        assert_eq!(
            rates.take(&address("192.0.2.2"), at(10.0)),
            Ok(()),
            "another's bucket is another"
        );
        assert_eq!(rates.take(&anna, at(10.5)), Ok(()));
        assert!(rates.take(&anna, at(10.5)).is_err());
        for _ in 0..3 {
            assert_eq!(rates.take(&anna, at(60.0)), Ok(()));
        }
        assert!(rates.take(&anna, at(60.0)).is_err(), "it holds no more than the burst");
    }

    #[test]
    fn addresses_of_one_subscriber_are_one() {
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::9"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        // 192.0.2.1 as the upper half of an IPv6 address.
        assert_ne!(address("c000:201::"), address("192.0.2.1"));
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_again() {
        let rates = Rates {
            most: 100,
            ..Rates::new(Rate::new(1.0, 2.0))
        };
        let numbered = |n: u32| Key::of_address(Some(IpAddr::from(n.to_be_bytes())));
        for n in 0..10_000 {
            let _ = rates.take(&numbered(n), at(5.0));
        }
        assert!(rates.len() <= 101, "{}", rates.len());
        assert_eq!(
            rates.take(&numbered(0), at(5.0)),
            Ok(()),
            "who was there first has a bucket of their own"
        );
        assert!(rates.take(&numbered(20_000), at(5.0)).is_err(), "newcomers share one");
        assert_eq!(rates.take(&numbered(20_000), at(60.0)), Ok(()));
        assert_eq!(rates.len(), 1, "full buckets are not kept");
    }

    proptest! {
        /// In any stretch of time no more pass than the burst and what the rate gives for it; and whoever waits as told passes.
        #[test]
        fn never_more_than_promised(pauses in proptest::collection::vec(0_u64..400, 1..200), rate in 1_u32..50, burst in 1_u32..20) {
            let rates = Rates::new(Rate::new(f64::from(rate), f64::from(burst)));
            let key = Key::Rest;
            let mut now = Duration::ZERO;
            let mut passed = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                match rates.take(&key, now) {
                    Ok(()) => passed.push(now),
                    Err(wait) => {
                        now += wait;
                        prop_assert_eq!(rates.take(&key, now), Ok(()));
                        passed.push(now);
                    }
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let most = f64::from(burst) + (*to - *from).as_secs_f64() * f64::from(rate) + 1e-6;
                    prop_assert!((last - first + 1) as f64 <= most);
                }
            }
        }
    }
}
