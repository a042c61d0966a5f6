//! A driver that several threads share: the I/O thread, the reader, and whoever has something to say.
//!
//! One thread at a time takes a turn. Whoever puts a command into the mailbox takes one itself if nobody else is at work:
//! it handles the command and writes to the sockets, so a lone call changes no thread on its way out. Further commands
//! gather, until the reader comes or a burst of them waits: then its last sender takes a turn. A command that comes
//! during another thread's turn is handled by that thread before it leaves. The reader, a task on the program's runtime,
//! reads the sockets while they belong to it. Only the I/O thread waits for the lock.
//!
//! Turns run no user code: wakers and drops are [`errands`](super::errands), which whoever has the sockets runs after the
//! turn. Callers run none, because they may hold any lock of the program. Two things remain: the program's `tracing`
//! subscriber, which must not make a call while it holds a lock of its own, and a policy of the user, whose role allows
//! turns of the I/O thread alone.
//!
//! The I/O thread handles timeouts, and for these it waits until another thread's turn ends. Such a turn is short: it
//! moves the bytes at hand, within the bound of a turn. But the system may interrupt its thread. If a thread of low
//! priority takes turns on a busy machine, heartbeats wait as long as that thread does; the setting `program_turns`
//! forbids it.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    task::{Context, Waker},
    time::Instant,
};

use futures_util::task::AtomicWaker;
use tokio::{runtime::Handle, task::yield_now};

use super::{
    driver::{Driver, ReadersTurn, Role},
    errands::Queue,
    mailbox::Turns,
    panics,
    reader::Reader,
    watch::Need,
};

/// See the module.
pub(super) struct Engine<R: Role> {
    desk: Mutex<Desk<R>>,
    /// Whether the I/O thread waits for the desk: others leave it then, or they could come back first again and again.
    is_awaited: AtomicBool,
    /// Counts commands, so that whoever leaves the desk sees whether there are new ones.
    bell: AtomicU64,
    /// Whether the sender of the next command may handle it: it is likely to be the only one, and leaves at once.
    /// Otherwise whoever reads the sockets handles it together with others, whose messages leave in one BATCH.
    is_quiet: AtomicBool,
    /// Whether senders may handle commands at all.
    allows_turns: bool,
    /// The commands that had come when the last turn began. It has handled them, and perhaps some of those since.
    handled: AtomicU64,
    io_thread: Arc<AtomicWaker>,
    /// The I/O thread's runtime, to which timers and tasks belong.
    runtime: Handle,
    errands: Queue<R::Errand>,
    /// The task on the program's runtime, unless the I/O thread does everything.
    reader: Option<Arc<Reader>>,
}

/// What only one thread at a time may use.
pub(super) struct Desk<R: Role> {
    /// Taken at the end.
    pub(super) driver: Option<Box<Driver<R>>>,
    /// When the I/O thread looks by itself.
    pub(super) alarm: Option<Instant>,
    /// Of a turn: the machine is unusable.
    panic: Option<Box<dyn Any + Send>>,
}

impl<R: Role> Engine<R> {
    /// To be called on the I/O thread. With a runtime of the program, a task is started there.
    pub(super) fn new(mut driver: Box<Driver<R>>, program: Option<Handle>) -> Arc<Self> {
        let is_quiet = AtomicBool::new(driver.is_quiet());
        let allows_turns = driver.allows_turns();
        let io_thread = Arc::new(AtomicWaker::new());
        let reader = program.map(|program| Arc::new(Reader::new(program, Arc::clone(&io_thread))));
        let engine = Arc::new_cyclic(|engine: &Weak<Self>| {
            driver.role.mailbox().attend(engine.clone());
            Self {
                desk: Mutex::new(Desk { driver: Some(driver), alarm: None, panic: None }),
                is_awaited: AtomicBool::new(false),
                bell: AtomicU64::new(0),
                is_quiet,
                allows_turns,
                handled: AtomicU64::new(0),
                io_thread,
                runtime: Handle::current(),
                errands: Queue::new(),
                reader,
            }
        });
        if let Some(reader) = &engine.reader {
            reader.runtime().spawn(read(Presence { engine: Arc::downgrade(&engine), reader: Arc::clone(reader) }));
        }
        engine
    }

    pub(super) fn reader(&self) -> Option<&Arc<Reader>> {
        self.reader.as_ref()
    }

