//! A driver that several threads share: the I/O thread, and whoever has something to say.
//!
//! One thread at a time takes a turn. Whoever puts a command into the mailbox takes one itself if nobody else is at work:
//! it handles the command and writes to the sockets, so a lone call changes no thread on its way out. A command that
//! comes during another thread's turn is handled by that thread before it leaves. Only the I/O thread waits for the lock,
//! so user code that runs in a turn, such as a waker, may send commands.
//!
//! The I/O thread alone reads sockets and handles timeouts, so heartbeats never wait for user code.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    task::Context,
    time::Instant,
};

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;

use super::{
    clock,
    driver::{Driver, Role},
    mailbox::Turns,
};

/// See the module.
pub(super) struct Engine<R: Role> {
    desk: Mutex<Desk<R>>,
    /// Counts commands, so that whoever leaves the desk sees whether there are new ones.
    bell: AtomicU64,
    /// Whether the next command is likely to be the only one: then it leaves at once. Otherwise the I/O thread handles it
    /// together with others, whose messages leave in one BATCH.
    is_quiet: AtomicBool,
    io_thread: AtomicWaker,
    /// The I/O thread's runtime, to which sockets, timers and tasks belong.
    runtime: Handle,
}

/// What only one thread at a time may use.
pub(super) struct Desk<R: Role> {
    /// Taken at the end.
    pub(super) driver: Option<Driver<R>>,
    /// When the I/O thread looks by itself.
    pub(super) alarm: Option<Instant>,
    /// Of a turn: the machine is unusable.
    panic: Option<Box<dyn Any + Send>>,
}

impl<R: Role> Engine<R> {
    /// To be called on the I/O thread.
    pub(super) fn new(mut driver: Driver<R>) -> Arc<Self> {
        Arc::new_cyclic(|engine: &Weak<Self>| {
            driver.role.mailbox().attend(engine.clone());
            Self {
                desk: Mutex::new(Desk { driver: Some(driver), alarm: None, panic: None }),
                bell: AtomicU64::new(0),
                is_quiet: AtomicBool::new(true),
                io_thread: AtomicWaker::new(),
                runtime: Handle::current(),
            }
        })
    }

    /// Has the I/O thread polled whenever there is something for it.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.io_thread.register(cx.waker());
    }

    /// Waits for the desk. Only the I/O thread may wait.
    pub(super) fn wait(&self) -> MutexGuard<'_, Desk<R>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The commands so far; to be called before a turn.
    pub(super) fn rings(&self) -> u64 {
        self.bell.load(Ordering::SeqCst)
    }

    /// Leaves the desk. Returns whether commands have arrived since [`Self::rings`] gave this number.
    pub(super) fn leave(&self, desk: MutexGuard<'_, Desk<R>>, rings: u64) -> bool {
        if let Some(driver) = &desk.driver {
            self.is_quiet.store(driver.is_quiet(), Ordering::Relaxed);
        }
        drop(desk);
        // Either this sees a ring, or whoever rang sees that the desk is free.
        fence(Ordering::SeqCst);
        self.rings() != rings
    }

    fn try_desk(&self) -> Option<MutexGuard<'_, Desk<R>>> {
        match self.desk.try_lock() {
            Ok(desk) => Some(desk),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Handles the commands at hand, unless another thread is at it.
    fn take_turns(&self) {
        for _ in 0..TURNS_MAX {
            let Some(mut desk) = self.try_desk() else { return };
            let rings = self.rings();
            let is_work_left = {
                let _inside = self.runtime.enter();
                desk.take_turn()
            };
            let has_more = self.leave(desk, rings);
            if is_work_left {
                return self.io_thread.wake();
            }
            if !has_more {
                return;
            }
        }
        self.io_thread.wake();
    }
}

impl<R: Role> Desk<R> {
    /// A turn without reading and timeouts. Returns whether something is left for the I/O thread.
    fn take_turn(&mut self) -> bool {
        let Some(driver) = self.driver.as_mut().filter(|_| self.panic.is_none()) else { return true };
        let turn = || {
            let has_more = driver.handle_commands();
            driver.transmit(clock::now());
            has_more
        };
        match catch_unwind(AssertUnwindSafe(turn)) {
            Ok(has_more) => has_more || driver.has_ended() || self.is_earlier(),
            Err(panic) => {
                self.panic = Some(panic);
                true
            }
        }
    }

    /// The panic of another thread's turn.
    pub(super) fn take_panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.panic.take()
    }

    /// Whether the next timeout is earlier than the I/O thread knows.
    fn is_earlier(&self) -> bool {
        let next = self.driver.as_ref().and_then(Driver::poll_timeout);
        next.is_some_and(|at| self.alarm.is_none_or(|alarm| at < alarm))
    }
}

impl<R: Role> Turns for Engine<R> {
    fn ring(&self) {
        self.bell.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // Thread-local values may be gone while a thread ends. The turn would need those of Tokio.
        let is_ending = Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed());
        match self.is_quiet.swap(false, Ordering::Relaxed) && !is_ending {
            true => self.take_turns(),
            false => self.io_thread.wake(),
        }
    }

    fn wake(&self) {
        self.bell.fetch_add(1, Ordering::SeqCst);
        self.io_thread.wake();
    }
}

/// The turns that one thread takes for others before it leaves the rest to the I/O thread.
const TURNS_MAX: u32 = 16;
