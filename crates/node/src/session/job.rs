//! The computation of a session, in pieces that may run anywhere.

use std::fmt;

use bytes::Bytes;
use fdrtd_mpc::microprotocol::Prepared;
use fdrtd_mpc::net::{self, Machine, Party, State};

use super::{End, Phase, Session, random};
use crate::reason::Reason;

/// Work that may be heavy: run it anywhere, then give it back with [`Session::finish`].
pub struct Job {
    work: Work,
    /// Bytes to go through, to decide where to run it.
    pub weight: usize,
}

enum Work {
    Start(Prepared, net::Session),
    Step(Machine, Vec<(Party, Bytes)>),
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}

/// What came out of a [`Job`].
pub struct JobDone {
    machine: Machine,
    state: State,
}

impl fmt::Debug for JobDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobDone").finish_non_exhaustive()
    }
}

impl Job {
    /// Where work of so many bytes at most may be done: at once by whoever brings the message. More goes to a pool.
    pub const LIGHT: usize = net::LIGHT;

    /// Computes until a message is missing; or, if the job is light, until much work would follow.
    pub fn run(self) -> JobDone {
        let light = self.weight <= Job::LIGHT;
        let step = |machine: &mut Machine| if light { machine.step_lightly() } else { machine.step() };
        match self.work {
            Work::Start(prepared, session) => {
                let mut machine = prepared.start(session);
                let state = step(&mut machine);
                JobDone { machine, state }
            }
            Work::Step(mut machine, messages) => {
                let delivered = messages
                    .into_iter()
                    .try_for_each(|(from, bytes)| machine.deliver(from, bytes));
                let state = match delivered {
                    Ok(()) => step(&mut machine),
                    Err(abort) => State::Aborted(abort),
                };
                JobDone { machine, state }
            }
        }
    }
}

impl Session {
    /// The next piece of work, if there is one.
    ///
    /// What comes first is as heavy as the longest messages may make it. Afterwards the bytes at hand count, and what the protocol announces: most
    /// rounds of a circuit are short, whatever its longest one is.
    pub fn job(&mut self) -> Option<Job> {
        let parties = self.peers.len();
        let longest = self.limit() * parties;
        if let Some(input) = self.input.take_if(|_| matches!(self.phase, Phase::Running(_))) {
            let work = Work::Start(input, self.net_session()?);
            return Some(Job { work, weight: longest });
        }
        let Phase::Running(run) = &mut self.phase else {
            return None;
        };
        if run.inbox.is_empty() && !run.heavy {
            return None;
        }
        let machine = run.machine.take()?;
        let bytes: usize = run.inbox.iter().map(|(_, message)| message.len()).sum();
        let heavy = std::mem::take(&mut run.heavy);
        Some(Job {
            work: Work::Step(machine, run.inbox.drain(..).collect()),
            weight: if heavy { longest.max(Job::LIGHT + 1) } else { bytes },
        })
    }

    /// What the protocol is given.
    fn net_session(&self) -> Option<net::Session> {
        let Phase::Running(run) = &self.phase else { return None };
        let sid = run.sid;
        let all = || Party::all(self.peers.len());
        Some(net::Session {
            sid,
            me: self.me,
            parties: self.peers.len(),
            pairs: all().map(|party| self.pair_secret(party)).collect(),
            coins: random(),
            bases: all().map(|party| self.common_base(&sid, party)).collect(),
            thresholds: self.thresholds(),
        })
    }

