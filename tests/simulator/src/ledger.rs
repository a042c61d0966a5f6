//! The ledger: outside the machines, it keeps account of every call, every run of a procedure and every message, and
//! checks all of them against the promises.
//!
//! Its knowledge comes from the callers, the procedures and the wire, never from a machine, except where it compares a
//! machine's own account with that of the wire.

mod calls;
mod hostile;
mod judge;
mod memory;
mod offers;
mod records;
mod rest;
mod routes;
mod wires;

use std::{
    cell::RefCell,
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
use memory::Kept;
pub(crate) use records::counted_bytes;
use records::{Attempt, WireRecord};

/// The most time between a deadline and the end of its call: a process's turn.
pub(super) const TICK: Duration = Duration::from_millis(1);

pub(super) struct Ledger {
    temper: Temper,
    calls: BTreeMap<Tag, CallRecord>,
    runs: BTreeMap<Run, RunRecord>,
    /// Open calls by their deadlines.
    deadlines: BTreeSet<(At, Tag)>,
    wires: Vec<WireRecord>,
    /// The requests that a process, in one life, has sent for a call of its own numbering.
    attempts: BTreeMap<(Life, CallId), Vec<Attempt>>,
    /// Calls of clients, and requests that brokers have read, which have not been forwarded yet.
    unrouted: BTreeMap<Pid, BTreeSet<Unrouted>>,
    /// When a process has ended such a call, whose error is still to come, by its clock.
    hopeless: RefCell<BTreeMap<(Pid, Unrouted), Instant>>,
    /// Since when somebody has room for such a call, in the same way.
    unserved: RefCell<BTreeMap<(Pid, Unrouted), Instant>>,
    /// Since when a broker has had replies for a client, held or in transit, without a pause.
    burdened: BTreeMap<(Pid, Pid), Instant>,
    leaving: BTreeMap<Pid, Leave>,
    /// Calls whose callers have just learned that they may have run.
    suspects: BTreeSet<(Pid, Tag)>,
    /// Clients that lost a connection with more calls in flight than may wait.
    shaken: BTreeSet<Pid>,
    /// How often a process has ended a connection because it holds too much.
    sheds: u64,
    /// The payloads that each process keeps.
    kept: BTreeMap<Pid, Vec<Kept>>,
    /// The connections whose requests a worker has started in its turn.
    started_for: BTreeSet<Wire>,
    blame: Option<String>,
}

/// One life of a process.
type Life = (Pid, u32);

/// A call or request that waits to be forwarded, in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unrouted {
    Call(Tag),
    Request(Wire, CallId),
}

/// A process that was asked to leave.
#[derive(Clone, Copy, Debug)]
struct Leave {
    /// The end of the time for its drain.
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
            hopeless: RefCell::default(),
            unserved: RefCell::default(),
            burdened: BTreeMap::new(),
            leaving: BTreeMap::new(),
            suspects: BTreeSet::new(),
            shaken: BTreeSet::new(),
            sheds: 0,
            kept: BTreeMap::new(),
            started_for: BTreeSet::new(),
            blame: None,
        }
    }

    /// Records a broken promise. The first finding counts: later ones may follow from it.
    pub(super) fn blame(&mut self, what: String) {
        self.blame.get_or_insert(what);
    }

    pub(super) fn verdict(&self) -> Result<(), String> {
        self.blame.clone().map_or(Ok(()), Err)
    }

    /// See the field.
    pub(super) fn sheds(&self) -> u64 {
        self.sheds
    }

    /// Notes that the process must end, within a bound.
    pub(super) fn is_leaving(&mut self, pid: Pid, now: Instant, setup: &Setup) {
        let cut_at = now + setup.drain_timeout;
        // Two graces of half a second: a broker's for its workers, then for its clients.
        let gone_by = cut_at + Duration::from_secs(1) + TICK;
        self.leaving.entry(pid).or_insert(Leave { cut_at, gone_by });
    }

    /// Notes that the process has ended as it should.
    pub(super) fn left(&mut self, pid: Pid) {
        self.leaving.remove(&pid);
    }

    /// Notes that the process is gone: nobody waits for its calls.
    pub(super) fn died(&mut self, pid: Pid) {
        self.leaving.remove(&pid);
        self.unrouted.remove(&pid);
        self.kept.remove(&pid);
        self.abandon_calls_of(pid);
    }

    /// The number of a process's connections that are introduced on both sides.
    pub(super) fn registrations(&self, pid: Pid, process: &Process) -> usize {
        let sides = process.sockets.values().filter_map(|wire| self.wires.get(*wire));
        sides.filter(|wire| wire.side_of(pid).is_registered && !wire.is_hostile).count()
    }
}
