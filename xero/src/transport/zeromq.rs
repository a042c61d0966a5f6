//! ROUTER and DEALER over TCP and Unix sockets, by the `zeromq` crate; no other file names that crate.
//!
//! This file relies on these facts of version 0.7.0, each held by a test:
//!
//! - A send waits while the peer's queue is full. It then holds a map entry that the end of that peer needs too. So
//!   sends are polled, never awaited, and their futures dropped before the peer is (`poll_briefly`).
//! - Dropping a peer by `peer_disconnected` closes its reading half at once, and its writing half once its queue is
//!   written.
//! - Only the monitor reports a connection's acceptance and its end. The accepting task registers a connection and
//!   reports it to the monitor without yielding in between. So on a single-threaded runtime, where sockets live, a
//!   second connection under a known identity is seen before anything can be read from it or sent to it.
//! - Dropping a socket closes its connections, but an unfinished handshake joins it afterwards.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_channel::mpsc;
use futures_util::{Stream, stream};
use tokio::{
    net::TcpStream,
    runtime::Handle,
    time::{sleep, timeout},
};
use tracing::{debug, trace};
use zeromq::{
    DealerSendHalf, MultiPeerBackend, RouterSendHalf, Socket, SocketEvent, SocketOptions, SocketRecv, SocketSend,
    ZmqError, ZmqMessage, ZmqResult, util::PeerIdentity,
};

use super::{
    contract::{
        Backend, DIAL_TIMEOUT, DealerInput, DealerSocket, Frames, Limits, PEERS_MAX, RouterInput, RouterSocket,
        SendError,
    },
    endpoint::{Address, Endpoint, Host},
    error::TransportError,
    listen::{self, Bound, Closer, Listener},
    peers::{Admission, Peers},
};
use crate::proto::message::Peer;

/// ZeroMQ over TCP and Unix sockets.
#[derive(Debug)]
pub(crate) struct ZeroMq;

#[async_trait]
impl Backend for ZeroMq {
    async fn bind(&self, endpoint: &Endpoint, _: &Limits) -> Result<Box<dyn RouterSocket>, TransportError> {
        let Bound { listener, endpoint: bound, closer } = listen::bind(endpoint).await?;
        let listener = match listener {
            Listener::Tcp(listener) => zeromq::Listener::from(listener),
            #[cfg(unix)]
            Listener::Unix(listener) => zeromq::Listener::from(listener),
        };
        let mut socket = zeromq::RouterSocket::new();
        let backend = socket.backend();
        let events = watch(&*backend);
        socket.bind_listener(listener).await.map_err(|error| other(endpoint, error))?;
        let (sender, receiver) = socket.split();
        Ok(Box::new(ZmqRouter {
            endpoint: bound.to_string(),
            sender,
            messages: messages(receiver),
            backend,
            events,
            peers: Peers::default(),
            reports: VecDeque::new(),
            waker: None,
            _closer: closer,
        }))
    }

    async fn dial(&self, endpoint: &Endpoint, _: &Limits) -> Result<Box<dyn DealerSocket>, TransportError> {
        if let Some(reason) = endpoint.undialable() {
            return Err(TransportError::NotDialable { endpoint: endpoint.clone(), reason });
        }
        #[cfg(not(windows))]
        let _reserved = listen::reserve(endpoint).await;
        let mut options = SocketOptions::default();
        // The ROUTER of a taken identity would mistake this connection for that identity's earlier life.
        let identity = PeerIdentity::new();
        options.peer_identity(identity.clone()).connect_timeout(DIAL_TIMEOUT);
        let mut socket = zeromq::DealerSocket::with_options(options);
        let mut events = watch(&*socket.backend());
        if let Err(error) = socket.connect(&endpoint.to_string()).await {
            return Err(explain(endpoint, error).await);
        }
        // Nobody else has this identity.
        if matches!(events.try_recv(), Ok(SocketEvent::Connected(_, peer)) if peer == identity) {
            return Err(TransportError::SelfConnected { endpoint: endpoint.clone() });
        }
        let (sender, receiver) = socket.split();
        let connection = Connection { sender, messages: messages(receiver), events };
        Ok(Box::new(ZmqDealer { life: Life::Open(connection), waker: None }))
    }
}

