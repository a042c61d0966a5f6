//! A ROUTER: many connections, each with a number of its own.
//!
//! Peers are known by their connections alone. The identity that a peer gives itself means nothing here, so nobody can
//! take over the place of another.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::{runtime::Handle, sync::mpsc, task::AbortHandle};
use tracing::debug;

use super::{
    READ_BYTES_MAX,
    accept::{OPENED_MAX, accept},
    connection::{Connection, Inbox, Input, Opened, engine_limits},
    linger::Lingering,
    queue_bytes_max,
    ready::{Ready, Signal},
    stream::Listener,
    unfinished::{Share, Unfinished},
};
use crate::{
    proto::{ids::IdMap, message::Peer},
    transport::{
        contract::{Frames, Limits, PEERS_MAX, QUEUE_MESSAGES_MAX, RouterInput, RouterSocket, SendError},
        home::Home,
        listen::Closer,
    },
};

/// A bound ROUTER.
pub(super) struct Router {
    endpoint: String,
    opened: mpsc::Receiver<Opened>,
    opened_signal: Arc<Signal>,
    peers: IdMap<Peer, Member>,
    last: u64,
    /// Those that have sent nothing: they make way for others once there is no room.
    silent: BTreeSet<Peer>,
    /// Inputs that are known and not reported yet.
    reports: VecDeque<RouterInput>,
    ready: Arc<Ready>,
    /// The numbers to look at, taken from `ready`.
    turn: VecDeque<u64>,
    inbox: Inbox,
    /// The connection that was read last; the inbox holds bytes of it.
    current: Option<Peer>,
    /// Those with something to write.
    unwritten: Vec<Peer>,
    unfinished: Unfinished,
    queue_bytes_max: usize,
    lingering: Lingering,
    home: Home,
    acceptor: AbortHandle,
    _closer: Closer,
}

/// A connection, and its place in the socket.
struct Member {
    connection: Connection,
    signal: Arc<Signal>,
    waker: Waker,
    share: Share,
    /// Whether a message has been completed since the share was recorded.
    has_completed: bool,
    is_unwritten: bool,
    /// A write has failed. What the peer has sent before is still read.
    is_broken: bool,
    /// Whether nothing is read for now.
    is_paused: bool,
    /// What had been read before the pause.
    kept: Vec<u8>,
}

impl RouterSocket for Router {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<RouterInput> {
        let (mut has_taken, mut steps, mut bytes) = (false, 0, 0);
        while steps < STEPS_MAX && bytes < READ_BYTES_MAX {
            steps += 1;
            if let Some(report) = self.reports.pop_front() {
                return Poll::Ready(report);
            }
            if let Some(peer) = self.current {
                if let Some(input) = self.next_of(peer) {
                    return Poll::Ready(input);
                }
                continue;
            }
            match self.turn.pop_front() {
                Some(OPENED) => self.admit(),
                Some(number) => bytes += self.read(Peer(number)),
                // A connection that is woken again at once waits for the next poll, or this one would never end.
                None if has_taken => break,
                None => {
                    self.ready.take(&mut self.turn);
                    has_taken = true;
                }
            }
        }
        self.flush();
        if self.turn.is_empty() && self.reports.is_empty() && self.current.is_none() {
            self.ready.wait(cx);
        } else {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn send(&mut self, peer: Peer, frames: Frames) -> Result<(), SendError> {
        let Some(member) = self.peers.get_mut(&peer) else { return Err(SendError::Gone) };
        let (messages, bytes) = (member.connection.outgoing().messages(), member.connection.outgoing().bytes());
        let error = if member.is_broken {
            SendError::Gone
        } else if messages >= QUEUE_MESSAGES_MAX || bytes > self.queue_bytes_max {
            SendError::Stuck
        } else {
            member.connection.push(frames);
            self.note_unwritten(peer);
            return Ok(());
        };
        debug!(peer = peer.0, ?error, "dropping a peer that accepts no messages");
        self.disconnect(peer);
        self.reports.push_back(RouterInput::Gone(peer));
        self.ready.wake();
        Err(error)
    }

    fn flush(&mut self) {
        for peer in mem::take(&mut self.unwritten) {
            if let Some(member) = self.peers.get_mut(&peer) {
                member.is_unwritten = false;
                member.flush();
            }
        }
    }

    fn disconnect(&mut self, peer: Peer) {
        if let Some(member) = self.remove(peer)
            && !member.is_broken
        {
            self.lingering.end(member.connection);
        }
    }

    fn pause(&mut self, peer: Peer) {
        let Some(member) = self.peers.get_mut(&peer) else { return };
        member.is_paused = true;
        if self.current == Some(peer) {
            member.kept = self.inbox.take();
            self.current = None;
            self.account(peer);
        }
    }

    fn resume(&mut self, peer: Peer) {
        let Some(member) = self.peers.get_mut(&peer) else { return };
        member.is_paused = false;
        member.signal.set_without_waking();
        self.ready.wake();
    }

    fn rehome(&mut self, home: &Handle) -> bool {
        let has_reactor =
            self.home.move_all(home, self.peers.values_mut(), |member, home| member.connection.rehome(home));
        self.peers.values().for_each(|member| member.signal.set_without_waking());
        self.ready.wake();
        has_reactor
    }

    fn is_behind(&self) -> bool {
        !self.turn.is_empty() || !self.reports.is_empty() || self.current.is_some()
    }
}

impl Router {
    pub(super) fn new(endpoint: String, listener: Listener, closer: Closer, limits: &Limits) -> Self {
        let (sender, opened) = mpsc::channel(OPENED_MAX);
        let ready = Arc::new(Ready::default());
        let opened_signal = ready.signal(OPENED);
        // Its first poll is what makes it wake.
        Waker::from(Arc::clone(&opened_signal)).wake();
        Self {
            endpoint,
            opened,
            opened_signal,
            peers: IdMap::default(),
            last: OPENED,
            silent: BTreeSet::new(),
            reports: VecDeque::new(),
            ready,
            turn: VecDeque::new(),
            inbox: Inbox::new(),
            current: None,
            unwritten: Vec::new(),
            unfinished: Unfinished::new(limits),
            queue_bytes_max: queue_bytes_max(limits),
            lingering: Lingering::default(),
            home: Home::default(),
            acceptor: tokio::spawn(accept(listener, engine_limits(limits), sender)).abort_handle(),
            _closer: closer,
        }
    }

