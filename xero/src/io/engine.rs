//! A driver that several threads share: its guardian, and whoever has something to say.
//!
//! One thread at a time takes a turn. Whoever puts a command into the mailbox takes a turn itself, which handles the
//! command and writes to the sockets: a lone call costs no change of threads on its way out. If another thread is in a
//! turn, that one handles the command before it leaves. Nobody but the guardian waits for the lock, so user code that
//! runs in a turn, such as a waker, may send commands.
//!
//! The *guardian* is a thread of its own. It alone reads sockets and handles timeouts, so that heartbeats never wait for
//! user code.

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
    /// Whether the next command is likely to be the only one: then it should leave at once. Otherwise the guardian
    /// handles it together with others, whose messages leave in one BATCH.
    is_quiet: AtomicBool,
    guardian: AtomicWaker,
    /// The guardian's runtime, to which sockets, timers and tasks belong.
    runtime: Handle,
}

/// What only one thread at a time may use.
pub(super) struct Desk<R: Role> {
    /// Taken at the end.
    pub(super) driver: Option<Driver<R>>,
    /// When the guardian looks by itself.
    pub(super) alarm: Option<Instant>,
    /// Of a turn: the machine is unusable.
    panic: Option<Box<dyn Any + Send>>,
}

impl<R: Role> Engine<R> {
    /// Made on the guardian's runtime.
    pub(super) fn new(mut driver: Driver<R>) -> Arc<Self> {
        Arc::new_cyclic(|engine: &Weak<Self>| {
            driver.role.mailbox().attend(engine.clone());
            Self {
                desk: Mutex::new(Desk { driver: Some(driver), alarm: None, panic: None }),
                bell: AtomicU64::new(0),
                is_quiet: AtomicBool::new(true),
                guardian: AtomicWaker::new(),
                runtime: Handle::current(),
            }
        })
    }

    /// Has the guardian polled whenever there is something for it.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.guardian.register(cx.waker());
    }

    /// Waits for the desk. Only the guardian may wait.
    pub(super) fn wait(&self) -> MutexGuard<'_, Desk<R>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The commands so far; to be called before a turn.
    pub(super) fn rings(&self) -> u64 {
        self.bell.load(Ordering::SeqCst)
    }

    /// Leaves the desk. Returns whether there are commands that came after so many.
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
            let needs_guardian = {
                let _inside = self.runtime.enter();
                desk.take_turn()
            };
            let has_more = self.leave(desk, rings);
            if needs_guardian {
                return self.guardian.wake();
            }
            if !has_more {
                return;
            }
        }
        self.guardian.wake();
    }
}

impl<R: Role> Desk<R> {
    /// A turn without reading and timeouts. Returns whether something is left for the guardian.
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

    /// Whether the next timeout is earlier than the guardian knows.
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
            false => self.guardian.wake(),
        }
    }

    fn abandon(&self) {
        self.guardian.wake();
    }
}

/// The turns that one thread takes for others before it leaves the rest to the guardian.
const TURNS_MAX: u32 = 16;
