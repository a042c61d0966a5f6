//! Drives a broker, with clients at one ROUTER and workers at the other.

use std::{
    mem,
    ops::{Deref, DerefMut},
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::command::Command;
use crate::{
    error::BindError,
    info::{WorkerInfo, WorkerList},
    io::{
        current::within_drop,
        driver::{Driver, Role, Side},
        errands::Code,
        guest::{Guest, Rest},
        machine::{Connections, Input, Machine, SendError},
        mailbox::Mailbox,
        panics,
        thread::{IoThread, close},
        turns::drive,
        watch::Need,
    },
    proto::{
        broker::{Broker, BrokerConfig, BrokerOutput, Door},
        frame::{Frames, Inbound, Malformed},
        message::Peer,
        outbox::Transmit,
    },
    transport::{Endpoint, RouterSocket, Sockets, Transport, TransportError},
};

/// The ends of a broker's channels that the I/O thread holds.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) io: IoThread,
    pub(crate) mailbox: Mailbox<Command>,
    pub(crate) workers: WorkerList,
    pub(crate) clients: watch::Sender<usize>,
    pub(crate) left: watch::Sender<bool>,
}

/// A broker's endpoints, with the ports that the system chose for port 0.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) frontend: String,
    pub(crate) backend: String,
}

/// Binds both endpoints, reports them, and runs until the machine has closed.
pub(crate) async fn run(
    transport: Transport,
    frontend: Endpoint,
    backend: Endpoint,
    config: Guest<BrokerConfig>,
    channels: Channels,
    bound: oneshot::Sender<Result<Bound, BindError>>,
) -> Rest {
    let doors = match Doors::bind(Sockets::new(transport, config.dispatcher.limits), &frontend, &backend).await {
        Ok(doors) => doors,
        Err(error) => {
            return config.dispose(|| drop(panics::wake(|| bound.send(Err(error))))).await;
        }
    };
    // An error means that nobody waits any more. A panicking waker does not stop the broker.
    if panics::wake(|| bound.send(Ok(doors.bound()))).is_some_and(|sent| sent.is_err()) {
        return None;
    }
    let role = BrokerRole { channels, have_clients_changed: false, is_closed: false };
    let limits = config.dispatcher.limits;
    let (driver, ended) = drive(Driver::new(config.map(BrokerMachine::new), limits, doors, role), None).await;
    let Driver { side: Side { machine, connections: doors, .. }, role, .. } = *driver;
    let Channels { io, mailbox, workers, clients, left } = role.channels;
    if let Err(panic) = ended {
        io.crash(machine.beside(panic));
    }
    // Later commands fail.
    close(mailbox);
    drop(doors);
    panics::drop_quietly(workers);
    panics::drop_quietly(clients);
    let leave = move || {
        panics::wake(|| left.send_replace(true));
        panics::drop_quietly(left);
    };
    machine.dispose(leave).await
}

/// The two sockets.
struct Doors {
    front: Box<dyn RouterSocket>,
    back: Box<dyn RouterSocket>,
    /// The door to look at first, so that no flood at one hides the other.
    next: Door,
}

impl Doors {
    async fn bind(sockets: Sockets, frontend: &Endpoint, backend: &Endpoint) -> Result<Self, BindError> {
        let front = sockets.bind(frontend).await?;
        let back = sockets.bind(backend).await.map_err(|error| match error {
            TransportError::AddressInUse { endpoint } if endpoint.shares_port(frontend) => {
                BindError::SharedPort { frontend: frontend.clone(), backend: endpoint }
            }
            other => other.into(),
        })?;
        Ok(Self { front, back, next: Door::Front })
    }

    fn bound(&self) -> Bound {
        Bound { frontend: self.front.endpoint().to_owned(), backend: self.back.endpoint().to_owned() }
    }

    fn at(&mut self, door: Door) -> &mut Box<dyn RouterSocket> {
        match door {
            Door::Front => &mut self.front,
            Door::Back => &mut self.back,
        }
    }
}

impl Connections<(Door, Peer)> for Doors {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<((Door, Peer), Input)> {
        let (first, second) = match self.next {
            Door::Front => (Door::Front, Door::Back),
            Door::Back => (Door::Back, Door::Front),
        };
        for (door, other) in [(first, second), (second, first)] {
            if let Poll::Ready((peer, input)) = Connections::poll_receive(self.at(door), cx) {
                self.next = other;
                return Poll::Ready(((door, peer), input));
            }
        }
        Poll::Pending
    }

    fn send(&mut self, (door, peer): (Door, Peer), frames: Frames) -> Result<(), SendError> {
        self.at(door).send(peer, frames)
    }

    fn flush(&mut self) {
        self.front.flush();
        self.back.flush();
    }

    fn disconnect(&mut self, (door, peer): (Door, Peer)) {
        self.at(door).disconnect(peer);
    }

    fn pause(&mut self, (door, peer): (Door, Peer)) {
        self.at(door).pause(peer);
    }

    fn resume(&mut self, (door, peer): (Door, Peer)) {
        self.at(door).resume(peer);
    }

    fn is_behind(&self) -> bool {
        self.front.is_behind() || self.back.is_behind()
    }
}

struct BrokerRole {
    channels: Channels,
    have_clients_changed: bool,
    is_closed: bool,
}

type BrokerSide = Side<BrokerMachine, Doors, Code>;

impl Role for BrokerRole {
    type Machine = BrokerMachine;
    type Connections = Doors;
    type Command = Command;
    type Errand = Code;

    fn mailbox(&mut self) -> &mut Mailbox<Command> {
        &mut self.channels.mailbox
    }

