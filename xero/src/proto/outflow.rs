//! Windows for replies: the sender holds back what its caller has no room for (`PROTOCOL.md` §9).

use std::collections::VecDeque;

use super::{
    fault::{Fault, planted},
    message::Message,
};

/// Replies to one caller, in order. No more leaves once the bytes that it has not acknowledged reach its window; so what
/// waits in the transport is the window and one payload at most.
#[derive(Debug, Default)]
pub(crate) struct Outflow {
    /// 0 for no bound.
    window: u64,
    sent: u64,
    acked: u64,
    held: VecDeque<Message>,
    held_bytes: usize,
}

impl Outflow {
    pub(crate) fn new(window: u64) -> Self {
        Self { window, ..Self::default() }
    }

    /// The caller has announced another window.
    pub(crate) fn set_window(&mut self, window: u64) {
        self.window = window;
    }

    /// Takes a reply; [`Self::poll`] gives it when it may be sent.
    pub(crate) fn push(&mut self, message: Message) {
        self.held_bytes += message.payload_bytes();
        self.held.push_back(message);
    }

    /// The caller has taken so many bytes since its introduction.
    pub(crate) fn acknowledge(&mut self, bytes: u64) {
        self.acked = bytes.clamp(self.acked, self.sent);
    }

    /// The next reply that may be sent.
    pub(crate) fn poll(&mut self) -> Option<Message> {
        if self.window != 0 && !planted(Fault::ReplyWindowExceeded) && self.sent - self.acked >= self.window {
            return None;
        }
        let message = self.held.pop_front()?;
        self.held_bytes -= message.payload_bytes();
        self.sent += message.payload_bytes() as u64;
        Some(message)
    }

    /// Payload bytes that are held back.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// What a caller has taken of a peer's replies, and when to tell it.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    taken: u64,
    told: u64,
}

impl Intake {
    /// Takes a reply's bytes. `Some` is what to acknowledge: a quarter of the window has come since the last time.
    pub(crate) fn take(&mut self, bytes: usize, window: u64) -> Option<u64> {
        self.taken += bytes as u64;
        let is_due = window != 0 && bytes != 0 && self.taken - self.told >= window.div_ceil(4);
        is_due.then(|| {
            self.told = self.taken;
            self.taken
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::message::{CallId, FinalReply, Payload};

    #[test]
    fn replies_are_held_once_the_window_is_full_and_leave_in_order_when_there_is_room() {
        let mut outflow = Outflow::new(100);
        (0..4).for_each(|call| outflow.push(reply(call, 60)));
        assert_eq!((next(&mut outflow), next(&mut outflow), next(&mut outflow)), (Some(0), Some(1), None));
        assert_eq!(outflow.held_bytes(), 120);
        outflow.acknowledge(20);
        assert_eq!(next(&mut outflow), None);
        outflow.acknowledge(60);
        assert_eq!((next(&mut outflow), next(&mut outflow)), (Some(2), None));
        outflow.acknowledge(180);
        assert_eq!((next(&mut outflow), outflow.is_empty(), outflow.held_bytes()), (Some(3), true, 0));
    }

    #[test]
    fn no_window_holds_nothing_and_one_reply_fits_any_window() {
        let mut unbounded = Outflow::new(0);
        (0..3).for_each(|call| unbounded.push(reply(call, 1 << 20)));
        assert_eq!(std::iter::from_fn(|| next(&mut unbounded)).count(), 3);
        let mut narrow = Outflow::new(1);
        narrow.push(reply(7, 1 << 20));
        assert_eq!(next(&mut narrow), Some(7));
    }

    #[test]
    fn false_acknowledgements_open_no_more_than_the_window() {
        let mut outflow = Outflow::new(10);
        (0..3).for_each(|call| outflow.push(reply(call, 10)));
        assert_eq!((next(&mut outflow), next(&mut outflow)), (Some(0), None));
        outflow.acknowledge(u64::MAX);
        assert_eq!((next(&mut outflow), next(&mut outflow)), (Some(1), None));
        outflow.acknowledge(3);
        assert_eq!(next(&mut outflow), None);
    }

    #[test]
    fn sender_that_has_filled_the_window_is_always_told() {
        for window in [1, 2, 3, 4, 5, 100, 1 << 20] {
            let (mut intake, mut unacked) = (Intake::default(), 0);
            for _ in 0..window.min(1000) {
                unacked += 1;
                if intake.take(1, window).is_some() {
                    unacked = 0;
                }
                assert!(unacked < window, "a window of {window} is full, and nobody says that it was taken");
            }
        }
        assert_eq!(Intake::default().take(1 << 30, 0), None, "nothing is told without a window");
    }

    fn reply(call: u64, bytes: usize) -> Message {
        let payload = Payload { bytes: vec![0; bytes].into(), ..Payload::default() };
        Message::Final(FinalReply { call: CallId(call), partials: 0, payload })
    }

    fn next(outflow: &mut Outflow) -> Option<u64> {
        match outflow.poll()? {
            Message::Final(reply) => Some(reply.call.0),
            other => panic!("not a reply: {other:?}"),
        }
    }
}
