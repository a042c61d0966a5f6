//! The connections of the dialing side: to several endpoints, at most one to each.

use std::{
    future::Future,
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::runtime::Handle;
use tracing::{debug, warn};

use super::{
    choice::Sockets,
    contract::{DealerInput, DealerSocket, Frames, SendError},
    endpoint::Endpoint,
    error::TransportError,
    home::Home,
};
use crate::{
    io::{
        guest::describe_panic,
        machine::{Connections, Input},
    },
    proto::message::Peer,
};

/// DEALER connections to several endpoints, which are the peers 0, 1, 2 …
pub(crate) struct Dealers {
    sockets: Sockets,
    links: Vec<Link>,
    dials: FuturesUnordered<Dial>,
    /// The task that polls the connections: another one may start a dial.
    waker: Waker,
    /// The link to look at first, so that a flood from one hides no other.
    next: usize,
    home: Home,
}

struct Link {
    endpoint: Endpoint,
    socket: Option<Box<dyn DealerSocket>>,
    /// Whether nothing is read for now.
    is_paused: bool,
    /// The reason of the last failed dial.
    complaint: Option<String>,
}

type Dial = Pin<Box<dyn Future<Output = (Peer, Result<Box<dyn DealerSocket>, TransportError>)> + Send>>;

impl Dealers {
    /// Starts without connections.
    pub(crate) fn new(endpoints: Vec<Endpoint>, sockets: Sockets) -> Self {
        let links =
            endpoints.into_iter().map(|endpoint| Link { endpoint, socket: None, is_paused: false, complaint: None });
        let (links, dials, waker) = (links.collect(), FuturesUnordered::new(), Waker::noop().clone());
        Self { sockets, links, dials, waker, next: 0, home: Home::default() }
    }

    /// Starts to connect; [`Input::Dialed`] or the end of the connection follows.
    pub(crate) fn dial(&mut self, peer: Peer) {
        let Some(endpoint) = self.link(peer).map(|link| link.endpoint.clone()) else { return };
        let sockets = self.sockets;
        self.dials.push(Box::pin(async move {
            // Tokio panics if it gets no thread for the look-up.
            let dialed = AssertUnwindSafe(sockets.dial(&endpoint)).catch_unwind().await;
            let failed = |panic| {
                let source = io::Error::other(describe_panic(panic));
                Err(TransportError::Io { endpoint: endpoint.clone(), source })
            };
            (peer, dialed.unwrap_or_else(failed))
        }));
        self.waker.wake_by_ref();
    }

    fn handle_input(&mut self, index: usize, input: DealerInput) -> Input {
        match input {
            DealerInput::Frames(frames) => Input::Frames(frames),
            DealerInput::WrongFrameCount(count) => Input::WrongFrameCount(count),
            DealerInput::Oversized(oversized) => Input::Oversized(oversized),
            DealerInput::Gone => {
                self.links[index].socket = None;
                Input::Gone
            }
        }
    }

    fn poll_dials(&mut self, cx: &mut Context<'_>) -> Poll<(Peer, Input)> {
        let Poll::Ready(Some((peer, dialed))) = self.dials.poll_next_unpin(cx) else { return Poll::Pending };
        let dialed = dialed.map(|mut socket| {
            self.home.welcome(&mut socket, |socket, home| socket.rehome(home));
            socket
        });
        Poll::Ready(match (self.link(peer), dialed) {
            (Some(link), Ok(socket)) => {
                debug!(peer = peer.0, endpoint = %link.endpoint, "connected");
                link.complaint = None;
                (link.socket, link.is_paused) = (Some(socket), false);
                (peer, Input::Dialed)
            }
            (link, dialed) => {
                if let (Some(link), Err(error)) = (link, &dialed) {
                    link.report_failed_dial(peer, error);
                }
                (peer, Input::Gone)
            }
        })
    }

    fn link(&mut self, peer: Peer) -> Option<&mut Link> {
        self.links.get_mut(usize::try_from(peer.0).ok()?)
    }
}

impl Connections<Peer> for Dealers {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<(Peer, Input)> {
        self.waker.clone_from(cx.waker());
        // The back-off limits new connections, so they cannot hide received messages.
        if let Poll::Ready(input) = self.poll_dials(cx) {
            return Poll::Ready(input);
        }
        let count = self.links.len();
        for index in (self.next..count).chain(0..self.next) {
            let Link { socket: Some(socket), is_paused: false, .. } = &mut self.links[index] else { continue };
            let Poll::Ready(input) = socket.poll_receive(cx) else { continue };
            self.next = (index + 1) % count;
            return Poll::Ready((Peer(index as u64), self.handle_input(index, input)));
        }
        Poll::Pending
    }

    /// A connection that does not take the message has ended.
    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError> {
        let Some(link) = self.link(peer) else { return Err(SendError::Gone) };
        let sent = link.socket.as_mut().map_or(Err(SendError::Gone), |socket| socket.send(frames));
        if sent.is_err() {
            link.socket = None;
        }
        sent
    }

    fn flush(&mut self) {
        self.links.iter_mut().filter_map(|link| link.socket.as_mut()).for_each(|socket| socket.flush());
    }

    fn disconnect(&mut self, peer: Peer) {
        if let Some(link) = self.link(peer) {
            link.socket = None;
        }
    }

    fn is_dialing(&self) -> bool {
        true
    }

    fn pause(&mut self, peer: Peer) {
        if let Some(link) = self.link(peer) {
            link.is_paused = true;
        }
    }

    fn resume(&mut self, peer: Peer) {
        if let Some(link) = self.link(peer) {
            link.is_paused = false;
        }
        self.waker.wake_by_ref();
    }

    fn is_behind(&self) -> bool {
        self.links.iter().any(|link| !link.is_paused && link.socket.as_ref().is_some_and(|socket| socket.is_behind()))
    }

    fn rehome(&mut self, home: &Handle) -> bool {
        let sockets = self.links.iter_mut().filter_map(|link| link.socket.as_mut());
        self.home.move_all(home, sockets, |socket, home| socket.rehome(home))
    }
}

impl Link {
    /// Logs each reason once in a row.
    fn report_failed_dial(&mut self, peer: Peer, error: &TransportError) {
        let text = error.to_string();
        if self.complaint.as_ref() == Some(&text) {
            return debug!(peer = peer.0, %error, "could not connect; dialing again");
        }
        warn!(peer = peer.0, %error, "could not connect; dialing again until it works");
        self.complaint = Some(text);
    }
}
