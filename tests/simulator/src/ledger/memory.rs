//! What each process keeps of its peers, in bytes: a received payload counts from its arrival until its last copy is
//! dropped. The buffer that it keeps alive may be twice as large. No machine is asked.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use xero::proto::{
    broker::Door,
    frame::Inbound,
    hold::HoldLimits,
    message::{Message, Payload},
};

use super::{
    records::{FlowRecord, WireRecord},
    *,
};
use crate::{process::Process, scenario::Role, work::Answer};

/// A payload that a process keeps.
#[derive(Debug)]
pub(super) struct Kept {
    /// The connection that it came over; for a produced reply, the one that it leaves over.
    wire: Wire,
    what: What,
    bytes: u64,
    mark: Weak<()>,
    /// Whether it was kept when the process's last turn ended.
    is_old: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Request,
    /// A reply at a broker, for that client.
    ReplyFor(Pid),
    /// A reply whose caller is gone, or is this process.
    Reply,
    /// A worker's own reply.
    Produced,
}

/// A payload's bytes, and the mark that says whether they are alive.
struct Marked {
    bytes: Bytes,
    _mark: Arc<()>,
}

impl AsRef<[u8]> for Marked {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn mark(payload: &mut Payload) -> Weak<()> {
    let own = Arc::new(());
    let mark = Arc::downgrade(&own);
    let bytes = Bytes::copy_from_slice(&payload.bytes);
    payload.bytes = Bytes::from_owner(Marked { bytes, _mark: own });
    mark
}

fn payload_of(message: &mut Message) -> Option<&mut Payload> {
    match message {
        Message::Request(request) => Some(&mut request.payload),
        Message::Partial(reply) => Some(&mut reply.payload),
        Message::Final(reply) => Some(&mut reply.payload),
        Message::Error(reply) => Some(&mut reply.payload),
        _ => None,
    }
}

impl Ledger {
    /// Keeps account of a received payload; `buffer` is what it was read from.
    pub(crate) fn kept(&mut self, wire: Wire, to: Side, inbound: &mut Inbound, buffer: &Bytes, processes: &[Process]) {
        let pid = self.wires[wire].sides[to as usize].life.0;
        let what = self.what_of(&processes[pid], &inbound.message);
        let Some(payload) = payload_of(&mut inbound.message).filter(|payload| !payload.bytes.is_empty()) else {
            return;
        };
        let is_part = buffer.as_ptr_range().contains(&payload.bytes.as_ptr());
        let bytes = payload.bytes.len();
        // A payload of less than half of a BATCH is copied out of it.
        if is_part && buffer.len() > 2 * bytes + 1 {
            let whole = buffer.len();
            self.blame(format!("a payload of {bytes} bytes keeps a buffer of {whole} on connection {wire}"));
        }
        let mark = mark(payload);
        self.kept.entry(pid).or_default().push(Kept { wire, what, bytes: bytes as u64, mark, is_old: false });
    }

    /// Keeps account of a reply that a procedure has written for the caller on this connection.
    pub(crate) fn produced(&mut self, pid: Pid, wire: Wire, payload: &mut Payload) {
        let bytes = payload.bytes.len() as u64;
        let mark = mark(payload);
        self.kept.entry(pid).or_default().push(Kept { wire, what: What::Produced, bytes, mark, is_old: false });
    }

    fn what_of(&self, process: &Process, message: &Message) -> What {
        let answer = match message {
            Message::Request(_) => return What::Request,
            Message::Partial(reply) => Answer::read(&reply.payload),
            Message::Final(reply) => Answer::read(&reply.payload),
            Message::Error(reply) => Answer::read(&reply.payload),
            _ => None,
        };
        let client = answer.and_then(|answer| match answer.tag.hostile() {
            Some(hostile) => Some(hostile),
            None => self.calls.get(&answer.tag).map(|call| call.client.0),
        });
        match client {
            Some(client) if process.setup.role == Role::Broker => What::ReplyFor(client),
            _ => What::Reply,
        }
    }

    /// Forgets what is not kept any more.
    pub(super) fn sweep(&mut self, pid: Pid) {
        if let Some(kept) = self.kept.get_mut(&pid) {
            kept.retain(|kept| kept.mark.strong_count() > 0);
        }
    }

    pub(super) fn keeps_anything(&self, pid: Pid) -> bool {
        self.kept.get(&pid).is_some_and(|kept| !kept.is_empty())
    }

