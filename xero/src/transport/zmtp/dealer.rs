//! A DEALER: one connection, for one life.

use std::{
    fmt, mem,
    task::{Context, Poll, Waker},
};

use tokio::runtime::Handle;
use tracing::debug;

use super::{
    READ_BYTES_MAX,
    connection::{Connection, Inbox, Input, Opened},
    linger::Lingering,
    queue_bytes_max,
};
use crate::transport::contract::{DealerInput, DealerSocket, Frames, Limits, QUEUE_MESSAGES_MAX, SendError};

/// A connected DEALER.
pub(super) struct Dealer {
    life: Life,
    inbox: Inbox,
    /// The task that polls the socket: a write that waits must wake it too.
    waker: Waker,
    queue_bytes_max: usize,
    /// Whether the last poll has left something to read.
    is_behind: bool,
}

enum Life {
    Open(Box<Connection>),
    /// Ended, but not reported yet.
    Ending,
    Ended,
}

impl Dealer {
    pub(super) fn new(opened: Opened, limits: &Limits) -> Self {
        let Opened { connection, rest } = opened;
        let mut inbox = Inbox::new();
        inbox.fill(&rest);
        let (waker, queue_bytes_max) = (Waker::noop().clone(), queue_bytes_max(limits));
        Self { life: Life::Open(Box::new(connection)), inbox, waker, queue_bytes_max, is_behind: false }
    }

    /// The next input; `None` at the end of the connection.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Input>> {
        let Life::Open(connection) = &mut self.life else { return Poll::Ready(None) };
        self.is_behind = false;
        let (mut reads, mut bytes) = (0, 0);
        while reads < READS_MAX && bytes < READ_BYTES_MAX {
            match connection.next(&mut self.inbox) {
                Ok(Some(input)) => return Poll::Ready(Some(input)),
                Ok(None) => {}
                Err(violation) => {
                    debug!(%violation, "dropping a peer that breaks the protocol");
                    return Poll::Ready(None);
                }
            }
            // An error shows at the end of what can still be read.
            let _ = connection.poll_flush(cx);
            match connection.poll_read(cx, &mut self.inbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(None),
                Poll::Ready(Ok(read)) => (reads, bytes) = (reads + 1, bytes + read),
                Poll::Ready(Err(error)) => {
                    debug!(%error, "a connection was lost");
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        self.is_behind = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl DealerSocket for Dealer {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<DealerInput> {
        self.waker.clone_from(cx.waker());
        if matches!(self.life, Life::Ended) {
            return Poll::Pending;
        }
        self.poll_next(cx).map(|input| match input {
            Some(Input::Frames(frames)) => DealerInput::Frames(frames),
            Some(Input::WrongFrameCount(count)) => DealerInput::WrongFrameCount(count),
            Some(Input::Oversized(oversized)) => DealerInput::Oversized(oversized),
            None => {
                self.life = Life::Ended;
                DealerInput::Gone
            }
        })
    }

    fn send(&mut self, frames: Frames) -> Result<(), SendError> {
        let Life::Open(connection) = &mut self.life else { return Err(SendError::Gone) };
        let outgoing = connection.outgoing();
        if outgoing.messages() < QUEUE_MESSAGES_MAX && outgoing.bytes() <= self.queue_bytes_max {
            connection.push(frames);
            return Ok(());
        }
        if let Life::Open(connection) = mem::replace(&mut self.life, Life::Ending) {
            Lingering::default().end(*connection);
        }
        self.waker.wake_by_ref();
        Err(SendError::Stuck)
    }

    fn flush(&mut self) {
        if let Life::Open(connection) = &mut self.life {
            // An error shows at the end of what can still be read.
            let _ = connection.poll_flush(&mut Context::from_waker(&self.waker));
        }
    }

    fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn rehome(&mut self, home: &Handle) -> bool {
        self.waker.wake_by_ref();
        match &mut self.life {
            Life::Open(connection) => connection.rehome(home),
            Life::Ending | Life::Ended => true,
        }
    }
}

impl Drop for Dealer {
    fn drop(&mut self) {
        if let Life::Open(connection) = mem::replace(&mut self.life, Life::Ended) {
            Lingering::default().end(*connection);
        }
    }
}

impl fmt::Debug for Dealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dealer").field("is_open", &matches!(self.life, Life::Open(_))).finish_non_exhaustive()
    }
}

/// The most reads of one poll: reads that complete no message must not keep the task from everything else.
const READS_MAX: usize = 64;