    /// Takes one new connection; others follow in the next turns.
    fn admit(&mut self) {
        self.opened_signal.reset();
        let waker = Waker::from(Arc::clone(&self.opened_signal));
        let Poll::Ready(Some(opened)) = self.opened.poll_recv(&mut Context::from_waker(&waker)) else { return };
        self.opened_signal.set_without_waking();
        if self.peers.len() >= PEERS_MAX && !self.make_room() {
            return debug!(PEERS_MAX, "refusing a peer: there are too many");
        }
        let Opened { mut connection, rest } = opened;
        self.home.welcome(&mut connection, |connection, home| connection.rehome(home));
        self.last += 1;
        let peer = Peer(self.last);
        let signal = self.ready.signal(peer.0);
        signal.set_without_waking();
        let member = Member {
            connection,
            waker: Waker::from(Arc::clone(&signal)),
            signal,
            share: Share::default(),
            has_completed: false,
            is_unwritten: false,
            is_broken: false,
            is_paused: false,
            kept: Vec::new(),
        };
        self.peers.insert(peer, member);
        self.silent.insert(peer);
        self.note_unwritten(peer);
        self.reports.push_back(RouterInput::Accepted(peer));
        if !rest.is_empty() {
            self.inbox.fill(&rest);
            self.current = Some(peer);
        }
    }

    /// Ends the oldest connection that has sent nothing, unless there is none.
    fn make_room(&mut self) -> bool {
        let Some(peer) = self.silent.pop_first() else { return false };
        debug!(peer = peer.0, "dropping a silent connection to make room");
        self.end(peer);
        true
    }

    /// Reads once from a connection that may have something to read, or room to write. Returns the number of bytes.
    fn read(&mut self, peer: Peer) -> usize {
        let Some(member) = self.peers.get_mut(&peer) else { return 0 };
        member.signal.reset();
        member.flush();
        if member.is_paused {
            return 0;
        }
        if !member.kept.is_empty() {
            self.inbox.fill(&mem::take(&mut member.kept));
            member.signal.set_without_waking();
            self.current = Some(peer);
            return 0;
        }
        match member.connection.poll_read(&mut Context::from_waker(&member.waker), &mut self.inbox) {
            Poll::Ready(Ok(bytes @ 1..)) => {
                // There may be more, after others have had their turn.
                member.signal.set_without_waking();
                self.current = Some(peer);
                return bytes;
            }
            Poll::Ready(Ok(_)) => self.end(peer),
            Poll::Ready(Err(error)) => {
                debug!(peer = peer.0, %error, "a connection was lost");
                self.end(peer);
            }
            Poll::Pending => {}
        }
        0
    }