    /// Checks that a process keeps no more than its limits allow, and what it has not acknowledged.
    ///
    /// One message may exceed each limit, because the limit is asked before a message is taken.
    pub(super) fn check_memory(&self, now: Instant, pid: Pid, process: &Process) -> Result<(), String> {
        let kept = self.kept.get(&pid).map(Vec::as_slice).unwrap_or_default();
        if kept.is_empty() || !matches!(process.setup.role, Role::Broker | Role::Worker) {
            return Ok(());
        }
        let limits = &process.setup.hold_limits;
        let largest = kept.iter().map(|kept| kept.bytes).max().unwrap_or(0);
        let mut requests = 0;
        for (wire, (bytes, unacknowledged)) in self.requests_by_wire(pid, kept) {
            let bytes = bytes.saturating_sub(unacknowledged);
            if bytes > limits.peer_bytes_max + largest {
                let max = limits.peer_bytes_max;
                return Err(format!("keeps {bytes} acknowledged bytes of requests on connection {wire}, over {max}"));
            }
            requests += bytes;
        }
        let is_counted = |kept: &&Kept| match kept.what {
            What::ReplyFor(client) => !self.may_lag(now, pid, client),
            What::Reply => true,
            What::Request | What::Produced => false,
        };
        let replies: Vec<_> = kept.iter().filter(is_counted).collect();
        let bytes: u64 = replies.iter().map(|kept| kept.bytes).sum();
        // What one worker's replies make room for may be acknowledged to another one, also once none of the former's are
        // kept any more.
        let backs = process.sockets.iter().filter(|((door, _), _)| *door == Door::Back).map(|(_, wire)| *wire);
        let wires: BTreeSet<Wire> = replies.iter().map(|kept| kept.wire).chain(backs).collect();
        let unacknowledged: u64 = wires.into_iter().map(|wire| self.unacknowledged(pid, wire)).sum();
        let replies = bytes.saturating_sub(unacknowledged);
        let clients = self.client_wires(kept, process);
        if replies > clients * (limits.peer_bytes_max + largest) {
            let max = limits.peer_bytes_max;
            return Err(format!(
                "keeps {replies} acknowledged bytes of replies for {clients} clients, over {max} each"
            ));
        }
        let shared = limits.total_bytes_max / 3;
        match requests + replies > shared + largest {
            true => Err(format!("keeps {} acknowledged bytes, over {limits:?}", requests + replies)),
            false => self.check_total(kept, shared + largest),
        }
    }

    /// Whether a process holds so much of all its peers together that it may end their connections.
    ///
    /// It counts all of a message that it keeps, not only the payload. What it has held for a hostile peer whose connection
    /// ends in the same turn is not known here.
    pub(super) fn is_crowded(&self, pid: Pid, process: &Process) -> bool {
        let is_small = process.setup.hold_limits.total_bytes_max != HoldLimits::default().total_bytes_max;
        let is_own = |record: &WireRecord| record.is_hostile && record.sides.iter().any(|side| side.life.0 == pid);
        if is_small && self.wires.iter().any(is_own) {
            return true;
        }
        let kept: u64 = self.kept.get(&pid).into_iter().flatten().map(|kept| kept.bytes + MESSAGE).sum();
        let in_transit: u64 = self.flows_from(pid, process).map(|flow| flow.in_transit()).sum();
        // The texts of errors that wait for a window are seen nowhere.
        kept + in_transit > process.setup.hold_limits.total_bytes_max / 4
    }

    /// What a broker or worker sends to each of those that send it requests.
    fn flows_from(&self, pid: Pid, process: &Process) -> impl Iterator<Item = FlowRecord> {
        let doors =
            process.sockets.iter().filter(|((door, _), _)| *door == Door::Front || process.setup.role == Role::Worker);
        doors.map(move |(_, wire)| {
            let record = &self.wires[*wire];
            record.flow_to(record.side_index(pid).other())
        })
    }

    /// Checks that a broker acknowledges no more replies than it may have on their way to its clients.
    pub(super) fn check_transit(&self, now: Instant, pid: Pid, process: &Process) -> Result<(), String> {
        if process.setup.role != Role::Broker {
            return Ok(());
        }
        let (mut in_transit, mut unacknowledged, mut clients) = (0, 0, 0);
        for ((door, _), wire) in &process.sockets {
            let record = &self.wires[*wire];
            let own = record.side_index(pid);
            match door {
                // What is on its way to a client that gets a goodbye is its transport's, until the connection ends.
                Door::Front if record.sides[own as usize].has_said_goodbye => {}
                Door::Front if self.may_lag(now, pid, record.sides[own.other() as usize].life.0) => {}
                Door::Front if !record.flow_to(own.other()).lies => {
                    in_transit += record.flow_to(own.other()).in_transit();
                    clients += 1;
                }
                Door::Front => {}
                Door::Back => unacknowledged += record.flow_to(own).unacknowledged(),
            }
        }
        // Beside replies, a client may be sent errors and offers. It may exceed its own limit by a message, which is not
        // charged to the others.
        let total = process.setup.hold_limits.total_bytes_max;
        let each = total / 3 + clients * (LARGEST + OTHERS);
        // One message, and the introductions of one turn, may exceed the limit of all.
        let max = each.min(total + clients * OFFER);
        match in_transit > unacknowledged + max {
            true => Err(format!("has {in_transit} bytes on their way to clients, and may have {max}")),
            false => Ok(()),
        }
    }

