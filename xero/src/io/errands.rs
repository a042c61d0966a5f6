//! User code that turns lead to: wakers, and drops of user values. It runs after the turn, when the desk is free.
//!
//! A caller's thread may hold a lock that the code takes, such as its executor's. So that thread leaves it to whoever has
//! the sockets. Code that takes long holds up what follows it, but no turn.

use std::{
    mem,
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::process::Process;

/// A piece of user code, which catches its own panics.
pub(crate) trait Errand: From<Code> + Send + 'static {
    fn run(self);
}

/// Any code.
pub(crate) type Code = Box<dyn FnOnce() + Send>;

impl Errand for Code {
    fn run(self) {
        self();
    }
}

/// The errands of one turn.
#[derive(Debug)]
pub(crate) struct Errands<E>(Vec<E>);

impl<E: Errand> Errands<E> {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Has the errand run after the turn.
    pub(crate) fn add(&mut self, errand: E) {
        self.0.push(errand);
    }

    /// Has the code run after the turn.
    pub(crate) fn add_code(&mut self, code: impl FnOnce() + Send + 'static) {
        self.add(E::from(Box::new(code)));
    }

    /// Runs the errands now.
    #[cfg(test)]
    pub(crate) fn run(&mut self) {
        self.0.drain(..).for_each(E::run);
    }
}

/// The errands of all turns in their order, of which one thread at a time runs some.
#[derive(Debug)]
pub(super) struct Queue<E> {
    waiting: Mutex<Vec<E>>,
    /// Whether there may be some. Whoever puts one runs it afterwards, or calls another thread to do so.
    are_there: AtomicBool,
    /// Held by the thread that runs them.
    running: Mutex<Vec<E>>,
    process: Process,
}

impl<E: Errand> Queue<E> {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            are_there: AtomicBool::new(false),
            running: Mutex::default(),
            process: Process::current(),
        }
    }

    /// Adds a turn's errands, and returns whether there were any. To be called at the desk, which orders the turns.
    pub(super) fn put(&self, errands: &mut Errands<E>) -> bool {
        if errands.0.is_empty() {
            return false;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.is_empty() {
            true => mem::swap(&mut *waiting, &mut errands.0),
            false => waiting.append(&mut errands.0),
        }
        self.are_there.store(true, Ordering::Release);
        true
    }

    /// Runs the errands at hand, unless another thread is at it. Returns whether more have come meanwhile.
    ///
    /// Either this finds that nobody runs errands, or whoever does finds those put before.
    pub(super) fn run(&self) -> bool {
        if !self.are_there() {
            return false;
        }
        let mut running = match self.running.try_lock() {
            Ok(running) => running,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        self.run_some(&mut running);
        drop(running);
        // In a child process, the lock may be held by a thread that is not there.
        !self.process.is_elsewhere() && self.are_waiting()
    }

    /// Whether errands may wait.
    pub(super) fn are_there(&self) -> bool {
        self.are_there.load(Ordering::Acquire)
    }

    /// Waits until no thread runs errands, and runs all that are left.
    pub(super) fn finish(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while self.are_waiting() {
            self.run_some(&mut running);
        }
    }

    fn are_waiting(&self) -> bool {
        !self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn run_some(&self, running: &mut Vec<E>) {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut *waiting, running);
            self.are_there.store(false, Ordering::Release);
        }
        let mut errands = running.drain(..);
        while let Some(errand) = errands.next() {
            errand.run();
            if self.process.is_elsewhere() {
                // It has forked: the others belong to the parent process.
                return mem::forget(errands);
            }
        }
        drop(errands);
        running.shrink_to(KEPT_MAX);
    }
}

/// The errands for which room is kept: those of a turn. More are a burst, whose memory returns.
const KEPT_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
    };

    use super::*;

    #[test]
    fn errands_run_in_the_order_of_turns_and_only_once_put() {
        let (queue, (sender, receiver)) = (Queue::<Code>::new(), mpsc::channel());
        let mut turn = Errands::new();
        assert!(!queue.put(&mut turn));
        for numbers in [[1, 2], [3, 4]] {
            for number in numbers {
                let sender = sender.clone();
                turn.add_code(move || sender.send(number).expect("read below"));
            }
            assert!(queue.put(&mut turn));
        }
        assert_eq!(receiver.try_recv().ok(), None);
        assert!(!queue.run());
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(!queue.run());
    }

    #[test]
    fn one_thread_at_a_time_runs_errands_and_learns_of_those_that_came_meanwhile() {
        let (queue, (sender, receiver)) = (Arc::new(Queue::<Code>::new()), mpsc::channel());
        let put = |code: Code| {
            let mut turn = Errands::new();
            turn.add(code);
            assert!(queue.put(&mut turn));
        };
        let (begun, has_begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        put(Box::new(move || {
            begun.send(()).expect("read below");
            goes_on.recv().expect("sent below");
        }));
        let runner = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.run()
        });
        has_begun.recv().expect("the errand runs");
        put(Box::new(move || sender.send(thread::current().id()).expect("read below")));
        assert!(!queue.run(), "another thread is at it");
        assert!(receiver.try_recv().is_err());
        go_on.send(()).expect("waited for");
        assert!(runner.join().expect("no panic"), "one has come meanwhile");
        queue.finish();
        assert_eq!(receiver.try_recv(), Ok(thread::current().id()));
    }

    #[test]
    fn errand_may_put_and_run_others() {
        let (queue, (sender, receiver)) = (Arc::new(Queue::<Code>::new()), mpsc::channel());
        let mut turn = Errands::new();
        let inner = Arc::clone(&queue);
        turn.add_code(move || {
            let mut nested = Errands::new();
            nested.add_code(move || sender.send(()).expect("read below"));
            assert!(inner.put(&mut nested) && !inner.run());
        });
        queue.put(&mut turn);
        assert!(queue.run());
        assert!(receiver.try_recv().is_err());
        assert!(!queue.run());
        assert_eq!(receiver.try_recv(), Ok(()));
    }

    #[test]
    fn memory_of_a_burst_of_errands_returns() {
        let queue = Queue::<Code>::new();
        let mut turn = Errands::new();
        (0..100_000).for_each(|_| turn.add_code(|| {}));
        queue.put(&mut turn);
        queue.run();
        assert!(queue.running.lock().expect("not poisoned").capacity() <= KEPT_MAX);
        assert!(queue.waiting.lock().expect("not poisoned").capacity() <= KEPT_MAX);
        assert!(turn.0.capacity() <= KEPT_MAX);
    }
}
