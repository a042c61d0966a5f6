//! Drives a client's dispatcher, which binds or connects to brokers.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    command::{CallSink, Command},
    partials::PartialSender,
};
use crate::{
    error::BindError,
    info::{WorkerInfo, WorkerList},
    io::{
        clock,
        driver::{Driver, Role, Side},
        errands::{self, Code},
        guest::{Guest, Rest},
        machine::{Connections, Input, Machine, SendError},
        mailbox::Mailbox,
        panics,
        thread::IoThread,
        turns::{drive, wake_after},
        watch::Need,
    },
    proto::{
        calls::{CallEnd, CallFailure},
        dispatch::{Dispatcher, DispatcherConfig, Output},
        frame::{Frames, Inbound, Limits, Malformed},
        ids::IdMap,
        message::{CallId, Payload, Peer},
        outbox::Transmit,
    },
    transport::{Dealers, Endpoint, RouterSocket, Sockets, Transport},
};

/// The ends of a client's channels that the I/O thread holds.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) io: IoThread,
    pub(crate) mailbox: Mailbox<Command>,
    pub(crate) workers: WorkerList,
    /// Whether callers handle their commands themselves when nobody else is at work.
    pub(crate) caller_turns: bool,
    /// The runtime that may read the sockets.
    pub(crate) program: Option<Handle>,
}

/// Binds the endpoint, reports it, and runs until the machine has closed.
pub(crate) async fn bind(
    transport: Transport,
    endpoint: Endpoint,
    config: Guest<DispatcherConfig>,
    channels: Channels,
    bound: oneshot::Sender<Result<String, BindError>>,
) -> Rest {
    let socket = match Sockets::new(transport, config.limits).bind(&endpoint).await {
        Ok(socket) => socket,
        Err(error) => {
            return config.dispose(|| drop(panics::wake(|| bound.send(Err(error.into()))))).await;
        }
    };
    // An error means that nobody waits any more. A panicking waker does not stop the client.
    if panics::wake(|| bound.send(Ok(socket.endpoint().to_owned()))).is_some_and(|sent| sent.is_err()) {
        return None;
    }
    let limits = config.limits;
    run(config.map(Dispatcher::new), limits, ClientConnections::DialedIn(socket), channels).await
}

/// Connects to the brokers at these endpoints, and runs until the machine has closed.
pub(crate) async fn connect(
    transport: Transport,
    endpoints: Vec<Endpoint>,
    config: Guest<DispatcherConfig>,
    channels: Channels,
) -> Rest {
    let limits = config.limits;
    let sockets = Sockets::new(transport, limits);
    let machine = config.map(|config| {
        let mut machine = Dispatcher::dialing(clock::now(), config, endpoints.len() as u64);
        machine.name_endpoints(endpoints.iter().map(Endpoint::to_string));
        machine
    });
    run(machine, limits, ClientConnections::Dialed(Dealers::new(endpoints, sockets)), channels).await
}

async fn run(machine: Guest<Dispatcher>, limits: Limits, connections: ClientConnections, channels: Channels) -> Rest {
    let program = channels.program.clone();
    let role = ClientRole { channels, sinks: IdMap::default(), closers: Vec::new(), is_closed: false };
    let (driver, ended) = drive(Driver::new(machine, limits, connections, role), program).await;
    let Driver { side: Side { machine, connections, .. }, role, .. } = *driver;
    let ClientRole { sinks, closers, channels, .. } = role;
    if let Err(panic) = ended {
        channels.io.crash(machine.beside(panic));
    }
    refuse_the_rest(channels.mailbox);
    panics::drop_quietly(channels.workers);
    drop(connections);
    // After a panic there are open calls, whose callers learn of it by this drop.
    sinks.into_iter().for_each(|(_, sink)| panics::drop_quietly(sink));
    let answer = |closer: oneshot::Sender<()>| _ = panics::wake(|| closer.send(()));
    machine.dispose(move || closers.into_iter().for_each(answer)).await
}

