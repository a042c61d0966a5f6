//! What goes to one peer: small frames gathered in one buffer, large payloads by reference.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{Head, Kind};

/// Bytes that are still to be written, in their order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    chunks: VecDeque<Chunk>,
    /// Gathers what follows the chunks.
    tail: BytesMut,
    tail_messages: usize,
    bytes: usize,
    messages: usize,
    controls: usize,
}

/// Bytes that are complete, and how many messages end in them.
#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    messages: usize,
}

impl Outgoing {
    /// Adds a message; an empty payload is not sent as a frame.
    pub(crate) fn push_message(&mut self, header: Bytes, payload: Bytes) {
        let more = !payload.is_empty();
        self.push_frame(header, more);
        if more {
            self.push_frame(payload, false);
        }
        self.messages += 1;
        match self.chunks.back_mut() {
            // The tail is empty behind a large frame, whose chunk may be written before there is a tail again.
            Some(last) if self.tail.is_empty() => last.messages += 1,
            _ => self.tail_messages += 1,
        }
        if self.tail.len() >= CHUNK_BYTES {
            self.seal();
        }
    }

    /// Adds bytes that belong to the connection itself: its greeting, its commands.
    pub(crate) fn push_control(&mut self, bytes: &[u8]) {
        self.controls += 1;
        self.bytes += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    /// Whether a peer that reads may get another answer to a PING.
    pub(crate) fn has_room_for_control(&self) -> bool {
        self.controls < CONTROLS_MAX
    }

    /// What is to be written, if it is in one piece.
    pub(crate) fn only_slice(&self) -> Option<&[u8]> {
        self.chunks.is_empty().then_some(&self.tail[..])
    }

    /// Fills slices with what is to be written next; returns their number.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = self.chunks.iter().map(|chunk| &chunk.bytes[..]);
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(chunks.chain(tail)) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    /// Drops bytes that have been written.
    pub(crate) fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(chunk) = self.chunks.front_mut() {
            let part = written.min(chunk.bytes.len());
            chunk.bytes.advance(part);
            written -= part;
            if !chunk.bytes.is_empty() {
                return;
            }
            self.messages -= chunk.messages;
            self.chunks.pop_front();
        }
        self.tail.advance(written);
        if self.tail.is_empty() {
            self.messages -= self.tail_messages;
            (self.tail_messages, self.controls) = (0, 0);
            if self.tail.capacity() > IDLE_BYTES_MAX {
                self.tail = BytesMut::new();
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes that are still to be written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The messages that are still to be written; one that has begun counts until the buffer around it is written.
    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    fn push_frame(&mut self, bytes: Bytes, more: bool) {
        let before = self.tail.len();
        Head { kind: Kind::Message { more }, length: bytes.len() as u64 }.write(&mut self.tail);
        self.bytes += self.tail.len() - before + bytes.len();
        if bytes.len() <= GATHERED_BYTES_MAX {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.chunks.push_back(Chunk { bytes, messages: 0 });
        }
    }

    fn seal(&mut self) {
        let (bytes, messages) = (self.tail.split().freeze(), std::mem::take(&mut self.tail_messages));
        self.chunks.push_back(Chunk { bytes, messages });
    }
}

/// The largest frame that is copied into the common buffer: up to here a copy costs less than a slice of its own.
const GATHERED_BYTES_MAX: usize = 8 * 1024;

/// The size of a gathered buffer that is not extended any more, so that extending one never copies much.
const CHUNK_BYTES: usize = 64 * 1024;

/// The largest buffer that an idle connection keeps.
const IDLE_BYTES_MAX: usize = 16 * 1024;

/// The most greetings and commands in the queue. A peer that reads has at most a few PINGs unanswered.
const CONTROLS_MAX: usize = 16;
