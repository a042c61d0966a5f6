//! Polls a future to its end on a thread that may block, outside of any runtime.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

/// Runs the future on this thread, which sleeps while it waits.
///
/// Unlike `Handle::block_on`, it leaves the thread free to enter a runtime: the future may block on another future, and
/// drop a runtime of its own.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(Arc::clone(&signal));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        signal.wait();
    }
}

/// Whether to poll the future again. Not `thread::park`, which an executor inside the future may use too.
#[derive(Default)]
struct Signal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn wait(&self) {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_set = self.changed.wait_while(is_set, |is_set| !*is_set).unwrap_or_else(PoisonError::into_inner);
        *is_set = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, thread};

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn future_that_wakes_itself_is_polled_again() {
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 3 { Poll::Pending } else { Poll::Ready(()) }
        }));
        assert_eq!(polls, 3);
    }

    #[test]
    fn future_is_woken_from_another_thread_and_may_run_another_one_meanwhile() {
        let (sender, receiver) = oneshot::channel();
        let thread = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(async { block_on(receiver) }), Ok(7));
        assert!(thread.join().is_ok_and(|sent| sent.is_ok()));
    }
}