    fn handle_command(&mut self, side: &mut BrokerSide, now: Instant, command: Command) {
        match command {
            Command::Counters(sender) => {
                let counters = side.machine.counters();
                side.errands.add_code(move || _ = panics::wake(|| sender.send(counters)));
            }
            Command::Drain => side.machine.drain(now),
            Command::Close => side.machine.close(now),
        }
    }

    fn handle_abandoned(&mut self, side: &mut BrokerSide, now: Instant) {
        side.machine.close(now);
    }

    fn handle_output(&mut self, side: &mut BrokerSide, _: Instant, output: BrokerOutput) {
        match output {
            BrokerOutput::WorkerJoined(peer)
            | BrokerOutput::WorkerChanged(peer)
            | BrokerOutput::WorkerLeft(peer, _) => self.channels.workers.note(peer),
            BrokerOutput::ClientJoined(_) | BrokerOutput::ClientLeft(..) => self.have_clients_changed = true,
            BrokerOutput::Disconnect(door, peer) => side.hang_up((door, peer)),
            BrokerOutput::Closed => self.is_closed = true,
        }
    }

    fn finish_turn(&mut self, side: &mut BrokerSide) {
        let Side { machine, errands, .. } = side;
        self.channels.workers.publish(errands, |peer| machine.worker(peer).and_then(WorkerInfo::of));
        if mem::take(&mut self.have_clients_changed) {
            let (count, clients) = (machine.clients().count(), self.channels.clients.clone());
            errands.add_code(move || _ = panics::wake(|| clients.send_replace(count)));
        }
    }

    fn allows_turns(&self) -> bool {
        // Its handles have little to say, and wait for the answer: nothing is gained on their threads.
        false
    }

    fn is_quiet(&self) -> bool {
        false
    }

    fn need(&self) -> Need {
        Need::News
    }

    fn has_ended(&self) -> bool {
        self.is_closed
    }
}

/// The machine, which holds the policy. The broker leaves after the drop of both, so a policy's `Drop` that waits for
/// the broker returns at once.
struct BrokerMachine(Option<Broker>, Uuid);

impl BrokerMachine {
    fn new(config: BrokerConfig) -> Self {
        let id = config.dispatcher.incarnation;
        Self(Some(Broker::new(config)), id)
    }
}

impl Deref for BrokerMachine {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        self.0.as_ref().expect("only the drop takes it")
    }
}

impl DerefMut for BrokerMachine {
    fn deref_mut(&mut self) -> &mut Broker {
        self.0.as_mut().expect("only the drop takes it")
    }
}

impl Drop for BrokerMachine {
    fn drop(&mut self) {
        let broker = self.0.take();
        within_drop(self.1, || drop(broker));
    }
}

impl Machine for BrokerMachine {
    type Peer = (Door, Peer);
    type Output = BrokerOutput;

    fn handle_accepted(&mut self, now: Instant, (door, peer): (Door, Peer)) {
        (**self).handle_accepted(now, door, peer);
    }

    fn handle_message(&mut self, now: Instant, (door, from): (Door, Peer), message: Inbound) {
        (**self).handle_message(now, door, from, message);
    }

    fn handle_malformed(&mut self, now: Instant, (door, from): (Door, Peer), malformed: &Malformed) {
        (**self).handle_malformed(now, door, from, malformed);
    }

    fn weight(&self, (door, peer): (Door, Peer)) -> usize {
        (**self).weight(door, peer)
    }

    fn handle_disconnected(&mut self, now: Instant, (door, peer): (Door, Peer)) {
        (**self).handle_disconnected(now, door, peer);
    }

    fn handle_unsent(&mut self, now: Instant, (door, _): (Door, Peer), transmit: Transmit) {
        (**self).handle_unsent(now, door, transmit);
    }

    fn handle_heartbeats(&mut self, now: Instant) {
        (**self).handle_heartbeats(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        (**self).handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<((Door, Peer), Transmit)> {
        (**self).poll_transmit().map(|(door, transmit)| ((door, transmit.to), transmit))
    }

    fn recycle(&mut self, (door, _): (Door, Peer), sent: Transmit) {
        (**self).recycle(door, sent);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (**self).poll_timeout()
    }

    fn poll_output(&mut self) -> Option<BrokerOutput> {
        (**self).poll_output()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;

    use crate::proto::frame;

    use super::*;

    #[tokio::test]
    async fn endpoints_take_turns_so_that_a_flood_at_one_does_not_hide_the_other() {
        let anywhere: Endpoint = "inproc://*".parse().expect("an endpoint");
        let sockets = Sockets::new(Transport::default(), frame::Limits::default());
        let mut doors = Doors::bind(sockets, &anywhere, &anywhere).await.expect("two sockets");
        let Bound { frontend, backend } = doors.bound();
        let mut dealers = Vec::new();
        for (text, messages) in [(frontend, 100), (backend, 1)] {
            let endpoint: Endpoint = text.parse().expect("an endpoint");
            let mut dealer = sockets.dial(&endpoint).await.expect("a connection");
            for _ in 0..messages {
                let frames = Frames { header: Bytes::from_static(b"hello"), payload: Bytes::new() };
                dealer.send(frames).expect("a send");
            }
            dealers.push(dealer);
        }
        let mut from = Vec::new();
        for _ in 0..4 {
            let ((door, _), _) = poll_fn(|cx| doors.poll_receive(cx)).await;
            from.push(door);
        }
        assert_eq!(from, [Door::Front, Door::Back, Door::Front, Door::Front]);
    }
}
