//! What the drivers have in common: one turn is commands and messages at hand, then timeouts, then transmits.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};

use crate::proto::{
    frame::{self, Frames},
    message::Message,
};

/// Commands and messages that are taken in one turn before what they led to is sent: enough to fill a BATCH, and few
/// enough that a flood delays no heartbeat.
pub(crate) const IO_LOOP_BOUND: usize = 512;

/// The machine's next timeout as a future.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Alarm {
    /// Is ready when `at` has come; pending for ever without one.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Option<Instant>) -> Poll<()> {
        let Some(at) = at else { return Poll::Pending };
        match &mut self.sleep {
            Some((current, sleep)) if *current != at => {
                *current = at;
                sleep.as_mut().reset(at.into());
            }
            Some(_) => {}
            None => self.sleep = Some((at, Box::pin(sleep_until(at.into())))),
        }
        match &mut self.sleep {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// The frames of one message, or of a BATCH of several.
pub(crate) fn frames_of(messages: &[Message]) -> Frames {
    match messages {
        [message] => frame::encode(message),
        _ => frame::encode_batch(messages),
    }
}
