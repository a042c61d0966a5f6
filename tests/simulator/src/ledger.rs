//! The ledger: outside the machines, it keeps account of every call, every run of a procedure and every message, and
//! holds all of them to the promises.
//!
//! What it knows comes from the callers, from the procedures and from the wire, never from a machine, except where a
//! machine's own account is compared with that of the wire.

mod calls;
mod rest;
mod wires;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use xero::proto::message::CallId;

use super::{
    clock::At,
    network::{Side, Wire},
    process::Process,
    scenario::{Pid, Setup, Temper},
    work::{Run, Tag},
};
use calls::{CallRecord, RunRecord};
use wires::{Attempt, WireRecord};

/// What may lie between a deadline and the end of its call: what a process takes for a turn.
pub(super) const TICK: Duration = Duration::from_millis(1);

pub(super) struct Ledger {
    temper: Temper,
    calls: BTreeMap<Tag, CallRecord>,
    runs: BTreeMap<Run, RunRecord>,
    /// Open calls by the instant they must have ended by.
    deadlines: BTreeSet<(At, Tag)>,
    wires: Vec<WireRecord>,
    /// The requests that a process, in one life, has sent for a call of its own numbering.
    attempts: BTreeMap<(Life, CallId), Vec<Attempt>>,
    /// Calls of clients, and requests that brokers have read, for which nothing has been sent on yet.
    unrouted: BTreeMap<Pid, BTreeSet<Unrouted>>,
    leaving: BTreeMap<Pid, Leave>,
    /// Calls whose callers have just been told that they may have run.
    suspects: BTreeSet<(Pid, Tag)>,
    /// Clients that have lost a connection while more calls were on their way than may wait.
    shaken: BTreeSet<Pid>,
    blame: Option<String>,
}

/// One life of a process.
type Life = (Pid, u32);

/// What waits to be sent on, in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unrouted {
    Call(Tag),
    Request(Wire, CallId),
}

/// A process that has been told to end.
#[derive(Clone, Copy, Debug)]
struct Leave {
    /// When its drain is cut short.
    cut_at: Instant,
    gone_by: Instant,
}

impl Ledger {
    pub(super) fn new(temper: Temper) -> Self {
        Self {
            temper,
            calls: BTreeMap::new(),
            runs: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            wires: Vec::new(),
            attempts: BTreeMap::new(),
            unrouted: BTreeMap::new(),
            leaving: BTreeMap::new(),
            suspects: BTreeSet::new(),
            shaken: BTreeSet::new(),
            blame: None,
        }
    }

    /// A promise is broken. The first such finding counts: later ones may follow from it.
    pub(super) fn blame(&mut self, what: String) {
        self.blame.get_or_insert(what);
    }

    pub(super) fn verdict(&self) -> Result<(), String> {
        self.blame.clone().map_or(Ok(()), Err)
    }

    /// The process is to end, within a bound.
    pub(super) fn is_leaving(&mut self, pid: Pid, now: Instant, setup: &Setup) {
        let cut_at = now + setup.drain_timeout;
        // Two graces of half a second: of a broker for its workers, then for its clients.
        let gone_by = cut_at + Duration::from_secs(1) + TICK;
        self.leaving.entry(pid).or_insert(Leave { cut_at, gone_by });
    }

    /// The process has ended as it should.
    pub(super) fn left(&mut self, pid: Pid) {
        self.leaving.remove(&pid);
    }

    /// The process is gone: nobody waits for its calls.
    pub(super) fn died(&mut self, pid: Pid) {
        self.leaving.remove(&pid);
        self.unrouted.remove(&pid);
        self.abandon_calls_of(pid);
    }

    /// How many of the connections of a process have been introduced on both sides.
    pub(super) fn registrations(&self, pid: Pid, process: &Process) -> usize {
        let sides = process.sockets.values().filter_map(|wire| self.wires.get(*wire));
        sides.filter(|wire| wire.side_of(pid).is_registered).count()
    }
}
