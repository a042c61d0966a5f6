//! ROUTER and DEALER within one process, for tests, doctests and embedding; they behave like those of `zmtp/`.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;

use super::{
    contract::{
        Backend, DealerInput, DealerSocket, Frames, Limits, PEERS_MAX, QUEUE_MESSAGES_MAX, RouterInput, RouterSocket,
        SendError,
    },
    endpoint::{ANY, Address, Endpoint},
    error::TransportError,
};
use crate::{io::process::Process, proto::message::Peer};

/// Queues between threads and runtimes of one process, under its own names.
#[derive(Debug)]
pub(crate) struct Memory;

#[async_trait]
impl Backend for Memory {
    async fn bind(&self, endpoint: &Endpoint, _: &Limits) -> Result<Box<dyn RouterSocket>, TransportError> {
        let mut names = names();
        let name = match name_of(endpoint)? {
            ANY => names.unused(),
            name => name.to_owned(),
        };
        if names.bound.contains_key(&name) {
            return Err(TransportError::AddressInUse { endpoint: endpoint.clone() });
        }
        let hub = Arc::new(Mutex::new(Hub::default()));
        names.bound.insert(name.clone(), Arc::clone(&hub));
        Ok(Box::new(MemoryRouter { endpoint: Endpoint::inproc(name.clone()).to_string(), name, hub }))
    }

    async fn dial(&self, endpoint: &Endpoint, _: &Limits) -> Result<Box<dyn DealerSocket>, TransportError> {
        if let Some(reason) = endpoint.undialable() {
            return Err(TransportError::NotDialable { endpoint: endpoint.clone(), reason });
        }
        let hub = names().bound.get(name_of(endpoint)?).cloned();
        let peer = hub.as_deref().and_then(|hub| lock(hub).connect());
        match (hub, peer) {
            (Some(hub), Some(peer)) => Ok(Box::new(MemoryDealer { hub, peer, gone: false })),
            _ => Err(TransportError::Refused { endpoint: endpoint.clone() }),
        }
    }
}

/// The names that are bound in this process. Locked before a hub, never after.
fn names() -> MutexGuard<'static, Names> {
    static NAMES: Mutex<Names> = Mutex::new(Names { process: None, bound: BTreeMap::new(), last: 0 });
    let mut names = lock(&NAMES);
    if names.process.as_ref().is_none_or(Process::is_elsewhere) {
        names.process = Some(Process::current());
        // The threads behind names that were bound before a fork are missing here.
        mem::forget(mem::take(&mut names.bound));
    }
    names
}

struct Names {
    /// The process that has bound them; `None` before the first look.
    process: Option<Process>,
    bound: BTreeMap<String, Arc<Mutex<Hub>>>,
    last: u64,
}

impl Names {
    fn unused(&mut self) -> String {
        loop {
            self.last += 1;
            let name = format!("auto-{}", self.last);
            if !self.bound.contains_key(&name) {
                return name;
            }
        }
    }
}

fn name_of(endpoint: &Endpoint) -> Result<&str, TransportError> {
    match endpoint.address() {
        Address::Inproc { name } => Ok(name),
        _ => Err(TransportError::Io { endpoint: endpoint.clone(), source: io::ErrorKind::Unsupported.into() }),
    }
}

/// A bound ROUTER.
struct MemoryRouter {
    endpoint: String,
    name: String,
    hub: Arc<Mutex<Hub>>,
}

impl RouterSocket for MemoryRouter {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<RouterInput> {
        lock(&self.hub).poll_router(cx)
    }

    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError> {
        let (result, wakes) = lock(&self.hub).send_to_dealer(peer, frames);
        wakes.into_iter().for_each(Wake::now);
        result
    }

    fn disconnect(&mut self, peer: Peer) {
        let wake = lock(&self.hub).close_router_side(peer);
        wake.now();
    }
}

impl Drop for MemoryRouter {
    fn drop(&mut self) {
        names().bound.remove(&self.name);
        let wakes = lock(&self.hub).close();
        wakes.into_iter().for_each(Wake::now);
    }
}

impl fmt::Debug for MemoryRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRouter").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A DEALER with one connection.
struct MemoryDealer {
    hub: Arc<Mutex<Hub>>,
    peer: Peer,
    /// Whether the end was reported.
    gone: bool,
}

impl DealerSocket for MemoryDealer {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<DealerInput> {
        if self.gone {
            return Poll::Pending;
        }
        let input = lock(&self.hub).poll_dealer(self.peer, cx);
        self.gone = matches!(input, Poll::Ready(DealerInput::Gone));
        input
    }

    fn send(&mut self, frames: Frames) -> Result<(), SendError> {
        let (result, wakes) = lock(&self.hub).send_to_router(self.peer, frames);
        wakes.into_iter().for_each(Wake::now);
        result
    }
}

impl Drop for MemoryDealer {
    fn drop(&mut self) {
        let wake = lock(&self.hub).close_dealer_side(self.peer);
        wake.now();
    }
}

impl fmt::Debug for MemoryDealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDealer").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// A waker to call after releasing the hub's lock: the woken task may need it at once.
#[must_use]
struct Wake(Option<Waker>);

