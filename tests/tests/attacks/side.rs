//! How an attacker meets its victim: it dials a victim that listens, and listens to a victim that dials.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time::timeout,
};
use uuid::Uuid;
use xero::proto::message::{Message, Role};
use xero_tests::raw::{self, Ready};

use super::scale;

/// The victim's end of a connection.
#[derive(Debug)]
pub(super) enum Side {
    /// The victim listens at this address, for peers of this role.
    Listening { address: String, role: Role },
    /// The victim, of this role, dials all of these again and again.
    Dialing { listeners: Mutex<Vec<TcpListener>>, role: Role },
}

impl Side {
    /// A victim that listens at this endpoint, for peers of this role.
    pub(super) fn listening(endpoint: &str, role: Role) -> Self {
        Self::Listening { address: endpoint.trim_start_matches("tcp://").to_owned(), role }
    }

    /// A victim of this role that dials, and the endpoints to dial.
    pub(super) async fn dialing(role: Role) -> (Self, Vec<String>) {
        let (mut listeners, mut endpoints) = (Vec::new(), Vec::new());
        for _ in 0..LISTENERS {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            endpoints.push(format!("tcp://{}", listener.local_addr().expect("it is bound")));
            listeners.push(listener);
        }
        (Self::Dialing { listeners: Mutex::new(listeners), role }, endpoints)
    }

    pub(super) fn is_dialing(&self) -> bool {
        matches!(self, Self::Dialing { .. })
    }

    /// Whether the victim answers requests.
    pub(super) fn serves(&self) -> bool {
        matches!(self, Self::Listening { role: Role::Client, .. } | Self::Dialing { role: Role::Worker, .. })
    }

    /// The attacker's greeting and ZMTP's READY, with this identity.
    pub(super) fn handshake(&self, identity: &[u8]) -> Vec<u8> {
        let kind = if self.is_dialing() { "ROUTER" } else { "DEALER" };
        [&raw::greeting()[..], &raw::introduction(kind, identity)].concat()
    }

    /// The attacker's own READY: it offers nothing, so it gets no calls of others.
    pub(super) fn ready(&self) -> Ready {
        let role = match self {
            Self::Listening { role, .. } => *role,
            Self::Dialing { .. } => Role::Dispatcher,
        };
        Ready { role, incarnation: Uuid::new_v4(), services: Vec::new(), ..raw::ready() }
    }

    /// The handshake and READY, so that the victim registers the attacker.
    pub(super) fn introduction(&self) -> Vec<u8> {
        [self.handshake(b""), raw::message_bytes(&Message::Ready(self.ready()))].concat()
    }

    async fn meet(&self) -> Option<TcpStream> {
        match self {
            Self::Listening { address, .. } => timeout(MEETING, TcpStream::connect(address)).await.ok()?.ok(),
            Self::Dialing { listeners, .. } => timeout(MEETING, next_dial(&listeners.lock().await)).await.ok(),
        }
    }
}

/// The next connection that its dialer has not given up.
async fn next_dial(listeners: &[TcpListener]) -> TcpStream {
    loop {
        let stream = poll_fn(|cx| {
            let accepted = listeners.iter().find_map(|listener| match listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, _))) => Some(stream),
                _ => None,
            });
            accepted.map_or(Poll::Pending, Poll::Ready)
        });
        let stream = stream.await;
        // Its greeting comes first.
        if matches!(stream.peek(&mut [0]).await, Ok(1..)) {
            return stream;
        }
    }
}

/// One attack on one victim.
#[derive(Debug)]
pub(super) struct Assault {
    pub(super) side: Arc<Side>,
    /// Its process.
    pub(super) victim: u32,
    is_off: AtomicBool,
    meetings: AtomicUsize,
}

impl Assault {
    pub(super) fn new(side: &Arc<Side>, victim: u32) -> Arc<Self> {
        Arc::new(Self { side: Arc::clone(side), victim, is_off: AtomicBool::new(false), meetings: AtomicUsize::new(0) })
    }

    /// Asks the attacker to do no more than it must.
    pub(super) fn call_off(&self) {
        self.is_off.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// The number of connections so far.
    pub(super) fn meetings(&self) -> usize {
        self.meetings.load(Ordering::Relaxed)
    }

    /// The next connection of this many, or of as many as a dialing victim makes.
    pub(super) async fn next_of(&self, count: usize) -> Option<TcpStream> {
        self.next(|| self.meetings() < count * scale() && !(self.is_off() && self.side.is_dialing())).await
    }

    /// The next connection of a flood, which reaches this number at a listening victim.
    pub(super) async fn next_of_flood(&self, least: usize) -> Option<TcpStream> {
        self.next(|| !self.is_off() || (self.meetings() < least * scale() && !self.side.is_dialing())).await
    }

    async fn next(&self, goes_on: impl Fn() -> bool) -> Option<TcpStream> {
        while goes_on() {
            if let Some(stream) = self.side.meet().await {
                self.meetings.fetch_add(1, Ordering::Relaxed);
                return Some(stream);
            }
        }
        None
    }
}

/// Writes the bytes; `false` if the victim has ended the connection, or does not read.
pub(super) async fn write(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    matches!(timeout(WRITING, stream.write_all(bytes)).await, Ok(Ok(())))
}

/// Ends the connection with a reset.
pub(super) fn reset(stream: TcpStream) {
    // The only option of a socket that makes its close a reset.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// The hostile endpoints that a victim dials.
const LISTENERS: usize = 16;

/// How long an attacker waits for a connection before it looks whether it is called off.
const MEETING: Duration = Duration::from_millis(50);

/// How long an attacker waits for a victim that does not read.
const WRITING: Duration = Duration::from_millis(100);
