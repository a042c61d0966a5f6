//! Who gets to the desk, and what a turn does.

use std::{
    collections::{BTreeSet, VecDeque},
    mem::take,
    sync::mpsc,
    task::Poll,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::runtime;

use super::*;
use crate::{
    io::{
        driver::{LATE, SideOf, TURN_BOUND},
        errands::Code,
        guest::Guest,
        machine::{Connections, Input, Machine, SendError},
        mailbox::{Commands, Mailbox, mailbox},
        turns::{LATE_MAX, Turns, drive},
    },
    proto::{
        frame::{self, Frames, Inbound, Limits, Malformed},
        message::{Message, OfferChange},
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
        let (runtime, commands, engine) = unattended(Recorder { has_errands: false, ..Recorder::new(allows_turns) });
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
fn errands_of_a_burst_are_left_to_whoever_has_the_sockets() {
    let (runtime, commands, engine) = unattended(Recorder::new(true));
    let _inside = runtime.enter();
    let (sender, receiver) = mpsc::channel();
    let send_burst = || (0..BURST).for_each(|_| assert!(commands.send(sender.clone()).is_ok()));
    (0..3).for_each(|_| send_burst());
    assert_eq!(receiver.try_iter().count() as u64, 3 * BURST, "commands are handled, errands not");
    engine.see_to_errands(&engine.leave(engine.wait(), engine.rings()));
    assert_eq!(receiver.try_iter().count() as u64, 3 * BURST);

    let reader = Arc::new(Reader::new(runtime.handle().clone(), Arc::new(AtomicWaker::new())));
    reader.set_has_sockets(true);
    let engine = Arc::into_inner(engine).expect("the only one");
    let engine = Arc::new(Engine { reader: Some(Arc::clone(&reader)), ..engine });
    let mut desk = engine.wait();
    let errand = move || _ = sender.send(None);
    desk.driver.as_mut().expect("not ended").side.errands.add_code(errand);
    engine.see_to_errands(&engine.leave(desk, engine.rings()));
    assert_eq!(receiver.try_iter().count(), 0, "the reader has the sockets");
    assert!(reader.is_called());
    engine.read(&reader);
    assert_eq!(receiver.try_iter().count(), 1);

    // The I/O thread stands in for the reader, but not for its errands.
    reader.set_has_sockets(false);
    let (sender, receiver) = mpsc::channel();
    let mut desk = engine.wait();
    let errand = move || _ = sender.send(thread::current().id());
    desk.driver.as_mut().expect("not ended").side.errands.add_code(errand);
    engine.see_to_errands(&engine.leave(desk, engine.rings()));
    assert_ne!(receiver.recv(), Ok(thread::current().id()));
}

#[test]
fn burst_waits_for_a_reader_that_finds_no_way_to_the_desk() {
    let (runtime, _commands, engine) = unattended(Recorder::new(true));
    let _inside = runtime.enter();
    let reader = Arc::new(Reader::new(runtime.handle().clone(), Arc::new(AtomicWaker::new())));
    let engine = Engine { reader: Some(Arc::clone(&reader)), ..Arc::into_inner(engine).expect("the only one") };
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

#[test]
fn nobody_gets_to_the_desk_before_an_io_thread_that_waits_for_it() {
    let (runtime, commands, engine) = unattended(Recorder { has_errands: false, ..Recorder::new(true) });
    let _inside = runtime.enter();
    let (sender, receiver) = mpsc::channel();
    let send_burst = || (0..BURST).for_each(|_| assert!(commands.send(sender.clone()).is_ok()));
    let desk = engine.wait();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| drop(engine.wait()));
        while !engine.is_awaited.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        engine.leave(desk, engine.rings());
        waiting.join().expect("no panic");
    });
    assert!(!engine.is_awaited.load(Ordering::SeqCst));
    // As between the moment when the desk is free and that when the I/O thread is there.
    engine.is_awaited.store(true, Ordering::SeqCst);
    send_burst();
    assert_eq!(receiver.try_iter().count(), 0);
    engine.is_awaited.store(false, Ordering::SeqCst);
    assert!(commands.send(sender.clone()).is_ok());
    assert_eq!(receiver.try_iter().count() as u64, BURST + 1);
}

#[test]
fn reader_that_has_more_to_do_answers_before_each_turn() {
    let role = Recorder { has_errands: false, ..Recorder::new(false) };
    let (runtime, commands, engine) = unattended(role);
    let _inside = runtime.enter();
    let reader = Arc::new(Reader::new(runtime.handle().clone(), Arc::new(AtomicWaker::new())));
    let engine = Arc::into_inner(engine).expect("the only one");
    let engine = Arc::new(Engine { reader: Some(Arc::clone(&reader)), ..engine });
    reader.set_has_sockets(true);
    reader.call_to_read();
    let presence = Presence { engine: Arc::downgrade(&engine), reader: Arc::clone(&reader) };
    let mut task = Box::pin(read(presence));
    let mut cx = Context::from_waker(Waker::noop());
    for turn in 1..=5 {
        // More commands than a turn takes, so that the task yields between two turns.
        let (sender, _receiver) = mpsc::channel();
        (0..2 * TURN_BOUND).for_each(|_| assert!(commands.send(sender.clone()).is_ok()));
        assert!(task.as_mut().poll(&mut cx).is_pending());
        assert_eq!(reader.answers(), turn);
    }
    drop(engine);
}

#[test]
fn late_timeout_waits_until_all_connections_were_looked_at() {
    const CONNECTIONS: u32 = 300;
    let (runtime, (_commands, mailbox)) = (runtime(), mailbox());
    let role = Recorder { mailbox, ..Recorder::new(true) };
    let driver = runtime.block_on(async {
        let machine = Idle { due: Some(Instant::now() - Duration::from_secs(1)), ..Idle::default() };
        let connections = Nobody { behind: CONNECTIONS, ..Nobody::default() };
        drive(Driver::new(Guest::only_if(false, machine), Limits::default(), connections, role), None).await.0
    });
    assert_eq!(driver.role.behind_at_timeout, Some(0));
}

#[test]
fn late_timeouts_are_put_off_for_a_bounded_time_and_then_not_again_at_once() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let (mut driver, mut turns, start) = (Recorder::new(true).driver(), Turns::new(None), Instant::now());
    driver.side.machine.due = Some(start - Duration::from_secs(1));
    let mut must = |after| turns.must_look_again(&driver, 1, start + after);
    assert!(
        [Duration::ZERO, LATE_MAX / 2, LATE_MAX - Duration::from_millis(1)].map(&mut must).iter().all(|must| *must)
    );
    assert!(!must(LATE_MAX), "more has arrived all the time");
    assert!(!must(LATE_MAX + LATE / 2), "the next pass of timeouts");
    assert!(must(LATE_MAX + LATE), "this side may have been held up again");
}