    /// The next input in the inbox; none once it is empty, or the connection has ended.
    fn next_of(&mut self, peer: Peer) -> Option<RouterInput> {
        let member = self.peers.get_mut(&peer)?;
        match member.connection.next(&mut self.inbox) {
            Ok(Some(input)) => {
                if !mem::replace(&mut member.has_completed, true) {
                    self.silent.remove(&peer);
                }
                Some(match input {
                    Input::Frames(frames) => RouterInput::Frames(peer, frames),
                    Input::WrongFrameCount(count) => RouterInput::WrongFrameCount(peer, count),
                    Input::Oversized(oversized) => RouterInput::Oversized(peer, oversized),
                })
            }
            Ok(None) => {
                self.current = None;
                self.account(peer);
                None
            }
            Err(violation) => {
                debug!(peer = peer.0, %violation, "dropping a peer that breaks the protocol");
                self.end(peer);
                None
            }
        }
    }

    /// Records what a connection holds after a read, and what it has to answer.
    fn account(&mut self, peer: Peer) {
        let Some(member) = self.peers.get_mut(&peer) else { return };
        let begun = mem::take(&mut member.has_completed);
        self.unfinished.update(peer, &mut member.share, member.connection.held_bytes() + member.kept.len(), begun);
        if !member.connection.outgoing().is_empty() {
            self.note_unwritten(peer);
        }
        while let Some(oldest) = self.unfinished.excess() {
            debug!(peer = oldest.0, "dropping the peer whose unfinished message is the oldest: all hold too much");
            self.end(oldest);
        }
    }

    fn note_unwritten(&mut self, peer: Peer) {
        if let Some(member) = self.peers.get_mut(&peer)
            && !mem::replace(&mut member.is_unwritten, true)
        {
            self.unwritten.push(peer);
        }
    }

    /// Drops a connection that has ended, or must end at once, and reports that.
    fn end(&mut self, peer: Peer) {
        if self.remove(peer).is_some() {
            self.reports.push_back(RouterInput::Gone(peer));
        }
    }