    /// Has the I/O thread polled whenever there is something for it.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.io_thread.register(cx.waker());
    }

    /// Forgets the I/O thread, whose runtime has descriptors: the reader's task may stay for ever.
    pub(super) fn unregister(&self) {
        drop(self.io_thread.take());
    }

    /// Waits for the desk. Only the I/O thread may wait.
    pub(super) fn wait(&self) -> MutexGuard<'_, Desk<R>> {
        self.is_awaited.store(true, Ordering::SeqCst);
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_awaited.store(false, Ordering::SeqCst);
        desk
    }

    /// The commands so far; to be called before a turn.
    pub(super) fn rings(&self) -> u64 {
        self.bell.load(Ordering::SeqCst)
    }

    /// Leaves the desk. The turn began when [`Self::rings`] gave this number.
    pub(super) fn leave(&self, mut desk: MutexGuard<'_, Desk<R>>, rings: u64) -> Left {
        let mut has_errands = false;
        if let Some(driver) = &mut desk.driver {
            self.is_quiet.store(driver.is_quiet(), Ordering::Relaxed);
            has_errands = self.errands.put(&mut driver.side.errands);
        }
        self.handled.store(rings, Ordering::Relaxed);
        drop(desk);
        // Either this sees a ring, or whoever rang sees that the desk is free. The same goes for the reader.
        fence(Ordering::SeqCst);
        if let Some(reader) = &self.reader {
            reader.offer_desk();
        }
        Left { has_commands: self.rings() != rings, has_errands }
    }

    /// Takes the driver, and runs all errands that are left.
    pub(super) fn end(&self) -> Box<Driver<R>> {
        let mut driver = self.wait().driver.take().expect("only the end of the drive takes it");
        // After a panic on another thread, some may be left.
        self.errands.put(&mut driver.side.errands);
        self.errands.finish();
        driver
    }

    /// Sees to the errands after a turn of the I/O thread, where heartbeats would wait for them: the reader runs them, or
    /// a thread of the pool while the I/O thread stands in for it. The I/O thread runs them itself only where it always
    /// has the sockets.
    pub(super) fn see_to_errands(self: &Arc<Self>, left: &Left) {
        match self.reader.as_ref().filter(|reader| !reader.has_ended()) {
            Some(reader) if reader.has_sockets() => {
                if left.has_errands {
                    reader.call();
                }
            }
            Some(_) if self.errands.are_there() => {
                let engine = Arc::clone(self);
                // Without a free thread, Tokio panics.
                if panics::catch(move || drop(Handle::current().spawn_blocking(move || engine.run_errands()))).is_err()
                {
                    self.run_errands();
                }
            }
            Some(_) => {}
            None => self.run_errands(),
        }
    }

    fn run_errands(&self) {
        if self.errands.run() {
            self.call();
        }
    }

    /// The desk, unless the I/O thread or another one is at it. Whoever is looks for new commands before it leaves.
    fn try_desk(&self) -> Option<MutexGuard<'_, Desk<R>>> {
        if self.is_awaited.load(Ordering::SeqCst) {
            return None;
        }
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
            let (is_work_left, is_busy) = {
                let _inside = self.runtime.enter();
                (desk.take_callers_turn(), desk.is_busy())
            };
            let Left { has_commands: has_more, has_errands } = self.leave(desk, rings);
            if has_errands {
                self.call();
            }
            if is_work_left {
                return self.io_thread.wake();
            }
            if has_more && !self.is_burst() {
                return self.call();
            }
            if !has_more {
                if is_busy && let Some(reader) = &self.reader {
                    reader.watch();
                }
                return;
            }
        }
        self.call();
    }

    /// Whether enough commands wait for their last sender to handle them. A reader that was kept from the desk goes first,
    /// and handles them too.
    fn is_burst(&self) -> bool {
        let waiting = self.rings().saturating_sub(self.handled.load(Ordering::Relaxed));
        waiting >= BURST
            && self.allows_turns
            && !self.reader.as_ref().is_some_and(|reader| reader.has_sockets() && reader.is_kept_out())
    }

    /// A turn of the reader.
    fn read(&self, reader: &Arc<Reader>) -> Next {
        let Some(mut desk) = self.try_desk().or_else(|| {
            // Either this finds the desk free, or whoever leaves it finds that the reader waits.
            reader.await_desk();
            fence(Ordering::SeqCst);
            self.try_desk()
        }) else {
            return Next::Wait;
        };
        reader.note_desk();
        if !reader.has_sockets() {
            // The I/O thread has just taken them.
            self.leave(desk, self.rings());
            self.io_thread.wake();
            return Next::Wait;
        }
        let rings = self.rings();
        let (turn, is_busy, is_earlier) = {
            let _inside = self.runtime.enter();
            let waker = Waker::from(Arc::clone(reader));
            (desk.take_readers_turn(&mut Context::from_waker(&waker)), desk.is_busy(), desk.is_earlier())
        };
        let has_more = self.leave(desk, rings).has_commands;
        let Some(ReadersTurn { has_more: has_input, has_ended }) = turn else {
            // The I/O thread takes the panic.
            self.io_thread.wake();
            return Next::Wait;
        };
        if has_ended || is_earlier {
            self.io_thread.wake();
        }
        if is_busy {
            reader.watch();
        }
        self.run_errands();
        if has_more || has_input { Next::Again } else { Next::Wait }
    }

    /// Has commands handled by the thread that reads the sockets.
    fn call(&self) {
        match self.reader.as_ref().filter(|reader| reader.has_sockets()) {
            Some(reader) => reader.call(),
            None => self.io_thread.wake(),
        }
    }
}

