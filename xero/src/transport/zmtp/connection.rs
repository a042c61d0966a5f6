//! One connection: a stream, its session, and what waits to be written.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use thiserror::Error;
use tokio::{runtime::Handle, task::unconstrained};
use tracing::debug;

use super::{
    engine::{self, Event, Outgoing, Received, Role, Session, Violation},
    stream::{RehomeError, Stream},
};
use crate::transport::contract::{Frames, Limits, Oversized};

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    session: Session,
    outgoing: Outgoing,
    /// Whether the stream's reactor is new to it, and may know less than the system.
    is_doubted: bool,
}

/// A connection whose handshake is complete, and the first bytes behind it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) rest: Vec<u8>,
}

/// Why a handshake has failed.
#[derive(Debug, Error)]
pub(super) enum HandshakeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// An input of a connection.
#[derive(Debug)]
pub(super) enum Input {
    Frames(Frames),
    WrongFrameCount(usize),
    Oversized(Oversized),
}

/// Bytes that have been read and not yet taken by their session. The connections of a socket share one, which grows
/// while reads fill it.
#[derive(Debug)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; INBOX_BYTES_MIN], start: 0, end: 0 }
    }

    /// Drops what is left of a connection that has ended.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Takes what is left, for another time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let rest = self.bytes[self.start..self.end].to_vec();
        self.clear();
        rest
    }

    /// Takes over what was read before: beyond the end of a handshake, or before a pause.
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        self.grow_to(bytes.len());
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        (self.start, self.end) = (0, bytes.len());
    }

    /// Where to read to; nothing of it may be left to take.
    fn room(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() && self.end < INBOX_BYTES_MAX {
            self.grow_to(2 * self.end);
        }
        &mut self.bytes
    }

    fn grow_to(&mut self, bytes: usize) {
        if self.bytes.len() < bytes {
            self.bytes = vec![0; bytes];
        }
    }
}