/// Ends late calls with the report that nothing was sent.
fn refuse_the_rest(mut mailbox: Mailbox<Command>) {
    mailbox.close();
    while let Ok(command) = mailbox.take() {
        match command {
            Command::Call(_, _, sink) => sink.end(Err(CallFailure::Closed { maybe_executed: false })),
            command => panics::drop_quietly(command),
        }
    }
}

struct ClientRole {
    channels: Channels,
    sinks: IdMap<CallId, CallSink>,
    closers: Vec<oneshot::Sender<()>>,
    is_closed: bool,
}

type ClientSide = Side<Dispatcher, ClientConnections, Errand>;

/// User code that a client's turn leads to. The common ones need no memory of their own.
enum Errand {
    End(CallSink, CallEnd),
    Partial(PartialSender, Payload),
    Code(Code),
}

impl From<Code> for Errand {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl errands::Errand for Errand {
    fn run(self) {
        match self {
            Self::End(sink, end) => sink.end(end),
            // If a waker panics, the partial reply is already in the channel.
            Self::Partial(partials, payload) => _ = panics::wake(|| partials.push(payload)),
            Self::Code(code) => code(),
        }
    }
}

impl Role for ClientRole {
    type Machine = Dispatcher;
    type Connections = ClientConnections;
    type Command = Command;
    type Errand = Errand;

    fn mailbox(&mut self) -> &mut Mailbox<Command> {
        &mut self.channels.mailbox
    }

    fn handle_command(&mut self, side: &mut ClientSide, now: Instant, command: Command) {
        match command {
            Command::Call(id, spec, sink) => {
                self.sinks.insert(id, sink);
                side.machine.call(now, id, spec);
            }
            Command::Cancel(id) => {
                if let Some(sink) = self.sinks.remove(&id) {
                    side.errands.add_code(move || panics::drop_quietly(sink));
                }
                side.machine.cancel(now, id);
            }
            Command::Counters(sender) => {
                let counters = side.machine.counters();
                side.errands.add_code(move || _ = panics::wake(|| sender.send(counters)));
            }
            Command::Wake(time, sender) => wake_after(time, sender),
            Command::Close(sender) => {
                self.closers.push(sender);
                side.machine.close(now);
            }
            Command::Drain(timeout, sender) => {
                self.closers.push(sender);
                side.machine.drain(now, timeout);
            }
        }
    }

    fn handle_abandoned(&mut self, side: &mut ClientSide, now: Instant) {
        side.machine.close(now);
    }

    fn handle_output(&mut self, side: &mut ClientSide, now: Instant, output: Output) {
        match output {
            Output::Forwarded(_) => {}
            Output::Partial(id, payload, receipt) => {
                side.machine.release(now, receipt);
                self.deliver_partial(side, now, id, payload);
            }
            Output::Ended(id, end, receipt) => {
                side.machine.release(now, receipt);
                if let Some(sink) = self.sinks.remove(&id) {
                    side.errands.add(Errand::End(sink, end));
                }
            }
            Output::WorkerJoined(peer) | Output::WorkerChanged(peer) | Output::WorkerLeft(peer, _) => {
                self.channels.workers.note(peer);
            }
            Output::Disconnect(peer) => side.hang_up(peer),
            Output::Dial(peer) => side.connections.dial(peer),
            Output::Closed => self.is_closed = true,
        }
    }

    fn finish_turn(&mut self, side: &mut ClientSide) {
        let Side { machine, errands, .. } = side;
        self.channels.workers.publish(errands, |peer| machine.worker(peer).and_then(WorkerInfo::of));
    }

    fn allows_turns(&self) -> bool {
        self.channels.caller_turns
    }

    fn is_quiet(&self) -> bool {
        self.sinks.is_empty()
    }

    fn need(&self) -> Need {
        if self.sinks.is_empty() { Need::News } else { Need::Replies }
    }

