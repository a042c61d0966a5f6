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
    /// A place for this partial reply; `None` when too much is unread.
    pub(crate) fn reserve(&self, payload: &Payload) -> Option<Place> {
        let size = payload.bytes.len();
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        if before > 0 && before + size > UNREAD_BYTES_MAX {
            return None;
        }
        match self.sender.clone().try_reserve_owned() {
            Ok(permit) => Some(Place(Some(permit))),
            Err(mpsc::error::TrySendError::Full(_)) => None,
            // The call of a dropped receiver is cancelled anyway.
            Err(mpsc::error::TrySendError::Closed(_)) => Some(Place(None)),
        }
    }
}

/// A place among the unread partial replies. Places are filled in the order in which they were reserved.
#[derive(Debug)]
pub(crate) struct Place(Option<mpsc::OwnedPermit<Payload>>);

impl Place {
    /// Keeps the partial reply for the caller, and wakes it.
    pub(crate) fn fill(self, payload: Payload) {
        if let Some(permit) = self.0 {
            permit.send(payload);
        }
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
        assert!((0..UNREAD_MAX).all(|_| push(&sender, payload(1))));
        receiver.next().await;
        assert!(push(&sender, payload(1)));
        assert!(!push(&sender, payload(1)));
    }

    #[tokio::test]
    async fn unread_partial_replies_are_bounded_by_bytes_and_one_always_fits() {
        let (sender, mut receiver) = channel();
        assert!(push(&sender, payload(UNREAD_BYTES_MAX + 1)));
        assert!(receiver.next().await.is_some());
        assert!(push(&sender, payload(UNREAD_BYTES_MAX - 1)) && push(&sender, payload(1)));
        assert!(!push(&sender, payload(1)));
    }

    fn push(sender: &PartialSender, payload: Payload) -> bool {
        sender.reserve(&payload).map(|place| place.fill(payload)).is_some()
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
