//! A driver that several threads share: the I/O thread, the reader, and whoever has something to say.
//!
//! One thread at a time takes a turn. Whoever puts a command into the mailbox takes one itself if nobody else is at work:
//! it handles the command and writes to the sockets, so a lone call changes no thread on its way out. Further commands
//! gather, until the reader comes or a burst of them waits: then its last sender takes a turn. A command that comes
//! during another thread's turn is handled by that thread before it leaves. The reader, a task on the program's runtime,
//! reads the sockets while they belong to it. Only the I/O thread waits for the lock.
//!
//! A caller may hold any lock of the program. So its turn runs no user code: a role with a policy of the user allows no
//! such turn, and wakers and drops are [`Errands`](super::errands::Errands) for the I/O thread and the reader. What
//! remains is the program's `tracing` subscriber, which must not make a call while it holds a lock of its own.
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
    mailbox::Turns,
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
    /// Whether the last sender of a burst may handle it.
    takes_bursts: AtomicBool,
    /// The commands that had come when the last turn began. It has handled them, and perhaps some of those since.
    handled: AtomicU64,
    io_thread: Arc<AtomicWaker>,
    /// The I/O thread's runtime, to which timers and tasks belong.
    runtime: Handle,
    /// The task on the program's runtime, unless the I/O thread does everything.
    reader: Option<Arc<Reader>>,
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
    /// To be called on the I/O thread. With a runtime of the program, a task is started there.
    pub(super) fn new(mut driver: Driver<R>, program: Option<Handle>) -> Arc<Self> {
        let is_quiet = AtomicBool::new(driver.is_quiet());
        let takes_bursts = AtomicBool::new(driver.takes_bursts());
        let io_thread = Arc::new(AtomicWaker::new());
        let reader = program.map(|program| Arc::new(Reader::new(program, Arc::clone(&io_thread))));
        let engine = Arc::new_cyclic(|engine: &Weak<Self>| {
            driver.role.mailbox().attend(engine.clone());
            Self {
                desk: Mutex::new(Desk { driver: Some(driver), alarm: None, panic: None }),
                is_awaited: AtomicBool::new(false),
                bell: AtomicU64::new(0),
                is_quiet,
                takes_bursts,
                handled: AtomicU64::new(0),
                io_thread,
                runtime: Handle::current(),
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

    /// Leaves the desk. Returns whether commands have arrived since [`Self::rings`] gave this number.
    pub(super) fn leave(&self, desk: MutexGuard<'_, Desk<R>>, rings: u64) -> bool {
        if let Some(driver) = &desk.driver {
            self.is_quiet.store(driver.is_quiet(), Ordering::Relaxed);
            self.takes_bursts.store(driver.takes_bursts(), Ordering::Relaxed);
        }
        self.handled.store(rings, Ordering::Relaxed);
        drop(desk);
        // Either this sees a ring, or whoever rang sees that the desk is free. The same goes for the reader.
        fence(Ordering::SeqCst);
        if let Some(reader) = &self.reader {
            reader.offer_desk();
        }
        self.rings() != rings
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
            let has_more = self.leave(desk, rings);
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
            && self.takes_bursts.load(Ordering::Relaxed)
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
        let has_more = self.leave(desk, rings);
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
        let next = self.driver.as_ref().and_then(Driver::poll_timeout);
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
mod tests {
    use std::{
        sync::mpsc,
        task::Poll,
        thread::{self, JoinHandle},
        time::Duration,
    };

    use tokio::runtime;

    use super::*;
    use crate::{
        io::{
            driver::SideOf,
            guest::Guest,
            machine::{Connections, Input, Machine, SendError},
            mailbox::{Commands, Mailbox, mailbox},
            turns::drive,
        },
        proto::{
            frame::{Frames, Inbound, Limits, Malformed},
            outbox::Transmit,
        },
    };

    #[test]
    fn lone_command_is_handled_by_its_sender_and_the_user_code_after_it_by_the_io_thread() {
        let stage = Stage::new(true);
        let here = thread::current().name().map(str::to_owned);
        // The first ones may find the I/O thread at work.
        let is_here = |_| {
            thread::sleep(Duration::from_millis(10));
            let Threads { handled, errand } = stage.send();
            assert_eq!(errand.as_deref(), Some("io"));
            handled == here
        };
        assert!((0..1_000).any(is_here));
        stage.end();
    }

    #[test]
    fn burst_is_handled_by_its_last_sender_if_the_role_allows_it() {
        for allows_turns in [true, false] {
            let (runtime, commands, engine) =
                unattended(Recorder { has_errands: false, ..Recorder::new(allows_turns) });
            let _inside = runtime.enter();
            for round in 1..=3 {
                let (sender, receiver) = mpsc::channel();
                for sent in 1..=BURST {
                    assert!(commands.send(sender.clone()).is_ok());
                    let handled = if allows_turns && sent == BURST { BURST } else { 0 };
                    assert_eq!(receiver.try_iter().count() as u64, handled, "{allows_turns}, {sent} of round {round}");
                }
            }
            drop(engine);
        }
    }

    #[test]
    fn bursts_wait_for_errands_and_for_a_reader_that_finds_no_way_to_the_desk() {
        let (runtime, commands, engine) = unattended(Recorder::new(true));
        let _inside = runtime.enter();
        let burst = || {
            let (sender, receiver) = mpsc::channel();
            (0..BURST).for_each(|_| assert!(commands.send(sender.clone()).is_ok()));
            receiver.try_iter().count() as u64
        };
        assert_eq!((burst(), burst()), (BURST, 0), "the errands of the first burst wait");
        engine.wait().driver.as_mut().expect("not ended").run_errands();
        engine.leave(engine.wait(), engine.rings());
        assert_eq!(burst(), BURST);

        let reader = Arc::new(Reader::new(runtime.handle().clone(), Arc::new(AtomicWaker::new())));
        let engine = Engine { reader: Some(Arc::clone(&reader)), ..Arc::into_inner(engine).expect("the only one") };
        engine.wait().driver.as_mut().expect("not ended").run_errands();
        engine.leave(engine.wait(), engine.rings());
        engine.bell.fetch_add(BURST, Ordering::SeqCst);
        assert!(engine.is_burst());
        reader.set_has_sockets(true);
        let desk = engine.wait();
        assert!(matches!(engine.read(&reader), Next::Wait));
        drop(desk);
        assert!(!engine.is_burst());
        engine.read(&reader);
        engine.bell.fetch_add(BURST, Ordering::SeqCst);
        assert!(engine.is_burst());
    }

    /// An engine whose I/O thread takes no turn by itself.
    fn unattended(mut role: Recorder) -> (runtime::Runtime, Commands<Report>, Arc<Engine<Recorder>>) {
        let (runtime, (commands, mailbox)) = (runtime(), mailbox());
        role.is_quiet = false;
        role.mailbox = mailbox;
        let engine = runtime.block_on(async { Engine::new(role.driver(), None) });
        (runtime, commands, engine)
    }

    #[test]
    fn role_that_allows_no_turns_has_its_commands_handled_by_the_io_thread() {
        let stage = Stage::new(false);
        for _ in 0..100 {
            let io = || Some("io".to_owned());
            assert_eq!(stage.send(), Threads { handled: io(), errand: io() });
        }
        stage.end();
    }

    /// Where a thread reports its name.
    type Report = mpsc::Sender<Option<String>>;

    /// A driver on a thread of the name `io`.
    struct Stage(Commands<Report>, JoinHandle<()>);

    impl Stage {
        fn new(allows_turns: bool) -> Self {
            let (commands, mailbox) = mailbox();
            let role = Recorder { mailbox, ..Recorder::new(allows_turns) };
            let thread = thread::Builder::new().name("io".to_owned()).spawn(move || {
                let runtime = runtime();
                let _inside = runtime.enter();
                assert!(runtime.block_on(drive(role.driver(), None)).1.is_ok());
            });
            Self(commands, thread.expect("a thread"))
        }

        fn send(&self) -> Threads {
            let (sender, receiver) = mpsc::channel();
            assert!(self.0.send(sender).is_ok());
            let [handled, errand] = [(); 2].map(|()| receiver.recv().expect("handled"));
            Threads { handled, errand }
        }

        fn end(self) {
            drop(self.0);
            self.1.join().expect("no panic");
        }
    }

    /// Where a command and its errand have run.
    #[derive(Debug, PartialEq, Eq)]
    struct Threads {
        handled: Option<String>,
        errand: Option<String>,
    }

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    }

    struct Recorder {
        mailbox: Mailbox<Report>,
        allows_turns: bool,
        is_quiet: bool,
        has_errands: bool,
        has_ended: bool,
    }

    impl Recorder {
        fn new(allows_turns: bool) -> Self {
            Self { mailbox: mailbox().1, allows_turns, is_quiet: true, has_errands: true, has_ended: false }
        }

        /// To be called within a runtime.
        fn driver(self) -> Driver<Self> {
            Driver::new(Guest::only_if(false, Idle), Limits::default(), Nobody, self)
        }
    }

    impl Role for Recorder {
        type Machine = Idle;
        type Connections = Nobody;
        type Command = Report;

        fn mailbox(&mut self) -> &mut Mailbox<Self::Command> {
            &mut self.mailbox
        }

        fn handle_command(&mut self, side: &mut SideOf<Self>, _: Instant, command: Self::Command) {
            let record = move || _ = command.send(thread::current().name().map(str::to_owned));
            record.clone()();
            if self.has_errands {
                side.errands.run(record);
            }
        }

        fn handle_abandoned(&mut self, _: &mut SideOf<Self>, _: Instant) {
            self.has_ended = true;
        }

        fn handle_output(&mut self, _: &mut SideOf<Self>, _: Instant, (): ()) {}

        fn finish_turn(&mut self, _: &mut SideOf<Self>) {}

        fn allows_turns(&self) -> bool {
            self.allows_turns
        }

        fn is_quiet(&self) -> bool {
            self.is_quiet
        }

        fn need(&self) -> Need {
            Need::News
        }

        fn has_ended(&self) -> bool {
            self.has_ended
        }
    }

    struct Idle;

    impl Machine for Idle {
        type Peer = ();
        type Output = ();

        fn handle_message(&mut self, _: Instant, (): (), _: Inbound) {}

        fn handle_malformed(&mut self, _: Instant, (): (), _: &Malformed) {}

        fn handle_disconnected(&mut self, _: Instant, (): ()) {}

        fn handle_unsent(&mut self, _: Instant, (): (), _: Transmit) {}

        fn handle_heartbeats(&mut self, _: Instant) {}

        fn handle_timeout(&mut self, _: Instant) {}

        fn poll_transmit(&mut self) -> Option<((), Transmit)> {
            None
        }

        fn recycle(&mut self, _: (), _: Transmit) {}

        fn poll_timeout(&self) -> Option<Instant> {
            None
        }

        fn poll_output(&mut self) -> Option<()> {
            None
        }
    }

    struct Nobody;

    impl Connections<()> for Nobody {
        fn poll_receive(&mut self, _: &mut Context<'_>) -> Poll<((), Input)> {
            Poll::Pending
        }

        fn send(&mut self, (): (), _: Frames) -> Result<(), SendError> {
            Ok(())
        }

        fn flush(&mut self) {}

        fn disconnect(&mut self, (): ()) {}
    }
}
