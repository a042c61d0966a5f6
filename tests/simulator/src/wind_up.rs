//! The end of every simulation: all faults end, all peers connect, every call succeeds, all processes leave, and
//! nothing is left.

use std::time::Duration;

use xero::proto::message::Codec;

use super::{
    ledger::TICK,
    process::{Life, Process},
    scenario::{CallPlan, GENTLE_TIMEOUT, Pid, SAFE, SERVICES},
    work::{Fate, Tag, Work},
    world::World,
};

impl World {
    pub(super) fn wind_up(&mut self) -> Result<(), String> {
        self.heal();
        let healed_by = self.now.after(HEALING);
        self.run_for(SETTLING)?;
        while self.now < healed_by && !self.has_healed() {
            self.run_for(STEP)?;
        }
        // Calls with long timeouts may still be in a queue.
        self.run_until_all_ended(GENTLE_TIMEOUT)?;
        // A procedure that does not stop continues after its caller gave up, and holds its credit until its end.
        let idle_by = self.now.after(HEALING);
        while self.now < idle_by && self.has_requests() {
            self.run_for(STEP)?;
        }
        self.check_registrations()?;
        self.probe()?;
        self.say_farewell()
    }

    /// Whether all effects of the faults are over, so that there is nothing to wait for.
    fn has_healed(&self) -> bool {
        let is_well = |process: &Process| process.is_running() && !process.is_leaving && process.jobs.is_empty();
        let wires = self.processes.iter().flat_map(|process| process.sockets.values());
        self.processes.iter().filter(|process| !process.setup.is_hostile).all(is_well)
            && self.check_registrations().is_ok()
            && self.ledger.check_all_ended().is_ok()
            && wires.into_iter().all(|wire| self.network[*wire].is_whole())
    }

    /// Whether a request is still open on a connection that a process holds.
    fn has_requests(&self) -> bool {
        let mut wires = self.processes.iter().flat_map(|process| process.sockets.values());
        wires.any(|wire| self.ledger.has_requests(*wire))
    }

    /// Checks that every dialing process is registered once at each peer that it dials, and no other is.
    fn check_registrations(&self) -> Result<(), String> {
        for (pid, process) in self.processes.iter().enumerate() {
            let is_honest = |pid: Pid| !self.processes[pid].setup.is_hostile;
            if !is_honest(pid) {
                continue;
            }
            let dialed = process.setup.dials.iter().filter(|address| is_honest(address.process)).count();
            let honest = self.processes.iter().filter(|other| !other.setup.is_hostile);
            let dialed_by = honest.flat_map(|other| &other.setup.dials).filter(|a| a.process == pid);
            let expected = dialed + dialed_by.count();
            // A connection that broke before its introduction arrived does not exist for a machine, which never hears
            // of it.
            let registered = self.ledger.registrations(pid, process);
            if registered != expected {
                return Err(format!("{process} is registered with {registered} others, and should be with {expected}"));
            }
        }
        Ok(())
    }

    /// Checks that every client's calls succeed, again and again: this reveals a lost credit.
    fn probe(&mut self) -> Result<(), String> {
        self.remark(&"every client calls every service");
        let clients: Vec<Pid> = (0..self.processes.len()).filter(|pid| self.is_client(*pid)).collect();
        let sheds = self.ledger.sheds();
        let mut tag = PROBES_FROM;
        for _ in 0..PROBE_ROUNDS {
            for (client, service) in clients.iter().flat_map(|client| SERVICES.map(|service| (*client, service))) {
                tag += 1;
                self.call(client, probe_plan(Tag(tag), service));
            }
            self.run_until_all_ended(PROBE_TIMEOUT)?;
        }
        // Who may hold a few messages in all ends connections also when all is well, and their calls with them.
        if self.ledger.sheds() == sheds {
            self.ledger.check_probes(PROBES_FROM)?;
        }
        self.run_for(OFFERS_PAUSE)?;
        self.ledger.check_offers(&self.processes)
    }

    fn is_client(&self, pid: Pid) -> bool {
        let setup = &self.processes[pid].setup;
        setup.role.is_client() && !setup.is_hostile
    }

    fn run_until_all_ended(&mut self, timeout: Duration) -> Result<(), String> {
        let end = self.now.after(timeout + TICK);
        while self.now < end && self.ledger.check_all_ended().is_err() {
            self.run_for(STEP)?;
        }
        self.ledger.check_all_ended()
    }

    /// Lets all processes leave, in the seed's order, and checks that they leave nothing behind.
    fn say_farewell(&mut self) -> Result<(), String> {
        self.remark(&"everybody leaves");
        let mut pids: Vec<Pid> = (0..self.processes.len()).collect();
        self.network.random.shuffle(&mut pids);
        for pid in pids {
            self.drain(pid, NEVER);
            let pause_max = if self.processes.len() > CROWD_MIN { 10 } else { 100 };
            let pause = Duration::from_millis(self.network.random.u64(0..pause_max));
            self.run_for(pause)?;
        }
        self.run_for(FAREWELL)?;
        match self.processes.iter().find(|process| process.life != Life::Dead) {
            Some(process) => Err(format!("{process} does not leave: {:#?}", process.machine)),
            None => Ok(()),
        }
    }
}

fn probe_plan(tag: Tag, service: &'static str) -> CallPlan {
    let work = Work {
        tag,
        delay: Duration::ZERO,
        time: Duration::from_millis(1),
        partials: 1,
        fate: Fate::Replies,
        is_stubborn: false,
        ballast: 0,
    };
    CallPlan {
        work,
        service,
        method: SAFE,
        fingerprint: 0,
        codec: Codec::Bincode,
        idempotent: None,
        fail_fast: false,
        timeout: PROBE_TIMEOUT,
        cancel_after: None,
        partials_max: None,
    }
}

/// A broker's longest drain with its graces and its absence, an unanswered dial at the same time, the longest back-off,
/// and the longest expiry (four intervals of 250 ms). Deadlines and procedures end long before.
const HEALING: Duration = Duration::from_secs(6);

/// Messages in transit arrive within this time: a silent peer is heard again, or is found expired.
const SETTLING: Duration = Duration::from_millis(200);

/// How often to check whether there is nothing left to wait for.
const STEP: Duration = Duration::from_millis(50);

/// Brokers announce what has changed by then.
const OFFERS_PAUSE: Duration = Duration::from_millis(200);

/// More processes than this leave at a faster pace.
const CROWD_MIN: usize = 20;

const PROBE_ROUNDS: usize = 3;

/// A window of a few bytes lets one partial reply pass at a time. At a broker with small limits, each of them waits for an
/// acknowledgement of the one before, which comes with a heartbeat.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Tags of probes; a script has far fewer calls.
const PROBES_FROM: u64 = 1_000_000;

/// Twice the longest drain, since a worker waits for its clients and they wait for it.
const FAREWELL: Duration = Duration::from_secs(8);

const NEVER: Duration = Duration::from_secs(1_000_000);
