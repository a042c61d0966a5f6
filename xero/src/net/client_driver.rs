//! Drives a dispatcher for a client: one that binds, or one that connects to brokers.

use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use super::{
    clock,
    dealers::{Dealers, DealersInput},
    driver::{Driver, drive, frames_of, wake_after},
    endpoint::Endpoint,
    guest::{Guest, Rest},
    io_thread::IoThread,
    panics,
    transport::{self, RouterInput, RouterSocket, SendError},
};
use crate::{
    client::{CallSink, Command, WorkerInfo},
    error::BindError,
    proto::{
        calls::CallFailure,
        dispatch::{Dispatcher, DispatcherConfig, Output},
        frame::{self, Frames, Limits, Malformed},
        message::{CallId, Payload, Peer},
    },
};

/// The ends of a client's channels that the I/O thread holds.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) io: IoThread,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) workers: watch::Sender<Arc<[WorkerInfo]>>,
}

/// Binds the endpoint, tells where, and runs until the machine has closed.
pub(crate) async fn bind(
    endpoint: Endpoint,
    config: Guest<DispatcherConfig>,
    channels: Channels,
    bound: oneshot::Sender<Result<String, BindError>>,
) -> Rest {
    let socket = match transport::transport_for(&endpoint).bind(&endpoint).await {
        Ok(socket) => socket,
        Err(error) => {
            return config.dispose(|| drop(panics::wake(|| bound.send(Err(error.into()))))).await;
        }
    };
    // An error means that nobody waits any more. A waker that panics is no reason to stop.
    if panics::wake(|| bound.send(Ok(socket.endpoint().to_owned()))).is_some_and(|sent| sent.is_err()) {
        return None;
    }
    let limits = config.limits;
    run(config.map(Dispatcher::new), limits, Connections::DialedIn(socket), channels).await
}

/// Connects to the brokers at these endpoints, and runs until the machine has closed.
pub(crate) async fn connect(endpoints: Vec<Endpoint>, config: Guest<DispatcherConfig>, channels: Channels) -> Rest {
    let limits = config.limits;
    let machine = config.map(|config| Dispatcher::dialing(clock::now(), config, endpoints.len() as u64));
    run(machine, limits, Connections::Dialed(Dealers::new(endpoints)), channels).await
}

async fn run(machine: Guest<Dispatcher>, limits: Limits, connections: Connections, channels: Channels) -> Rest {
    let mut driver = ClientDriver {
        machine,
        limits,
        connections,
        channels,
        sinks: HashMap::new(),
        disconnects: Vec::new(),
        closers: Vec::new(),
        have_workers_changed: false,
        is_closed: false,
    };
    let ended = drive(&mut driver).await;
    let ClientDriver { machine, connections, sinks, closers, channels, .. } = driver;
    if let Err(panic) = ended {
        channels.io.crash(machine.beside(panic));
    }
    refuse_the_rest(channels.commands);
    panics::drop_quietly(channels.workers);
    drop(connections);
    // After a panic there are open calls, whose callers learn of it by this.
    sinks.into_values().for_each(panics::drop_quietly);
    let answer = |closer: oneshot::Sender<()>| _ = panics::wake(|| closer.send(()));
    machine.dispose(move || closers.into_iter().for_each(answer)).await
}

/// Tells callers whose calls came too late that nothing was sent.
fn refuse_the_rest(mut commands: mpsc::UnboundedReceiver<Command>) {
    commands.close();
    while let Ok(command) = commands.try_recv() {
        match command {
            Command::Call(_, _, sink) => sink.end(Err(CallFailure::Closed { maybe_executed: false })),
            command => panics::drop_quietly(command),
        }
    }
}

struct ClientDriver {
    /// Holds the policy, which is the user's.
    machine: Guest<Dispatcher>,
    limits: Limits,
    connections: Connections,
    channels: Channels,
    sinks: HashMap<CallId, CallSink>,
    /// Connections to end once what is to be sent to them is on its way.
    disconnects: Vec<Peer>,
    closers: Vec<oneshot::Sender<()>>,
    have_workers_changed: bool,
    is_closed: bool,
}