/// The reader's task. It ends after its driver.
async fn read<R: Role>(presence: Presence<R>) {
    let Presence { engine, reader } = &presence;
    loop {
        reader.called().await;
        loop {
            reader.answer();
            // Errands and other tasks may fork.
            if reader.is_dismissed() || reader.is_elsewhere() {
                return;
            }
            if !reader.has_sockets() {
                reader.wake_io_thread();
                break;
            }
            let Some(next) = engine.upgrade().map(|engine| engine.read(reader)) else { return };
            match next {
                Next::Again => yield_now().await,
                Next::Wait => break,
            }
        }
    }
}

/// The presence of a reader: dropped with its runtime, or with its driver.
///
/// A runtime that nobody drives may keep it for ever. So it keeps no engine, whose thread's runtime has descriptors.
struct Presence<R: Role> {
    engine: Weak<Engine<R>>,
    reader: Arc<Reader>,
}

impl<R: Role> Drop for Presence<R> {
    fn drop(&mut self) {
        self.reader.end();
        self.reader.wake_io_thread();
    }
}

/// What a turn has left.
pub(super) struct Left {
    /// Whether commands have come since it began.
    pub(super) has_commands: bool,
    /// Whether it has led to errands.
    has_errands: bool,
}

/// What follows a turn of the reader.
enum Next {
    Again,
    Wait,
}

impl<R: Role> Desk<R> {
    /// A turn without reading and timeouts. Returns whether something is left for the I/O thread.
    fn take_callers_turn(&mut self) -> bool {
        self.contain(Driver::take_callers_turn).is_none_or(|is_work_left| is_work_left || self.is_earlier())
    }

    /// A turn of the reader; `None` if there is no driver that can be used.
    fn take_readers_turn(&mut self, cx: &mut Context<'_>) -> Option<ReadersTurn> {
        self.contain(|driver| driver.take_readers_turn(cx))
    }

    fn contain<T>(&mut self, turn: impl FnOnce(&mut Driver<R>) -> T) -> Option<T> {
        let driver = self.driver.as_mut().filter(|_| self.panic.is_none())?;
        match catch_unwind(AssertUnwindSafe(|| turn(driver))) {
            Ok(result) => Some(result),
            Err(panic) => {
                self.panic = Some(panic);
                None
            }
        }
    }

    /// The panic of another thread's turn.
    pub(super) fn take_panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.panic.take()
    }

    /// Whether something is owed, so that messages must be read soon.
    fn is_busy(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.need() != Need::News)
    }

    /// Whether the next timeout is earlier than the I/O thread knows.
    fn is_earlier(&self) -> bool {
        let next = self.driver.as_ref().and_then(|driver| driver.poll_timeout());
        next.is_some_and(|at| self.alarm.is_none_or(|alarm| at < alarm))
    }
}

impl<R: Role> Turns for Engine<R> {
    fn ring(&self) {
        self.bell.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // Thread-local values may be gone while a thread ends. The turn would need those of Tokio.
        let is_ending = || Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed());
        let is_quiet = self.is_quiet.load(Ordering::Relaxed) && self.is_quiet.swap(false, Ordering::Relaxed);
        match (is_quiet || self.is_burst()) && !is_ending() {
            true => self.take_turns(),
            false => self.call(),
        }
    }

    fn wake(&self) {
        self.bell.fetch_add(1, Ordering::SeqCst);
        self.call();
    }
}

/// The commands that wait for a turn before their senders take one.
///
/// The peer works on the first ones of a burst while this side makes the others. Writes for each 16 messages take a sixth
/// of the CPU time; with 8 or 32, fewer calls a second were made (`bench/RESULTS.md`).
const BURST: u64 = 16;

/// The turns that one thread takes for others before it leaves the rest to the I/O thread.
const TURNS_MAX: u32 = 16;

#[cfg(test)]
mod tests;