impl Wake {
    fn now(self) {
        if let Some(waker) = self.0 {
            waker.wake();
        }
    }
}

/// A ROUTER and its connections.
#[derive(Default)]
struct Hub {
    links: BTreeMap<Peer, Link>,
    /// Links with a message for the ROUTER, each once; they take turns.
    ready: VecDeque<Peer>,
    /// Ends to report before anything else.
    gone: VecDeque<Peer>,
    waker: Option<Waker>,
    closed: bool,
    last: u64,
}

/// One connection. It is removed when neither side needs it any more.
#[derive(Default)]
struct Link {
    to_router: VecDeque<Frames>,
    to_dealer: VecDeque<Frames>,
    /// Whether the ROUTER knows the peer, and so must hear of its end.
    known: bool,
    router_left: bool,
    dealer_left: bool,
    /// Whether the link stands in `ready`.
    queued: bool,
    waker: Option<Waker>,
}

impl Hub {
    fn connect(&mut self) -> Option<Peer> {
        if self.closed || self.links.len() >= PEERS_MAX {
            return None;
        }
        self.last += 1;
        self.links.insert(Peer(self.last), Link::default());
        Some(Peer(self.last))
    }

    fn poll_router(&mut self, cx: &mut Context<'_>) -> Poll<RouterInput> {
        if let Some(peer) = self.gone.pop_front() {
            return Poll::Ready(RouterInput::Gone(peer));
        }
        while let Some(peer) = self.ready.pop_front() {
            let Some(link) = self.links.get_mut(&peer) else { continue };
            link.queued = false;
            if let Some(frames) = link.to_router.pop_front() {
                link.known = true;
                let _ = self.make_ready(peer);
                return Poll::Ready(RouterInput::Frames(peer, frames));
            }
            if link.dealer_left {
                let known = link.known;
                self.links.remove(&peer);
                if known {
                    return Poll::Ready(RouterInput::Gone(peer));
                }
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_dealer(&mut self, peer: Peer, cx: &mut Context<'_>) -> Poll<DealerInput> {
        let Some(link) = self.links.get_mut(&peer) else { return Poll::Ready(DealerInput::Gone) };
        if let Some(frames) = link.to_dealer.pop_front() {
            return Poll::Ready(DealerInput::Frames(frames));
        }
        if link.router_left || link.dealer_left {
            return Poll::Ready(DealerInput::Gone);
        }
        link.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send_to_dealer(&mut self, peer: Peer, frames: Frames) -> (Result<(), SendError>, Vec<Wake>) {
        // The ROUTER still reads what a departed peer had sent; the end follows.
        let Some(link) = self.links.get_mut(&peer).filter(|link| !link.router_left && !link.dealer_left) else {
            return (Err(SendError::Gone), Vec::new());
        };
        if link.to_dealer.len() >= QUEUE_MESSAGES_MAX {
            self.gone.push_back(peer);
            return (Err(SendError::Stuck), vec![self.close_router_side(peer), Wake(self.waker.take())]);
        }
        link.to_dealer.push_back(frames);
        (Ok(()), vec![Wake(link.waker.take())])
    }

    fn send_to_router(&mut self, peer: Peer, frames: Frames) -> (Result<(), SendError>, Vec<Wake>) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| !link.router_left && !link.dealer_left) else {
            return (Err(SendError::Gone), Vec::new());
        };
        if link.to_router.len() >= QUEUE_MESSAGES_MAX {
            let dealer = Wake(link.waker.take());
            link.to_dealer.clear();
            return (Err(SendError::Stuck), vec![dealer, self.close_dealer_side(peer)]);
        }
        link.to_router.push_back(frames);
        (Ok(()), vec![self.make_ready(peer)])
    }

    /// Ends a connection at the ROUTER: it reads no more, and the DEALER reads what was sent.
    fn close_router_side(&mut self, peer: Peer) -> Wake {
        let Some(link) = self.links.get_mut(&peer) else { return Wake(None) };
        link.router_left = true;
        link.to_router.clear();
        let wake = Wake(link.waker.take());
        if link.dealer_left {
            self.links.remove(&peer);
        }
        wake
    }

    /// Ends a connection at the DEALER: it reads no more, and the ROUTER reads what was sent.
    fn close_dealer_side(&mut self, peer: Peer) -> Wake {
        let Some(link) = self.links.get_mut(&peer) else { return Wake(None) };
        link.dealer_left = true;
        link.to_dealer.clear();
        if link.router_left {
            self.links.remove(&peer);
            return Wake(None);
        }
        self.make_ready(peer)
    }

    fn make_ready(&mut self, peer: Peer) -> Wake {
        let Some(link) = self.links.get_mut(&peer) else { return Wake(None) };
        let has_input = !link.to_router.is_empty() || link.dealer_left;
        if has_input && !link.queued {
            link.queued = true;
            self.ready.push_back(peer);
        }
        Wake(self.waker.take())
    }

    fn close(&mut self) -> Vec<Wake> {
        self.closed = true;
        let peers: Vec<_> = self.links.keys().copied().collect();
        peers.into_iter().map(|peer| self.close_router_side(peer)).collect()
    }
}

/// Locks even after a panic under the lock: no method leaves a hub half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