impl Driver for ClientDriver {
    fn poll_inputs(&mut self, cx: &mut Context<'_>) -> usize {
        let mut taken = 0;
        match self.channels.commands.poll_recv(cx) {
            Poll::Ready(Some(command)) => {
                self.handle_command(clock::now(), command);
                taken += 1;
            }
            // Every handle is gone. The channel stays ready, so it must not count as input.
            Poll::Ready(None) => self.machine.close(clock::now()),
            Poll::Pending => {}
        }
        self.drain_outputs(clock::now());
        if let Poll::Ready(input) = self.connections.poll_receive(cx) {
            taken += self.handle_input(clock::now(), input);
        }
        taken
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
        self.drain_outputs(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    fn transmit(&mut self, now: Instant) {
        while let Some(transmit) = self.machine.poll_transmit() {
            if let Err(error) = self.connections.send(transmit.to, frames_of(&transmit.messages)) {
                debug!(peer = transmit.to.0, ?error, "a message could not be sent");
                match error {
                    SendError::Gone => self.machine.handle_unsent(now, transmit),
                    // Part of it may reach the peer all the same.
                    SendError::Stuck => self.machine.handle_disconnected(now, transmit.to),
                }
                self.drain_outputs(now);
            }
        }
        // Once a turn, however many have come at the same time.
        if mem::take(&mut self.have_workers_changed) {
            self.publish_workers();
        }
        for peer in mem::take(&mut self.disconnects) {
            self.connections.disconnect(peer);
        }
    }

    fn has_ended(&self) -> bool {
        self.is_closed
    }
}

impl ClientDriver {
    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Call(id, spec, sink) => {
                self.sinks.insert(id, sink);
                self.machine.call(now, id, spec);
            }
            Command::Cancel(id) => {
                panics::drop_quietly(self.sinks.remove(&id));
                self.machine.cancel(now, id);
            }
            Command::Counters(sender) => drop(panics::wake(|| sender.send(self.machine.counters()))),
            Command::Wake(time, sender) => wake_after(time, sender),
            Command::Close(sender) => {
                self.closers.push(sender);
                self.machine.close(now);
            }
            Command::Drain(timeout, sender) => {
                self.closers.push(sender);
                self.machine.drain(now, timeout);
            }
        }
    }

    fn handle_input(&mut self, now: Instant, input: DealersInput) -> usize {
        let weight = input.weight();
        let messages = match input {
            DealersInput::Dialed(peer) => {
                self.machine.handle_dialed(now, peer);
                1
            }
            DealersInput::Received(RouterInput::Frames(from, frames)) => self.handle_frames(now, from, frames),
            DealersInput::Received(RouterInput::WrongFrameCount(from, count)) => {
                self.machine.handle_malformed(now, from, &Malformed::frame_count(count));
                1
            }
            DealersInput::Received(RouterInput::Gone(peer)) => {
                self.machine.handle_disconnected(now, peer);
                1
            }
        };
        self.drain_outputs(now);
        weight.max(messages)
    }

    fn handle_frames(&mut self, now: Instant, from: Peer, frames: Frames) -> usize {
        let (limits, mut messages) = (self.limits, 0);
        for decoded in frame::decode(frames, &limits) {
            match decoded {
                Ok(message) => self.machine.handle_message(now, from, message),
                Err(malformed) => self.machine.handle_malformed(now, from, &malformed),
            }
            messages += 1;
            self.drain_outputs(now);
        }
        messages
    }

    fn drain_outputs(&mut self, now: Instant) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Forwarded(_) => {}
                Output::Partial(id, payload, receipt) => {
                    self.machine.release(now, receipt);
                    self.deliver_partial(now, id, payload);
                }
                Output::Ended(id, end, receipt) => {
                    self.machine.release(now, receipt);
                    if let Some(sink) = self.sinks.remove(&id) {
                        sink.end(end);
                    }
                }
                Output::WorkerJoined(_) | Output::WorkerChanged(_) | Output::WorkerLeft(..) => {
                    self.have_workers_changed = true;
                }
                Output::Disconnect(peer) => self.disconnects.push(peer),
                Output::Dial(peer) => self.connections.dial(peer),
                Output::Closed => self.is_closed = true,
            }
        }
    }

    fn deliver_partial(&mut self, now: Instant, id: CallId, payload: Payload) {
        let Some(partials) = self.sinks.get(&id).and_then(|sink| sink.partials.as_ref()) else { return };
        // A waker that panics has been called for a partial reply that is there.
        if panics::wake(|| partials.push(payload)) == Some(false) {
            self.machine.overflow(now, id);
        }
    }

    fn publish_workers(&self) {
        let workers = self.machine.workers().filter_map(WorkerInfo::of).collect();
        panics::wake(|| self.channels.workers.send_replace(workers));
    }
}

/// The connections of a client.
enum Connections {
    /// Workers have dialed in.
    DialedIn(Box<dyn RouterSocket>),
    /// Brokers are dialed.
    Dialed(Dealers),
}

impl Connections {
    fn dial(&mut self, peer: Peer) {
        if let Self::Dialed(dealers) = self {
            dealers.dial(peer);
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<DealersInput> {
        match self {
            Self::DialedIn(socket) => socket.poll_receive(cx).map(DealersInput::Received),
            Self::Dialed(dealers) => dealers.poll_receive(cx),
        }
    }

    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError> {
        match self {
            Self::DialedIn(socket) => socket.send(peer, frames),
            Self::Dialed(dealers) => dealers.send(peer, frames),
        }
    }

    fn disconnect(&mut self, peer: Peer) {
        match self {
            Self::DialedIn(socket) => socket.disconnect(peer),
            Self::Dialed(dealers) => dealers.disconnect(peer),
        }
    }
}
