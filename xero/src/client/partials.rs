//! Partial replies between the I/O thread and the caller that reads them: bounded by number and by bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use crate::proto::message::Payload;

/// The most unread partial replies of a call: enough for a burst, too few for a leak.
const UNREAD_MAX: usize = 1024;

/// The most bytes of unread partial replies; a larger one is kept if it is the only one.
const UNREAD_BYTES_MAX: usize = 16 << 20;

/// The two ends of the queue of a call's partial replies.
pub(crate) fn channel() -> (PartialSender, PartialReceiver) {
    let (sender, receiver) = mpsc::channel(UNREAD_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    (PartialSender { sender, bytes: Arc::clone(&bytes) }, PartialReceiver { receiver, bytes })
}

/// The I/O thread's end.
#[derive(Debug)]
pub(crate) struct PartialSender {
    sender: mpsc::Sender<Payload>,
    bytes: Arc<AtomicUsize>,
}

impl PartialSender {
    /// Keeps a partial reply for the caller; `false` when too much is unread.
    pub(crate) fn push(&self, payload: Payload) -> bool {
        let size = payload.bytes.len();
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        let fits = before == 0 || before + size <= UNREAD_BYTES_MAX;
        // The call of a dropped receiver is cancelled anyway.
        fits && !matches!(self.sender.try_send(payload), Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct PartialReceiver {
    receiver: mpsc::Receiver<Payload>,
    bytes: Arc<AtomicUsize>,
}

impl PartialReceiver {
    /// The next partial reply; `None` when there are no more.
    pub(crate) async fn next(&mut self) -> Option<Payload> {
        let payload = self.receiver.recv().await?;
        self.bytes.fetch_sub(payload.bytes.len(), Ordering::Relaxed);
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CallError, Never};

    #[tokio::test]
    async fn unread_partial_replies_are_bounded_by_number() {
        let (sender, mut receiver) = channel();
        assert!((0..UNREAD_MAX).all(|_| sender.push(payload(1))));
        receiver.next().await;
        assert!(sender.push(payload(1)));
        assert!(!sender.push(payload(1)));
    }

    #[tokio::test]
    async fn unread_partial_replies_are_bounded_by_bytes_and_one_always_fits() {
        let (sender, mut receiver) = channel();
        assert!(sender.push(payload(UNREAD_BYTES_MAX + 1)));
        assert!(receiver.next().await.is_some());
        assert!(sender.push(payload(UNREAD_BYTES_MAX - 1)) && sender.push(payload(1)));
        assert!(!sender.push(payload(1)));
    }

    #[test]
    fn error_names_both_bounds() {
        let error = CallError::<Never>::PartialsUnread { received: 1_030 }.to_string();
        assert!(error.contains("1030 have arrived, and a caller may leave at most 1,024 of them unread, or 16 MiB "));
        assert_eq!((UNREAD_MAX, UNREAD_BYTES_MAX), (1_024, 16 << 20));
    }

    fn payload(bytes: usize) -> Payload {
        Payload { bytes: vec![0; bytes].into(), ..Payload::default() }
    }
}