/// A bound ROUTER.
struct ZmqRouter {
    endpoint: String,
    sender: RouterSendHalf,
    messages: Messages,
    backend: Arc<dyn MultiPeerBackend>,
    events: mpsc::Receiver<SocketEvent>,
    peers: Peers,
    /// Connections and ends that are still to be reported.
    reports: VecDeque<RouterInput>,
    waker: Option<Waker>,
    _closer: Closer,
}

impl RouterSocket for ZmqRouter {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<RouterInput> {
        remember(&mut self.waker, cx);
        loop {
            // The ends come first, so that no flood of messages hides them. By then, a connection that ended by itself
            // has been read to its last message.
            while let Poll::Ready(Some(event)) = Pin::new(&mut self.events).poll_next(cx) {
                self.handle_event(event);
            }
            if let Some(report) = self.reports.pop_front() {
                return Poll::Ready(report);
            }
            match self.messages.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    if let Some(input) = self.receive(message) {
                        return Poll::Ready(input);
                    }
                }
                // A ROUTER's `recv` has no errors of its own; if it had, polling on could spin.
                Poll::Ready(_) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError> {
        // A connection that has taken an identity over must not get messages for its predecessor.
        while let Ok(event) = self.events.try_recv() {
            self.handle_event(event);
        }
        let Some(identity) = self.peers.identity(peer) else { return Err(SendError::Gone) };
        let error = match poll_briefly(self.sender.send(pack(Some(identity), frames))) {
            Some(Ok(())) => return Ok(()),
            Some(Err(_)) => SendError::Gone,
            None => SendError::Stuck,
        };
        debug!(peer = peer.0, ?error, "dropping a peer that accepts no messages");
        self.drop_peer(peer);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Err(error)
    }

    fn disconnect(&mut self, peer: Peer) {
        if let Some(identity) = self.peers.remove(peer) {
            end(&*self.backend, identity);
        }
    }
}

impl ZmqRouter {
    fn handle_event(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Accepted(_, identity) => match self.accept(&identity) {
                Admission::Fresh(peer) => self.reports.push_back(RouterInput::Accepted(peer)),
                Admission::Known => {}
                Admission::Full => self.backend.peer_disconnected(&identity),
                Admission::Taken(before) => {
                    debug!(before = before.0, "dropping a peer under whose identity another one has connected");
                    self.backend.peer_disconnected(&identity);
                    self.reports.push_back(RouterInput::Gone(before));
                }
            },
            SocketEvent::Disconnected(identity) => {
                self.reports.extend(self.peers.forget(&identity).map(RouterInput::Gone));
            }
            SocketEvent::AcceptFailed(error) => debug!(%error, "a connection was not accepted"),
            _ => {}
        }
    }

    fn accept(&mut self, identity: &[u8]) -> Admission {
        match self.peers.accept(identity) {
            Admission::Full => self.make_room().accept(identity),
            admission => admission,
        }
    }

    /// Ends the silent connections, because there is no room for others.
    fn make_room(&mut self) -> &mut Peers {
        for peer in self.peers.silent() {
            debug!(peer = peer.0, "dropping a silent connection to make room");
            self.drop_peer(peer);
        }
        &mut self.peers
    }

    /// Ends a connection, and reports that.
    fn drop_peer(&mut self, peer: Peer) {
        self.disconnect(peer);
        self.reports.push_back(RouterInput::Gone(peer));
    }

    fn receive(&mut self, message: ZmqMessage) -> Option<RouterInput> {
        let mut frames = message.into_vecdeque();
        let identity = frames.pop_front()?;
        let peer = self.peers.hear(&identity).or_else(|| self.make_room().hear(&identity));
        let Some(peer) = peer else {
            debug!(PEERS_MAX, "refusing a peer: there are too many");
            end(&*self.backend, identity);
            return None;
        };
        Some(match unpack(frames) {
            Ok(frames) => RouterInput::Frames(peer, frames),
            Err(count) => RouterInput::WrongFrameCount(peer, count),
        })
    }
}

impl Drop for ZmqRouter {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let backend = Arc::clone(&self.backend);
        runtime.spawn(async move {
            // An unfinished handshake has joined by now; its peer must learn that nobody is there.
            sleep(DIAL_TIMEOUT).await;
            backend.shutdown();
        });
    }
}

impl fmt::Debug for ZmqRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZmqRouter").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A DEALER with one connection.
struct ZmqDealer {
    life: Life,
    waker: Option<Waker>,
}