    fn remove(&mut self, peer: Peer) -> Option<Member> {
        let mut member = self.peers.remove(&peer)?;
        self.silent.remove(&peer);
        self.unfinished.update(peer, &mut member.share, 0, false);
        if self.current == Some(peer) {
            self.current = None;
            self.inbox.clear();
        }
        Some(member)
    }
}

impl Member {
    /// Writes what the system takes; its signal reports when it takes more.
    fn flush(&mut self) {
        if self.is_broken {
            return;
        }
        if let Poll::Ready(Err(error)) = self.connection.poll_flush(&mut Context::from_waker(&self.waker)) {
            debug!(%error, "a connection takes no more");
            self.is_broken = true;
            // The end is found by reading.
            self.waker.wake_by_ref();
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.acceptor.abort();
        for (_, member) in self.peers.drain() {
            if !member.is_broken {
                self.lingering.end(member.connection);
            }
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The number that reports new connections. Those of connections follow.
const OPENED: u64 = 0;

/// The most steps of one poll: reads that complete no message must not keep the task from everything else.
const STEPS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

    use super::*;
    use crate::transport::{
        listen::{self, Bound},
        tests::{GREETING, ready},
    };

    async fn stranger(router: &Router, first: &[u8]) -> TcpStream {
        let address = router.endpoint().trim_start_matches("tcp://");
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(&[&GREETING[..], &ready("DEALER"), first].concat()).await.expect("a write");
        stream
    }

    async fn router(limits: &Limits) -> Router {
        let Bound { listener, endpoint, closer } =
            listen::bind(&"tcp://127.0.0.1:0".parse().expect("an endpoint")).await.expect("a listener");
        Router::new(endpoint.to_string(), Listener::new(listener).expect("a listener"), closer, limits)
    }

    #[tokio::test]
    async fn moved_router_is_behind_until_it_has_looked_at_all_connections() {
        let mut router = router(&Limits::default()).await;
        let mut streams = Vec::new();
        for _ in 0..STEPS_MAX + 10 {
            streams.push(stranger(&router, b"").await);
            let accepted = poll_fn(|cx| router.poll_receive(cx)).await;
            assert!(matches!(accepted, RouterInput::Accepted(_)), "{accepted:?}");
        }
        let mut cx = Context::from_waker(Waker::noop());
        assert!(router.rehome(&Handle::current()));
        assert!(router.poll_receive(&mut cx).is_pending());
        assert!(router.is_behind());
        assert!(router.poll_receive(&mut cx).is_pending());
        assert!(!router.is_behind());
    }

    #[tokio::test]
    async fn paused_connection_is_read_on_where_it_stopped() {
        let mut router = router(&Limits::default()).await;
        let mut stream = stranger(&router, &b"\x01\x01h\0\x01p".repeat(3)).await;
        let accepted = poll_fn(|cx| router.poll_receive(cx)).await;
        let RouterInput::Accepted(peer) = accepted else { panic!("{accepted:?}") };
        assert!(matches!(poll_fn(|cx| router.poll_receive(cx)).await, RouterInput::Frames(..)));
        router.pause(peer);
        // What others send is read meanwhile, and nothing of this one.
        let _other = stranger(&router, b"\x01\x01h\0\x01p").await;
        stream.write_all(b"\x01\x01h\0\x01p").await.expect("a write");
        assert!(matches!(poll_fn(|cx| router.poll_receive(cx)).await, RouterInput::Accepted(_)));
        let other = poll_fn(|cx| router.poll_receive(cx)).await;
        assert!(matches!(&other, RouterInput::Frames(from, _) if *from != peer), "{other:?}");
        assert!(router.poll_receive(&mut Context::from_waker(Waker::noop())).is_pending());
        router.resume(peer);
        for _ in 0..3 {
            let kept = timeout(Duration::from_secs(10), poll_fn(|cx| router.poll_receive(cx))).await;
            assert!(matches!(&kept, Ok(RouterInput::Frames(from, _)) if *from == peer), "{kept:?}");
        }
    }

    #[tokio::test]
    async fn peer_whose_message_is_oldest_is_dropped_once_all_hold_too_much() {
        let mut router = router(&Limits { payload_bytes_max: 1 << 20, ..Limits::default() }).await;
        router.unfinished = Unfinished::bounded(1 << 20);
        // A header, and three quarters of a payload of 512 KiB.
        let unfinished = [&b"\0\x01a\x01\x01h\x02\0\0\0\0\0\x08\0\0"[..], &[7; 384 << 10]].concat();
        let mut streams = Vec::new();
        let mut peers = Vec::new();
        for _ in 0..3 {
            streams.push(stranger(&router, &unfinished).await);
            let accepted = poll_fn(|cx| router.poll_receive(cx)).await;
            let RouterInput::Accepted(peer) = accepted else { panic!("{accepted:?}") };
            peers.push(peer);
            let hello = poll_fn(|cx| router.poll_receive(cx)).await;
            assert!(matches!(hello, RouterInput::Frames(..)), "{hello:?}");
        }
        let gone = poll_fn(|cx| router.poll_receive(cx)).await;
        assert!(matches!(gone, RouterInput::Gone(peer) if peer == peers[0]), "{gone:?}");
        // The others complete theirs.
        for (stream, peer) in streams.iter_mut().zip(&peers).skip(1) {
            stream.write_all(&[7; 128 << 10]).await.expect("a write");
            let completed = poll_fn(|cx| router.poll_receive(cx)).await;
            assert!(matches!(completed, RouterInput::Frames(from, _) if from == *peer), "{completed:?}");
        }
        assert!(poll_fn(|cx| Poll::Ready(router.poll_receive(cx).is_pending())).await);
        assert!(router.unfinished.is_empty());
    }

    #[tokio::test]
    async fn silent_connections_make_way_for_new_ones() {
        let Bound { listener, endpoint, closer } =
            listen::bind(&"tcp://127.0.0.1:0".parse().expect("an endpoint")).await.expect("a listener");
        let listener = Listener::new(listener).expect("a listener");
        let mut router = Router::new(endpoint.to_string(), listener, closer, &Limits::default());
        let _silent = (stranger(&router, b"").await, stranger(&router, b"").await);
        let mut accepted = Vec::new();
        while accepted.len() < 2 {
            match poll_fn(|cx| router.poll_receive(cx)).await {
                RouterInput::Accepted(peer) => accepted.push(peer),
                input => panic!("{input:?}"),
            }
        }
        assert!(router.make_room());
        let gone = poll_fn(|cx| router.poll_receive(cx)).await;
        assert!(matches!(gone, RouterInput::Gone(peer) if peer == accepted[0]), "{gone:?}");
        assert!(router.make_room() && !router.make_room());
    }
}