impl Connection {
    /// Makes the handshake. The caller limits its time.
    pub(super) async fn open(
        stream: Stream,
        role: Role,
        identity: Bytes,
        limits: engine::Limits,
    ) -> Result<Opened, HandshakeError> {
        let mut outgoing = Outgoing::default();
        let session = Session::new(role, identity, limits, &mut outgoing);
        let mut connection = Self { stream, session, outgoing, is_doubted: false };
        let result = poll_fn(|cx| connection.poll_handshake(cx)).await;
        if let Err(HandshakeError::Violation(violation)) = &result {
            connection.session.refuse(violation, &mut connection.outgoing);
            // A peer that does not read need not know.
            let _ = poll_fn(|cx| Poll::Ready(connection.poll_flush(cx))).await;
        }
        Ok(Opened { rest: result?, connection })
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, HandshakeError>> {
        let mut bytes = [0; HANDSHAKE_BYTES];
        loop {
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error.into()));
            }
            let read = ready!(self.stream.poll_read(cx, &mut bytes))?;
            if read == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
            let mut input = &bytes[..read];
            if self.session.receive(&mut input, &mut self.outgoing)?.is_some() {
                // Its READY may still wait to be written; the owner writes it with the first message.
                let _ = self.poll_flush(cx);
                return Poll::Ready(Ok(input.to_vec()));
            }
        }
    }

    /// Reads once, into the inbox or into a large frame. Returns the number of bytes; 0 at the end. The inbox must be
    /// empty.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<usize>> {
        if self.is_doubted {
            match self.stream.read_now(inbox.room()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_doubted = false,
                read => {
                    (inbox.start, inbox.end) = (0, read?);
                    return Poll::Ready(Ok(inbox.end));
                }
            }
        }
        let read = match self.session.body() {
            Some(body) => {
                let (buffer, room) = body.buffer();
                ready!(poll_freely(cx, |cx| self.stream.poll_fill(cx, buffer, room)))?
            }
            None => {
                let room = inbox.room();
                let read = ready!(poll_freely(cx, |cx| self.stream.poll_read(cx, room)))?;
                (inbox.start, inbox.end) = (0, read);
                read
            }
        };
        Poll::Ready(Ok(read))
    }

    /// The next input in what has been read.
    pub(super) fn next(&mut self, inbox: &mut Inbox) -> Result<Option<Input>, Violation> {
        let mut input = &inbox.bytes[inbox.start..inbox.end];
        let event = self.session.receive(&mut input, &mut self.outgoing);
        inbox.start = inbox.end - input.len();
        Ok(match event? {
            Some(Event::Received(received)) => Some(received.into()),
            // Only a handshake gives another event.
            Some(Event::Open) | None => None,
        })
    }

    /// Adds a message to the queue.
    pub(super) fn push(&mut self, frames: Frames) {
        self.outgoing.push_message(frames.header, frames.payload);
    }

    /// Writes the queue. Ready once it is empty, or at an error.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..WRITES_MAX {
            if self.outgoing.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut several;
            let slices = match self.outgoing.only_slice() {
                Some(bytes) => &[IoSlice::new(bytes)][..],
                None => {
                    several = [IoSlice::new(&[]); SLICES_MAX];
                    let count = self.outgoing.slices(&mut several);
                    &several[..count]
                }
            };
            let written = ready!(poll_freely(cx, |cx| self.stream.poll_write(cx, slices)))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
        }
        // A peer that reads as fast as this side writes must not keep the task from everything else.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Moves the connection to this runtime, and has the next polls read what has arrived meanwhile; `false` if that
    /// runtime has no reactor.
    pub(super) fn rehome(&mut self, home: &Handle) -> bool {
        self.is_doubted = true;
        let moved = self.stream.rehome(home);
        if let Err(error) = &moved {
            debug!(%error, "a connection stays with its runtime");
        }
        !matches!(moved, Err(RehomeError::NoReactor(_)))
    }

    pub(super) fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// The memory of the unfinished message.
    pub(super) fn held_bytes(&self) -> usize {
        self.session.held_bytes()
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

impl From<Received> for Input {
    fn from(received: Received) -> Self {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        match received {
            Received::Message { header, payload } => Self::Frames(Frames { header, payload }),
            Received::WrongFrameCount(count) => Self::WrongFrameCount(count),
            Received::Oversized { header, header_bytes, payload_bytes } => Self::Oversized(Oversized {
                header,
                header_bytes: size(header_bytes),
                payload_bytes: size(payload_bytes),
            }),
        }
    }
}

/// Polls outside of Tokio's budget, of which a turn with many connections would use up all.
///
/// Tokio then refuses the rest of them, the same ones in each turn. The turns have bounds of their own.
fn poll_freely<T>(cx: &mut Context<'_>, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    pin!(unconstrained(poll_fn(poll))).poll(cx)
}

/// The part of the limits that the engine asks.
pub(super) fn engine_limits(limits: &Limits) -> engine::Limits {
    let Limits { header_bytes_max, payload_bytes_max, .. } = *limits;
    engine::Limits { header_bytes_max, payload_bytes_max }
}

/// The size of one read of small frames: enough for several full batches, and all that one connection gets in a turn
/// before others.
const INBOX_BYTES_MAX: usize = 64 * 1024;

/// Enough for a batch of usual calls.
const INBOX_BYTES_MIN: usize = 4 * 1024;

/// The size of a read during the handshake: a whole greeting and READY, and little for each of thousands.
const HANDSHAKE_BYTES: usize = 512;

/// The most writes of one flush: some mebibytes, as the system takes them.
const WRITES_MAX: usize = 32;

/// The most slices in one write. More gain nothing: by then, the bytes take longer than the call.
const SLICES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbox_grows_while_reads_fill_it_and_for_what_was_read_before() {
        let mut inbox = Inbox::new();
        assert_eq!(inbox.room().len(), INBOX_BYTES_MIN);
        inbox.end = INBOX_BYTES_MIN - 1;
        assert_eq!(inbox.room().len(), INBOX_BYTES_MIN);
        let mut sizes = vec![];
        for _ in 0..6 {
            inbox.end = inbox.room().len();
            sizes.push(inbox.end);
        }
        assert_eq!(sizes, [4, 8, 16, 32, 64, 64].map(|kibibytes| kibibytes * 1024));

        let (mut inbox, rest) = (Inbox::new(), vec![7; INBOX_BYTES_MAX]);
        inbox.fill(&rest);
        assert_eq!(inbox.take(), rest);
    }
}