#[test]
fn connection_that_announces_too_much_is_not_read_until_its_rest_is_over() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut driver = Recorder::new(true).driver();
    let mut cx = Context::from_waker(Waker::noop());
    let largest = Message::Offer(OfferChange { withdrawn: vec!["s".into(); 256], ..OfferChange::default() });
    for _ in 0..100 {
        driver.side.connections.inputs.push_back((1, Input::Frames(frame::encode(&largest))));
        assert!(driver.take_inputs(&mut cx) >= 256, "each of them takes time");
        if !driver.side.connections.paused.is_empty() {
            break;
        }
    }
    assert_eq!(driver.side.connections.paused, BTreeSet::from([1]));
    let rested_at = driver.poll_timeout().expect("it is read again");
    driver.handle_timeout(rested_at - Duration::from_nanos(1));
    assert_eq!(driver.side.connections.paused, BTreeSet::from([1]));
    driver.handle_timeout(rested_at);
    assert!(driver.side.connections.paused.is_empty());
}

#[test]
fn large_announcements_and_ends_follow_the_small_messages_of_their_turn_within_another_bound() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut driver = Recorder::new(true).driver();
    let offer = || Input::Frames(frame::encode(&large_offer()));
    let small = || Input::Frames(frame::encode(&Message::Heartbeat));
    let inputs =
        [(1, offer()), (2, offer()), (HEAVY, Input::Gone), (HEAVY + 1, Input::Gone), (3, small()), (1, small())];
    driver.side.connections.inputs.extend(inputs);
    let mut cx = Context::from_waker(Waker::noop());
    let mut handled = Vec::new();
    while driver.take_inputs(&mut cx) >= TURN_BOUND {
        handled.push(take(&mut driver.side.machine.handled));
        assert_eq!(driver.side.connections.paused.contains(&2), handled.len() < 3);
        driver.side.connections.inputs.push_back((4, small()));
    }
    handled.push(take(&mut driver.side.machine.handled));
    assert_eq!(handled, [vec![3, HEAVY], vec![4, 1, HEAVY + 1], vec![4, 2, 1]]);
    assert!(driver.side.connections.paused.is_empty());
}

