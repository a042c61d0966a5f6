//! What the drivers have in common: one turn is commands and messages at hand, then timeouts, then transmits.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};

use super::clock;
use crate::proto::{
    frame::{self, Frames},
    message::Message,
};

/// Commands and messages that are taken in one turn before what they led to is sent: enough to fill a BATCH, and few
/// enough that a flood delays no heartbeat.
const IO_LOOP_BOUND: usize = 512;

/// A machine with its sockets and mailbox.
pub(crate) trait Driver {
    /// Takes at most one command and one message of each socket, and drains what they lead to; how many there were.
    fn poll_inputs(&mut self, cx: &mut Context<'_>, now: Instant) -> usize;

    /// Does what is due, and drains what it leads to.
    fn handle_timeout(&mut self, now: Instant);

    /// When something is due next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Sends what is to be sent, then ends the connections that are to be ended.
    fn transmit(&mut self, now: Instant);

    /// Whether the machine has ended.
    fn has_ended(&self) -> bool;
}

/// Takes turns until the machine has ended.
pub(crate) async fn drive(driver: &mut impl Driver) {
    let mut alarm = Alarm::default();
    poll_fn(|cx| poll_turns(driver, &mut alarm, cx)).await;
}

fn poll_turns(driver: &mut impl Driver, alarm: &mut Alarm, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        let taken = take_inputs(driver, cx);
        let now = clock::now();
        // After the messages: a process that was itself frozen must not take its peers for dead.
        let is_due = driver.poll_timeout().is_some_and(|at| at <= now);
        if is_due {
            driver.handle_timeout(now);
        }
        driver.transmit(now);
        if driver.has_ended() {
            return Poll::Ready(());
        }
        if taken >= IO_LOOP_BOUND {
            // More may be at hand: let the transport's own tasks run first, then come back.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // What was due may have opened something that is to be polled before it can wake this task.
        if !is_due && alarm.poll(cx, driver.poll_timeout()).is_pending() {
            return Poll::Pending;
        }
    }
}

fn take_inputs(driver: &mut impl Driver, cx: &mut Context<'_>) -> usize {
    let now = clock::now();
    let mut taken = 0;
    while taken < IO_LOOP_BOUND {
        match driver.poll_inputs(cx, now) {
            0 => break,
            count => taken += count,
        }
    }
    taken
}

/// The frames of one message, or of a BATCH of several.
pub(crate) fn frames_of(messages: &[Message]) -> Frames {
    match messages {
        [message] => frame::encode(message),
        _ => frame::encode_batch(messages),
    }
}

/// The machine's next timeout as a future.
#[derive(Debug, Default)]
struct Alarm {
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Alarm {
    /// Is ready when `at` has come; pending for ever without one.
    fn poll(&mut self, cx: &mut Context<'_>, at: Option<Instant>) -> Poll<()> {
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
