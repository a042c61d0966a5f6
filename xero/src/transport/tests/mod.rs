//! The transports, tested through their contract.

mod attacks;
mod common;
mod dealers;
mod hostile_routers;
mod interop;
mod sockets;

pub(in crate::transport) use self::sockets::{GREETING, ready};

use std::{
    future::poll_fn,
    ops::{Deref, DerefMut},
    path::PathBuf,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    choice::{Sockets, Transport},
    contract::{DealerInput, DealerSocket, Frames, Limits, RouterInput, RouterSocket, SendError},
    endpoint::Endpoint,
    error::TransportError,
};
use crate::proto::message::Peer;

/// Every implementation of `tcp://` and `ipc://`.
const TRANSPORTS: [Transport; 2] = [Transport::Zmtp, Transport::ZeroMq];

/// Longer than any working operation takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Addresses to bind, and the files to remove afterwards.
#[derive(Debug)]
struct Site {
    transport: Transport,
    limits: Limits,
    text: String,
    directory: Option<PathBuf>,
}

impl Site {
    fn memory() -> Self {
        Self::at(Transport::Zmtp, "inproc://*")
    }

    fn tcp(transport: Transport) -> Self {
        Self::at(transport, "tcp://127.0.0.1:0")
    }

    fn ipc(transport: Transport) -> Self {
        let directory = std::env::temp_dir().join(format!("x{:08x}", Uuid::new_v4().as_fields().0));
        std::fs::create_dir(&directory).expect("a directory");
        let text = format!("ipc://{}/socket", directory.display());
        let mut site = Self::at(transport, &text);
        site.directory = Some(directory);
        site
    }

    fn at(transport: Transport, text: &str) -> Self {
        Self { transport, limits: Limits::default(), text: text.to_owned(), directory: None }
    }

    async fn bind(&self) -> Router {
        self.try_bind(&self.text).await.expect("a bound socket")
    }

    async fn try_bind(&self, text: &str) -> Result<Router, TransportError> {
        let endpoint: Endpoint = text.parse().expect("an endpoint");
        within(self.sockets().bind(&endpoint)).await.map(Router)
    }

    async fn dial(&self, text: &str) -> Dealer {
        self.try_dial(text).await.expect("a connection")
    }

    async fn try_dial(&self, text: &str) -> Result<Dealer, TransportError> {
        let endpoint: Endpoint = text.parse().expect("an endpoint");
        within(self.sockets().dial(&endpoint)).await.map(Dealer)
    }

    /// Connects a DEALER and announces it by a message.
    async fn join(&self, router: &mut Router) -> (Dealer, Peer) {
        let mut dealer = self.dial(router.endpoint()).await;
        dealer.send(frames("hello", "")).expect("a send");
        let (peer, _) = message(router).await;
        (dealer, peer)
    }

    /// A ROUTER and a DEALER, each known to the other.
    async fn pair(&self) -> (Router, Dealer, Peer) {
        let mut router = self.bind().await;
        let (dealer, peer) = self.join(&mut router).await;
        (router, dealer, peer)
    }

    fn sockets(&self) -> Sockets {
        Sockets::new(self.transport, self.limits)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("to be done in time")
}

/// A ROUTER whose messages leave at once.
struct Router(Box<dyn RouterSocket>);

impl Router {
    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError> {
        let sent = self.0.send(peer, frames);
        self.0.flush();
        sent
    }
}

impl Deref for Router {
    type Target = dyn RouterSocket;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl DerefMut for Router {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.0
    }
}

/// A DEALER whose messages leave at once.
struct Dealer(Box<dyn DealerSocket>);

impl Dealer {
    fn send(&mut self, frames: Frames) -> Result<(), SendError> {
        let sent = self.0.send(frames);
        self.0.flush();
        sent
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<DealerInput> {
        self.0.poll_receive(cx)
    }
}

/// The ROUTER's next input, apart from connections that it accepts.
async fn next(router: &mut Router) -> RouterInput {
    loop {
        match within(poll_fn(|cx| router.poll_receive(cx))).await {
            RouterInput::Accepted(_) => {}
            input => return input,
        }
    }
}

/// The DEALER's next input.
async fn reply(dealer: &mut Dealer) -> DealerInput {
    within(poll_fn(|cx| dealer.poll_receive(cx))).await
}

async fn message(router: &mut Router) -> (Peer, Frames) {
    match next(router).await {
        RouterInput::Frames(peer, frames) => (peer, frames),
        input => panic!("{input:?} instead of a message"),
    }
}

async fn assert_gone(router: &mut Router, peer: Peer) {
    match next(router).await {
        RouterInput::Gone(gone) => assert_eq!(gone, peer),
        input => panic!("{input:?} instead of the end of {peer:?}"),
    }
}

async fn assert_reply(dealer: &mut Dealer, expected: &Frames) {
    match reply(dealer).await {
        DealerInput::Frames(frames) => assert_eq!(&frames, expected),
        input => panic!("{input:?} instead of {expected:?}"),
    }
}

async fn assert_ended(dealer: &mut Dealer) {
    let input = reply(dealer).await;
    assert!(matches!(input, DealerInput::Gone), "{input:?} instead of the end");
    assert!(poll_once(|cx| dealer.poll_receive(cx)).is_none(), "the end is reported once");
}

/// A message from a DEALER arrives, and so does the reply.
async fn assert_round_trip(router: &mut Router, dealer: &mut Dealer, peer: Peer) {
    dealer.send(frames("there", "payload")).expect("a send");
    assert_eq!(message(router).await, (peer, frames("there", "payload")));
    router.send(peer, frames("back", "payload")).expect("a send");
    assert_reply(dealer, &frames("back", "payload")).await;
}

/// Does the work while another socket is polled as well, which has nothing to report and may have something to write.
async fn alongside<T>(mut poll: impl FnMut(&mut Context<'_>) -> bool, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        assert!(poll(cx), "nothing to report");
        work.as_mut().poll(cx)
    })
    .await
}

fn poll_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn frames(header: &str, payload: &str) -> Frames {
    Frames { header: Bytes::copy_from_slice(header.as_bytes()), payload: Bytes::copy_from_slice(payload.as_bytes()) }
}