    /// Checks that requests are refused once the limit of all peers is reached.
    fn check_total(&self, kept: &[Kept], max: u64) -> Result<(), String> {
        let requests = kept.iter().filter(|kept| kept.what == What::Request);
        let bytes: u64 = requests.map(|kept| kept.bytes).sum();
        if bytes > max { Err(format!("keeps {bytes} bytes of requests in all, over {max}")) } else { Ok(()) }
    }

    /// The requests that are kept of each connection, and how much that came over it is not acknowledged.
    fn requests_by_wire(&self, pid: Pid, kept: &[Kept]) -> BTreeMap<Wire, (u64, u64)> {
        let mut bytes = BTreeMap::new();
        for kept in kept.iter().filter(|kept| kept.what == What::Request) {
            bytes.entry(kept.wire).or_insert((0, self.unacknowledged(pid, kept.wire))).0 += kept.bytes;
        }
        bytes
    }

    /// What came to a process over a connection and is not acknowledged.
    fn unacknowledged(&self, pid: Pid, wire: Wire) -> u64 {
        let record = &self.wires[wire];
        record.flow_to(record.side_index(pid)).unacknowledged()
    }

    /// The connections of the clients that replies are kept for.
    fn client_wires(&self, kept: &[Kept], process: &Process) -> u64 {
        let clients: BTreeSet<_> = kept.iter().filter_map(|kept| kept.what.client()).collect();
        let wires = process.sockets.values().flat_map(|wire| &self.wires[*wire].sides);
        wires.filter(|side| clients.contains(&side.life.0)).count() as u64
    }

    /// The memory of the replies that a broker keeps for a client.
    pub(super) fn kept_for(&self, pid: Pid, client: Pid) -> u64 {
        let kept = self.kept.get(&pid).into_iter().flatten();
        kept.filter(|kept| kept.what.client() == Some(client)).map(|kept| kept.bytes + MESSAGE).sum()
    }

    /// Notes for which clients a broker has replies.
    pub(super) fn note_burdens(&mut self, now: Instant, pid: Pid, process: &Process) {
        if process.setup.role != Role::Broker {
            return;
        }
        let fronts = process.sockets.iter().filter(|((door, _), _)| *door == Door::Front).map(|(_, wire)| *wire);
        let burdens: BTreeSet<Pid> = fronts
            .map(|wire| (self.wires[wire].side_index(pid).other(), &self.wires[wire]))
            .map(|(client, record)| (record.sides[client as usize].life.0, record.flow_to(client).in_transit()))
            .filter(|(client, in_transit)| *in_transit > 0 || self.kept_for(pid, *client) > 0)
            .map(|(client, _)| client)
            .collect();
        self.burdened.retain(|(broker, client), _| *broker != pid || burdens.contains(client));
        for client in burdens {
            self.burdened.entry((pid, client)).or_insert(now);
        }
    }

    /// Whether workers may have waited for a client so long that a broker acknowledges all that it keeps for it.
    fn may_lag(&self, now: Instant, pid: Pid, client: Pid) -> bool {
        self.burdened.get(&(pid, client)).is_some_and(|since| *since + LAG <= now)
    }

    /// Checks that a worker has started nothing in this turn for a dispatcher that has not taken its replies.
    pub(super) fn check_starts(&mut self, pid: Pid, process: &Process) -> Result<(), String> {
        let max = process.setup.hold_limits.peer_bytes_max;
        let kept = self.kept.get_mut(&pid).map(Vec::as_mut_slice).unwrap_or_default();
        for wire in std::mem::take(&mut self.started_for) {
            let own = kept.iter().filter(|kept| kept.wire == wire && kept.what == What::Produced && kept.is_old);
            let bytes: u64 = own.map(|kept| kept.bytes).sum();
            if bytes > max {
                return Err(format!("starts a request while it keeps {bytes} bytes of replies on connection {wire}"));
            }
        }
        kept.iter_mut().for_each(|kept| kept.is_old = true);
        Ok(())
    }
}

/// The largest message of a simulation, and its header.
pub(super) const LARGEST: u64 = 10_000;

/// How long workers wait for a client at least.
const LAG: Duration = Duration::from_secs(2);

/// The most that a message in memory takes beside its payload.
const MESSAGE: u64 = 500;

/// The longest introduction of a broker in a simulation.
const OFFER: u64 = 500;

/// What a client may be sent beside replies: each of its requests may be refused.
const OTHERS: u64 = 30_000;

impl What {
    fn client(self) -> Option<Pid> {
        match self {
            Self::ReplyFor(client) => Some(client),
            Self::Request | Self::Reply | Self::Produced => None,
        }
    }
}