    /// Takes a finished piece of work back; then ask for the next [`Session::job`].
    pub fn finish(&mut self, done: JobDone) {
        let JobDone { mut machine, state } = done;
        let Phase::Running(run) = &mut self.phase else { return };
        let outgoing = machine.outgoing();
        self.sent += outgoing.len() as u64;
        self.outgoing.extend(outgoing);
        run.round = machine.round();
        run.waiting = machine.waiting_for();
        run.heavy = machine.is_heavy();
        let (own, made) = match state {
            State::Opened(_) | State::Confirmed(_) => (machine.own(), machine.bases()),
            State::Running | State::Aborted(_) => (None, Vec::new()),
        };
        run.machine = Some(machine);
        self.keep_bases(made);
        if let Some(own) = own {
            if serde_json::from_str::<serde::de::IgnoredAny>(&own).is_err() {
                let party = self.me.index();
                return self.fail(Reason::Internal { party });
            }
            self.own = Some(own);
        }
        match state {
            State::Running => {}
            State::Opened(result) => {
                if let Phase::Running(run) = &mut self.phase {
                    run.opened = Some(result);
                }
                self.conclude_if_all_left();
            }
            State::Confirmed(result) => {
                self.make_receipt(&result);
                self.finish_with(End::Done {
                    result,
                    unconfirmed: Vec::new(),
                });
            }
            State::Aborted(abort) => {
                let reason = Reason::from_abort(abort, self.me);
                self.lost(reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::policy::{Profile, Rules};
    use crate::session::rehearsal::{Params, configured};
    use crate::session::simulator::{descriptor, key};

    /// Two sessions under these rules to their end; the weights of party 0's jobs.
    fn weights(params: &Params, rules: [Rules; 2]) -> (Vec<usize>, [Session; 2]) {
        let party = |index| Party::new(index, 2).unwrap();
        let mut task = descriptor(2, 1);
        // One whose rules nobody looks at.
        "Rehearsal".clone_into(&mut task.microprotocol);
        let mut sessions = [0, 1].map(|me| Session::new(task.clone(), party(me), key(me), rules[me], 0));
        for me in [0, 1] {
            sessions[me].set_key(party(1 - me), key(1 - me));
            sessions[me].give_input(configured(params).input(2, &[]).unwrap(), 0);
        }
        let mut weights = Vec::new();
        loop {
            let mut quiet = true;
            for me in [0, 1] {
                while let Some(job) = sessions[me].job() {
                    weights.extend((me == 0).then_some(job.weight));
                    sessions[me].finish(job.run());
                }
                for (to, message) in sessions[me].outgoing() {
                    quiet = false;
                    sessions[to.index()].receive(party(me), &message, 0);
                }
            }
            if quiet {
                return (weights, sessions);
            }
        }
    }

    #[test]
    fn short_rounds_are_light_whatever_the_longest_one_is() {
        let params = Params {
            rounds: 5,
            bytes: 100,
            longest: 50 << 20,
            ..Params::default()
        };
        let (weights, sessions) = weights(&params, [Profile::Teaching.into(); 2]);
        assert!(matches!(sessions[0].end(), Some(End::Done { .. })));
        // The beginning, and then the messages as they come, two of them at once at most.
        assert!(weights[0] > 100 << 20 && weights.len() > 3);
        assert!(weights[1..].iter().all(|weight| *weight < 300), "{weights:?}");
    }

    #[test]
    fn work_that_is_announced_is_a_job_of_its_own() {
        let params = Params {
            rounds: 2,
            work: Job::LIGHT + 1,
            ..Params::default()
        };
        let (weights, sessions) = weights(&params, [Profile::Teaching.into(); 2]);
        assert!(matches!(sessions[0].end(), Some(End::Done { .. })));
        let heavy = |weights: &[usize]| weights.iter().filter(|weight| **weight > Job::LIGHT).count();
        // A heavy job goes on as far as it can: both, if the other's message is there.
        assert!((1..=2).contains(&heavy(&weights)), "{weights:?}");
        let little = Params {
            work: Job::LIGHT,
            ..params
        };
        let (weights, _) = super::tests::weights(&little, [Profile::Teaching.into(); 2]);
        assert_eq!(heavy(&weights), 0);
    }

    #[test]
    fn the_protocol_is_given_the_thresholds_of_the_strictest_rules() {
        let teaching: Rules = Profile::Teaching.into();
        let one = Rules {
            min_samples_total: 30,
            min_samples_own: 10,
            ..teaching
        };
        let other = Rules {
            min_samples_others: 11,
            min_cell: 4,
            allow_extremes: false,
            ..teaching
        };
        let (_, sessions) = weights(&Params::default(), [one, other]);
        for session in &sessions {
            let Some(End::Done { result, .. }) = session.end() else {
                unreachable!("{:?}", session.end())
            };
            let result: serde_json::Value = serde_json::from_str(result).unwrap();
            assert_eq!(result["thresholds"], json!([30, 11, 4, 4]));
        }
    }
}