enum Life {
    Open(Connection),
    /// Ended, but not reported yet.
    Ending,
    Ended,
}

struct Connection {
    sender: DealerSendHalf,
    messages: Messages,
    events: mpsc::Receiver<SocketEvent>,
}

impl DealerSocket for ZmqDealer {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<DealerInput> {
        remember(&mut self.waker, cx);
        let Life::Open(connection) = &mut self.life else {
            return match std::mem::replace(&mut self.life, Life::Ended) {
                Life::Ending => Poll::Ready(DealerInput::Gone),
                _ => Poll::Pending,
            };
        };
        match connection.messages.as_mut().poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => {
                return Poll::Ready(match unpack(message.into_vecdeque()) {
                    Ok(frames) => DealerInput::Frames(frames),
                    Err(count) => DealerInput::WrongFrameCount(count),
                });
            }
            // An error can repeat without end.
            Poll::Ready(_) => {}
            Poll::Pending => {
                if connection.poll_end(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        }
        self.life = Life::Ended;
        Poll::Ready(DealerInput::Gone)
    }

    fn send(&mut self, frames: Frames) -> Result<(), SendError> {
        let Life::Open(connection) = &mut self.life else { return Err(SendError::Gone) };
        let error = match poll_briefly(connection.sender.send(pack(None, frames))) {
            Some(Ok(())) => return Ok(()),
            Some(Err(_)) => SendError::Gone,
            None => SendError::Stuck,
        };
        self.life = Life::Ending;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Err(error)
    }
}

impl Connection {
    /// Ready when the connection has ended: only the monitor reports an orderly end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match Pin::new(&mut self.events).poll_next(cx) {
                Poll::Ready(Some(SocketEvent::Disconnected(_)) | None) => return Poll::Ready(()),
                Poll::Ready(Some(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl fmt::Debug for ZmqDealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZmqDealer").field("open", &matches!(self.life, Life::Open(_))).finish_non_exhaustive()
    }
}

/// Received messages; holds the `recv` future from one poll to the next.
type Messages = Pin<Box<dyn Stream<Item = ZmqResult<ZmqMessage>> + Send>>;

fn messages(receiver: impl SocketRecv + Send + 'static) -> Messages {
    Box::pin(stream::unfold(receiver, |mut receiver| async move {
        let result = receiver.recv().await;
        Some((result, receiver))
    }))
}

/// Replaces the socket's monitor by one with room for the end of every peer, which a single poll can find.
fn watch(backend: &dyn MultiPeerBackend) -> mpsc::Receiver<SocketEvent> {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    backend.monitor().lock().replace(sender);
    events
}

/// Drops a connection: writes its queue, reads nothing more.
fn end(backend: &dyn MultiPeerBackend, identity: Bytes) {
    match PeerIdentity::try_from(identity) {
        Ok(identity) => backend.peer_disconnected(&identity),
        Err(error) => debug!(%error, "received an invalid identity"),
    }
}

/// Polls a send to its end, if it ends at once, and drops it.
///
/// A waiting send holds the peer's map entry, which is free again when this returns.
fn poll_briefly<T>(send: impl Future<Output = T>) -> Option<T> {
    let mut send = pin!(send);
    for _ in 0..SEND_POLLS {
        if let Poll::Ready(result) = send.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(result);
        }
        // On a runtime of many threads another thread may hold the map for a moment.
        std::thread::yield_now();
    }
    None
}

fn pack(identity: Option<Bytes>, frames: Frames) -> ZmqMessage {
    let mut message = ZmqMessage::from(frames.header);
    if !frames.payload.is_empty() {
        message.push_back(frames.payload);
    }
    if let Some(identity) = identity {
        message.push_front(identity);
    }
    message
}

/// A message's frames, or their number if it is wrong.
fn unpack(mut frames: VecDeque<Bytes>) -> Result<Frames, usize> {
    match (frames.len(), frames.pop_front(), frames.pop_front()) {
        (1 | 2, Some(header), payload) => {
            let payload = payload.unwrap_or_default();
            // The crate reads small frames into the buffer behind a large one, which they would keep.
            let payload = if payload.len() <= READ_BYTES { Bytes::copy_from_slice(&payload) } else { payload };
            Ok(Frames { header, payload })
        }
        (count, ..) => Err(count),
    }
}

/// The room that the crate reads into beyond the frame that it expects.
const READ_BYTES: usize = 64 * 1024;

fn remember(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

/// The meaning of a failed dial.
///
/// The crate retries a refused connection until its time is over, and then reports only a time-out. One more attempt of
/// our own finds the difference.
async fn explain(endpoint: &Endpoint, error: ZmqError) -> TransportError {
    trace!(%endpoint, %error, "a dial failed");
    match error {
        ZmqError::ConnectTimeout(after) => {
            let endpoint = endpoint.clone();
            match timeout(PROBE_TIMEOUT, probe(&endpoint)).await {
                Ok(Err(error)) => error,
                Ok(Ok(())) => TransportError::Silent { endpoint, after },
                Err(_) => TransportError::TimedOut { endpoint, after },
            }
        }
        ZmqError::Network(source) => match timeout(PROBE_TIMEOUT, probe(endpoint)).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => TransportError::Unreachable { endpoint: endpoint.clone(), source },
        },
        error => TransportError::WrongProtocol { endpoint: endpoint.clone(), reason: error.to_string() },
    }
}

async fn probe(endpoint: &Endpoint) -> Result<(), TransportError> {
    let connected = match endpoint.address() {
        Address::Tcp { host, port } => {
            let host = match host {
                Host::Ip(ip) => ip.to_string(),
                Host::Name(name) => name.clone(),
                Host::Any => return Ok(()),
            };
            let found = tokio::net::lookup_host((host, *port)).await;
            let found = found.map_err(|source| TransportError::Resolve { endpoint: endpoint.clone(), source })?;
            TcpStream::connect(&*found.collect::<Vec<_>>()).await.map(drop)
        }
        #[cfg(unix)]
        Address::Ipc { path } => tokio::net::UnixStream::connect(path).await.map(drop),
        #[cfg(not(unix))]
        Address::Ipc { .. } => return Ok(()),
        Address::Inproc { .. } => return Ok(()),
    };
    connected.map_err(|source| TransportError::of_dial(endpoint, source))
}

fn other(endpoint: &Endpoint, error: ZmqError) -> TransportError {
    let source = match error {
        ZmqError::Network(source) => source,
        error => io::Error::other(error),
    };
    TransportError::Io { endpoint: endpoint.clone(), source }
}

/// Room for the acceptance and the end of every peer between two polls.
///
/// Heartbeats find out what does not fit and is lost.
const EVENTS_MAX: usize = 2 * PEERS_MAX;

/// How often a send is polled. A single thread needs one poll; a few more outlast another thread that holds the map.
const SEND_POLLS: usize = 8;

/// The time limit of the attempt that explains a failed dial.
const PROBE_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(250);

#[cfg(test)]
pub(super) mod raw {
    //! Raw sockets of the crate, for tests that do what our own sockets never do.

