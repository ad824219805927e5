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
    /// Computes until a message is missing.
    pub fn run(self) -> JobDone {
        match self.work {
            Work::Start(prepared, session) => {
                let mut machine = prepared.start(session);
                let state = machine.step();
                JobDone { machine, state }
            }
            Work::Step(mut machine, messages) => {
                let delivered = messages
                    .into_iter()
                    .try_for_each(|(from, bytes)| machine.deliver(from, bytes));
                let state = match delivered {
                    Ok(()) => machine.step(),
                    Err(abort) => State::Aborted(abort),
                };
                JobDone { machine, state }
            }
        }
    }
}

impl Session {
    /// The next piece of work, if there is one.
    pub fn job(&mut self) -> Option<Job> {
        let weight = self.limit() * self.peers.len();
        let thresholds = self.thresholds();
        let Phase::Running(run) = &mut self.phase else {
            return None;
        };
        let sid = run.sid;
        if let Some(input) = self.input.take() {
            let session = net::Session {
                sid,
                me: self.me,
                parties: self.peers.len(),
                pairs: Party::all(self.peers.len())
                    .map(|party| self.pair_secret(party))
                    .collect(),
                coins: random(),
                bases: Vec::new(),
                thresholds,
            };
            return Some(Job {
                work: Work::Start(input, session),
                weight,
            });
        }
        if run.inbox.is_empty() {
            return None;
        }
        let machine = run.machine.take()?;
        Some(Job {
            work: Work::Step(machine, run.inbox.drain(..).collect()),
            weight,
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
        run.machine = Some(machine);
        match state {
            State::Running => {}
            State::Opened(result) => {
                run.opened = Some(result);
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
