//! The transports, tested through their contract.

mod common;
mod dealers;
mod sockets;

use std::{
    future::poll_fn,
    path::PathBuf,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    choice::transport_for,
    contract::{DealerInput, DealerSocket, Frames, RouterInput, RouterSocket},
    endpoint::Endpoint,
    error::TransportError,
};
use crate::proto::message::Peer;

/// Longer than any working operation takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Addresses to bind, and the files to remove afterwards.
#[derive(Debug)]
struct Site {
    text: String,
    directory: Option<PathBuf>,
}

impl Site {
    fn memory() -> Self {
        Self::at("inproc://*")
    }

    fn tcp() -> Self {
        Self::at("tcp://127.0.0.1:0")
    }

    fn ipc() -> Self {
        let directory = std::env::temp_dir().join(format!("x{:08x}", Uuid::new_v4().as_fields().0));
        std::fs::create_dir(&directory).expect("a directory");
        Self { text: format!("ipc://{}/socket", directory.display()), directory: Some(directory) }
    }

    fn at(text: &str) -> Self {
        Self { text: text.to_owned(), directory: None }
    }

    async fn bind(&self) -> Box<dyn RouterSocket> {
        try_bind(&self.text).await.expect("a bound socket")
    }

    /// A ROUTER and a DEALER, each known to the other.
    async fn pair(&self) -> (Box<dyn RouterSocket>, Box<dyn DealerSocket>, Peer) {
        let mut router = self.bind().await;
        let (dealer, peer) = join(&mut router).await;
        (router, dealer, peer)
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

async fn try_bind(text: &str) -> Result<Box<dyn RouterSocket>, TransportError> {
    let endpoint: Endpoint = text.parse().expect("an endpoint");
    within(transport_for(&endpoint).bind(&endpoint)).await
}

async fn try_dial(text: &str) -> Result<Box<dyn DealerSocket>, TransportError> {
    let endpoint: Endpoint = text.parse().expect("an endpoint");
    within(transport_for(&endpoint).dial(&endpoint)).await
}

async fn dial(text: &str) -> Box<dyn DealerSocket> {
    try_dial(text).await.expect("a connection")
}

/// Connects a DEALER and announces it by a message.
async fn join(router: &mut Box<dyn RouterSocket>) -> (Box<dyn DealerSocket>, Peer) {
    let mut dealer = dial(router.endpoint()).await;
    dealer.send(frames("hello", "")).expect("a send");
    let (peer, _) = message(router).await;
    (dealer, peer)
}

/// The ROUTER's next input, apart from connections that it accepts.
async fn next(router: &mut Box<dyn RouterSocket>) -> RouterInput {
    loop {
        match within(poll_fn(|cx| router.poll_receive(cx))).await {
            RouterInput::Accepted(_) => {}
            input => return input,
        }
    }
}

/// The DEALER's next input.
async fn reply(dealer: &mut Box<dyn DealerSocket>) -> DealerInput {
    within(poll_fn(|cx| dealer.poll_receive(cx))).await
}

async fn message(router: &mut Box<dyn RouterSocket>) -> (Peer, Frames) {
    match next(router).await {
        RouterInput::Frames(peer, frames) => (peer, frames),
        input => panic!("{input:?} instead of a message"),
    }
}

async fn assert_gone(router: &mut Box<dyn RouterSocket>, peer: Peer) {
    match next(router).await {
        RouterInput::Gone(gone) => assert_eq!(gone, peer),
        input => panic!("{input:?} instead of the end of {peer:?}"),
    }
}

async fn assert_reply(dealer: &mut Box<dyn DealerSocket>, expected: &Frames) {
    match reply(dealer).await {
        DealerInput::Frames(frames) => assert_eq!(&frames, expected),
        input => panic!("{input:?} instead of {expected:?}"),
    }
}

async fn assert_ended(dealer: &mut Box<dyn DealerSocket>) {
    let input = reply(dealer).await;
    assert!(matches!(input, DealerInput::Gone), "{input:?} instead of the end");
    assert!(poll_once(|cx| dealer.poll_receive(cx)).is_none(), "the end is reported once");
}

/// A message from a DEALER arrives, and so does the reply.
async fn assert_round_trip(router: &mut Box<dyn RouterSocket>, dealer: &mut Box<dyn DealerSocket>, peer: Peer) {
    dealer.send(frames("there", "payload")).expect("a send");
    assert_eq!(message(router).await, (peer, frames("there", "payload")));
    router.send(peer, frames("back", "payload")).expect("a send");
    assert_reply(dealer, &frames("back", "payload")).await;
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