#[test]
fn end_follows_what_its_connection_had_announced_unless_this_side_has_ended_it() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut driver = Recorder::new(true).driver();
    let offer = || Input::Frames(frame::encode(&large_offer()));
    let mut cx = Context::from_waker(Waker::noop());
    driver.side.connections.inputs.extend([(1, offer()), (1, Input::Gone), (2, offer())]);
    driver.side.hang_up(2);
    driver.poll_inputs(&mut cx);
    driver.poll_inputs(&mut cx);
    assert_eq!(take(&mut driver.side.machine.handled), [1, 1]);
    driver.poll_inputs(&mut cx);
    driver.transmit(Instant::now());
    driver.take_inputs(&mut cx);
    assert!(driver.side.machine.handled.is_empty());
}

fn large_offer() -> Message {
    let withdrawn: Vec<_> = (0..200).map(|n| format!("service {n}").into()).collect();
    Message::Offer(OfferChange { withdrawn, ..OfferChange::default() })
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
    /// The connections not looked at when a timeout was handled, which ends the machine.
    behind_at_timeout: Option<u32>,
}

impl Recorder {
    fn new(allows_turns: bool) -> Self {
        let mailbox = mailbox().1;
        let (is_quiet, has_errands, has_ended) = (true, true, false);
        Self { mailbox, allows_turns, is_quiet, has_errands, has_ended, behind_at_timeout: None }
    }

    /// To be called within a runtime.
    fn driver(self) -> Box<Driver<Self>> {
        Driver::new(Guest::only_if(false, Idle::default()), Limits::default(), Nobody::default(), self)
    }
}

impl Role for Recorder {
    type Machine = Idle;
    type Connections = Nobody;
    type Command = Report;
    type Errand = Code;

    fn mailbox(&mut self) -> &mut Mailbox<Self::Command> {
        &mut self.mailbox
    }

    fn handle_command(&mut self, side: &mut SideOf<Self>, _: Instant, command: Self::Command) {
        let record = move || _ = command.send(thread::current().name().map(str::to_owned));
        record.clone()();
        if self.has_errands {
            side.errands.add_code(record);
        }
    }

    fn handle_abandoned(&mut self, _: &mut SideOf<Self>, _: Instant) {
        self.has_ended = true;
    }

    fn handle_output(&mut self, side: &mut SideOf<Self>, _: Instant, (): ()) {
        self.behind_at_timeout = Some(side.connections.behind);
        self.has_ended = true;
    }

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

#[derive(Default)]
struct Idle {
    due: Option<Instant>,
    /// Whether the timeout was handled, and that is not reported yet.
    is_over: bool,
    /// Whose messages and ends were handled.
    handled: Vec<u32>,
}

impl Machine for Idle {
    type Peer = u32;
    type Output = ();

    fn handle_message(&mut self, _: Instant, from: u32, _: Inbound) {
        self.handled.push(from);
    }

    fn handle_malformed(&mut self, _: Instant, _: u32, _: &Malformed) {}

    fn weight(&self, peer: u32) -> usize {
        if peer >= HEAVY { 4_096 } else { 1 }
    }

    fn handle_disconnected(&mut self, _: Instant, peer: u32) {
        self.handled.push(peer);
    }

    fn handle_unsent(&mut self, _: Instant, _: u32, _: Transmit) {}

    fn recycle(&mut self, _: u32, _: Transmit) {}

    fn handle_heartbeats(&mut self, _: Instant) {}

    fn handle_timeout(&mut self, _: Instant) {
        self.is_over |= self.due.take().is_some();
    }

    fn poll_transmit(&mut self) -> Option<(u32, Transmit)> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn poll_output(&mut self) -> Option<()> {
        take(&mut self.is_over).then_some(())
    }
}

/// Connections of which each poll looks at one, and what arrives on them.
#[derive(Default)]
struct Nobody {
    behind: u32,
    inputs: VecDeque<(u32, Input)>,
    paused: BTreeSet<u32>,
}

/// The end of a connection from this one on is much work.
const HEAVY: u32 = 1_000;

impl Connections<u32> for Nobody {
    fn poll_receive(&mut self, _: &mut Context<'_>) -> Poll<(u32, Input)> {
        self.behind = self.behind.saturating_sub(1);
        self.inputs.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn pause(&mut self, peer: u32) {
        self.paused.insert(peer);
    }

    fn resume(&mut self, peer: u32) {
        self.paused.remove(&peer);
    }

    fn is_behind(&self) -> bool {
        self.behind > 0
    }

    fn send(&mut self, _: u32, _: Frames) -> Result<(), SendError> {
        Ok(())
    }

    fn flush(&mut self) {}

    fn disconnect(&mut self, _: u32) {}
}