    fn has_ended(&self) -> bool {
        self.is_closed
    }
}

impl ClientRole {
    fn deliver_partial(&mut self, side: &mut ClientSide, now: Instant, id: CallId, payload: Payload) {
        let Some(partials) = self.sinks.get(&id).and_then(|sink| sink.partials.as_ref()) else { return };
        match partials.reserve(payload.bytes.len()) {
            true => side.errands.add(Errand::Partial(partials.clone(), payload)),
            false => side.machine.overflow(now, id),
        }
    }
}

impl Machine for Dispatcher {
    type Peer = Peer;
    type Output = Output;

    fn handle_dialed(&mut self, now: Instant, peer: Peer) {
        self.handle_dialed(now, peer);
    }

    fn handle_accepted(&mut self, now: Instant, peer: Peer) {
        self.handle_accepted(now, peer);
    }

    fn handle_message(&mut self, now: Instant, from: Peer, message: Inbound) {
        self.handle_message(now, from, message);
    }

    fn handle_malformed(&mut self, now: Instant, from: Peer, malformed: &Malformed) {
        self.handle_malformed(now, from, malformed);
    }

    fn weight(&self, peer: Peer) -> usize {
        self.weight(peer)
    }

    fn handle_disconnected(&mut self, now: Instant, peer: Peer) {
        self.handle_disconnected(now, peer);
    }

    fn handle_unsent(&mut self, now: Instant, _: Peer, transmit: Transmit) {
        self.handle_unsent(now, transmit);
    }

    fn handle_heartbeats(&mut self, now: Instant) {
        self.handle_heartbeats(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn poll_transmit(&mut self) -> Option<(Peer, Transmit)> {
        self.poll_transmit().map(|transmit| (transmit.to, transmit))
    }

    fn recycle(&mut self, _: Peer, sent: Transmit) {
        self.recycle(sent);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.poll_output()
    }
}

/// The connections of a client.
enum ClientConnections {
    /// Workers have dialed in.
    DialedIn(Box<dyn RouterSocket>),
    /// Brokers are dialed.
    Dialed(Dealers),
}

impl ClientConnections {
    fn dial(&mut self, peer: Peer) {
        if let Self::Dialed(dealers) = self {
            dealers.dial(peer);
        }
    }

    fn any(&mut self) -> &mut dyn Connections<Peer> {
        match self {
            Self::DialedIn(socket) => socket,
            Self::Dialed(dealers) => dealers,
        }
    }
}

impl Connections<Peer> for ClientConnections {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<(Peer, Input)> {
        self.any().poll_receive(cx)
    }

    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError> {
        self.any().send(peer, frames)
    }

    fn flush(&mut self) {
        self.any().flush();
    }

    fn disconnect(&mut self, peer: Peer) {
        self.any().disconnect(peer);
    }

    fn is_dialing(&self) -> bool {
        matches!(self, Self::Dialed(_))
    }

    fn pause(&mut self, peer: Peer) {
        self.any().pause(peer);
    }

    fn resume(&mut self, peer: Peer) {
        self.any().resume(peer);
    }

    fn rehome(&mut self, home: &Handle) -> bool {
        self.any().rehome(home)
    }

    fn is_behind(&self) -> bool {
        match self {
            Self::DialedIn(socket) => socket.is_behind(),
            Self::Dialed(dealers) => dealers.is_behind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::mailbox::mailbox;

    #[test]
    fn callers_take_turns_only_if_the_settings_allow_it() {
        for caller_turns in [true, false] {
            let (_commands, mailbox) = mailbox();
            let workers = WorkerList::new().0;
            let channels = Channels { io: IoThread::new(), mailbox, workers, caller_turns, program: None };
            let role = ClientRole { channels, sinks: IdMap::default(), closers: Vec::new(), is_closed: false };
            assert_eq!(role.allows_turns(), caller_turns);
        }
    }
}