    use super::*;

    /// A DEALER that sends any number of frames, under any identity.
    pub(in crate::transport) struct RawDealer(zeromq::DealerSocket);

    impl RawDealer {
        pub(in crate::transport) async fn dial(endpoint: &str, identity: &[u8]) -> Self {
            let mut options = SocketOptions::default();
            options.peer_identity(PeerIdentity::try_from(identity).expect("an identity"));
            let mut socket = zeromq::DealerSocket::with_options(options);
            socket.connect(endpoint).await.expect("a connection");
            Self(socket)
        }

        pub(in crate::transport) async fn send(&mut self, frames: Vec<Bytes>) {
            self.0.send(frames.try_into().expect("a frame")).await.expect("a send");
        }

        pub(in crate::transport) async fn receive(&mut self) -> Vec<Bytes> {
            self.0.recv().await.expect("a message").into_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acceptance_and_the_end_of_every_peer_fit_between_two_polls() {
        let mut socket = zeromq::RouterSocket::new();
        let backend = socket.backend();
        let mut events = watch(&*backend);
        for _ in 0..EVENTS_MAX {
            let event = SocketEvent::Disconnected(PeerIdentity::new());
            backend.monitor().lock().as_mut().expect("a monitor").try_send(event).expect("room");
        }
        assert_eq!(std::iter::from_fn(|| events.try_recv().ok()).count(), EVENTS_MAX);
        assert!(socket.binds().is_empty());
    }
}
