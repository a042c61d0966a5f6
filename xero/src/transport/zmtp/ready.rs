//! Which connections of a socket have something to do: each has a waker of its own.
//!
//! So a poll of the socket touches only those, however many there are.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// The connections that were woken, in that order, and the task that looks at them.
#[derive(Debug, Default)]
pub(super) struct Ready(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    woken: VecDeque<u64>,
    waker: Option<Waker>,
}

/// The waker of one connection.
#[derive(Debug)]
pub(super) struct Signal {
    number: u64,
    /// Whether the number is in the queue, or with the owner of the queue.
    is_queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Ready {
    /// A waker that reports this number.
    pub(super) fn signal(self: &Arc<Self>, number: u64) -> Arc<Signal> {
        Arc::new(Signal { number, is_queued: AtomicBool::new(false), ready: Arc::clone(self) })
    }

    /// Takes all numbers. The signal of each must be reset before its connection is polled.
    pub(super) fn take(&self, numbers: &mut VecDeque<u64>) {
        numbers.append(&mut self.lock().woken);
    }

    /// Lets the task sleep until a number is reported; wakes it at once if there is one.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let mut state = self.lock();
        if !state.woken.is_empty() {
            return cx.waker().wake_by_ref();
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.waker = Some(cx.waker().clone()),
        }
    }

    /// Wakes the task for another reason.
    pub(super) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signal {
    /// Reports from now on that the connection must be polled again.
    pub(super) fn reset(&self) {
        self.is_queued.store(false, Ordering::Release);
    }

    /// Queues the number behind the others. The task, which calls this itself, looks at the queue before it waits.
    pub(super) fn set_without_waking(&self) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.ready.lock().woken.push_back(self.number);
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            // The waker is called without the lock: the task may need it at once.
            let waker = {
                let mut state = self.ready.lock();
                state.woken.push_back(self.number);
                state.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn woken_connection_is_reported_once_until_it_is_reset() {
        let ready = Arc::new(Ready::default());
        let signals = [ready.signal(1), ready.signal(2)];
        let mut numbers = VecDeque::new();
        signals.iter().rev().chain(&signals).for_each(|signal| signal.wake_by_ref());
        ready.take(&mut numbers);
        assert_eq!(numbers, [2, 1]);
        numbers.clear();
        signals[0].wake_by_ref();
        ready.take(&mut numbers);
        assert!(numbers.is_empty());
        signals[0].reset();
        signals[0].wake_by_ref();
        ready.take(&mut numbers);
        assert_eq!(numbers, [1]);
    }

    #[test]
    fn task_is_woken_by_what_comes_before_and_after_it_waits() {
        let ready = Arc::new(Ready::default());
        let task = Arc::new(Ready::default()).signal(0);
        let waker = Waker::from(Arc::clone(&task));
        let was_woken = || {
            let was_woken = task.is_queued.load(Ordering::Acquire);
            task.reset();
            was_woken
        };
        ready.signal(1).wake();
        ready.wait(&Context::from_waker(&waker));
        assert!(was_woken());
        ready.take(&mut VecDeque::new());
        ready.wait(&Context::from_waker(&waker));
        assert!(!was_woken());
        ready.signal(2).wake();
        assert!(was_woken());
    }
}
