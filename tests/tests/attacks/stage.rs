//! The victim, the good peers around it, and what is measured while it is attacked.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
    time::sleep,
};
use xero_tests::{
    load::figures::mebibytes,
    process::{self, Process, cpu_times},
    scene::{PATIENCE, eventually, within},
};

use super::{
    INTRODUCTIONS, Strike, UNREAD_REPLIES, scale,
    side::{Assault, Side},
    strikes::Held,
};

/// The processes of a test.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) processes: Vec<Process>,
    /// The one that is attacked.
    pub(super) victim: usize,
    /// The one that makes good calls.
    pub(super) caller: usize,
    pub(super) side: Side,
}

/// Starts one of the processes. Its allocator returns what it can: by default, it stops to once a large block is free.
pub(super) fn start(arguments: &[&str]) -> Process {
    const SETTINGS: [(&str, &str); 2] = [("MALLOC_MMAP_THRESHOLD_", "4096"), ("MALLOC_TRIM_THRESHOLD_", "0")];
    Process::start_with(&SETTINGS, env!("CARGO_BIN_EXE_probe"), arguments)
}

/// The runtime of the attackers. They have computers of their own; here they yield the processors to the good peers.
pub(super) fn attackers() -> Runtime {
    let yields = || {
        let _ = rustix::process::nice(10);
    };
    Builder::new_multi_thread().worker_threads(1).on_thread_start(yields).enable_all().build().expect("a runtime")
}

/// A test in progress.
#[derive(Debug)]
pub(super) struct Stage {
    processes: Vec<Process>,
    victim: usize,
    caller: usize,
    side: Arc<Side>,
    attackers: Handle,
    /// The 99th percentiles of the last windows without an attack.
    quiet: Vec<Duration>,
    descriptors: usize,
    resident_bytes: usize,
    heap_bytes: usize,
}

/// An attack that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    assault: Arc<Assault>,
    strike: JoinHandle<Held>,
}

impl Stage {
    /// Waits until calls succeed, and measures how things are without an attack.
    pub(super) async fn new(cast: Cast, attackers: &Handle) -> Self {
        let Cast { processes, victim, caller, side } = cast;
        let (side, attackers) = (Arc::new(side), attackers.clone());
        let (quiet, descriptors, resident_bytes, heap_bytes) = (Vec::new(), 0, 0, 0);
        let mut stage =
            Self { processes, victim, caller, side, attackers, quiet, descriptors, resident_bytes, heap_bytes };
        for _ in 0..QUIET_WINDOWS {
            stage.measure_quiet().await;
        }
        stage.resident_bytes = stage.victim().resident_bytes();
        stage.heap_bytes = stage.heap_bytes().await;
        stage.descriptors = process::descriptors(stage.victim().id());
        stage
    }

    /// Whether the attack exists for this victim: only some peers answer requests.
    pub(super) fn has(&self, attack: &str) -> bool {
        attack != UNREAD_REPLIES || self.side.serves()
    }

    /// Begins an attack beside others.
    pub(super) fn begin(&self, strike: Strike) -> Begun {
        let assault = Assault::new(&self.side, self.victim().id());
        let strike = self.attackers.spawn(strike(Arc::clone(&assault)));
        Begun { assault, strike }
    }

    /// Attacks, and checks that good calls, the processor and the memory are as before.
    pub(super) async fn withstand(&mut self, attack: &str, strike: Strike) {
        let baseline = median(&self.quiet);
        let Begun { assault, strike } = self.begin(strike);
        let (mut windows, mut peak) = (Vec::new(), 0);
        let window = if attack == INTRODUCTIONS { WINDOW_OF_INTRODUCTIONS } else { WINDOW };
        while windows.len() < WINDOWS * scale() || !strike.is_finished() {
            if windows.len() == WINDOWS * scale() {
                assault.call_off();
            }
            windows.push(self.measure(window).await);
            peak = peak.max(self.victim().resident_bytes());
            assert!(windows.len() < 100, "{attack} does not end");
        }
        let held = within(PATIENCE, strike).await.expect("the attacker itself is sound");
        assert!(assault.meetings() > 0, "{attack} has not happened");
        // Introductions that were sent are read one after another, as long as their connection stands.
        let held = Some(held).filter(|_| attack != INTRODUCTIONS);
        self.assert_rests(attack).await;
        drop(held);
        self.assert_recovers(attack, if attack == INTRODUCTIONS { OFFERS_ROOM } else { HEAP_BYTES_SLACK }).await;
        let during = median(&windows);
        let figures = Figures {
            attack,
            meetings: assault.meetings(),
            baseline,
            during,
            resident_bytes: [self.resident_bytes, peak, self.victim().resident_bytes()],
            heap_bytes: [self.heap_bytes, self.heap_bytes().await],
        };
        println!("{figures} {windows:?}");
        let unnoticed = if attack == INTRODUCTIONS { UNNOTICED_INTRODUCTIONS } else { UNNOTICED };
        assert!(during < (3 * baseline).max(unnoticed), "good calls are slow: {figures} {windows:?}");
        // Which the median does not show if the attack is over before most windows.
        assert!(windows.iter().all(|window| *window < STALL), "good calls stall: {figures} {windows:?}");
        self.measure_quiet().await;
    }

    /// Ends the attack that went on beside the others, and the test.
    pub(super) async fn end(mut self, slow: Begun) {
        slow.assault.call_off();
        drop(within(PATIENCE, slow.strike).await.expect("the attacker itself is sound"));
        self.assert_recovers("all attacks", OFFERS_ROOM).await;
        self.assert_rests("all attacks").await;
        for process in &mut self.processes {
            assert_eq!(process.status(), None, "it runs");
        }
    }

    fn victim(&self) -> &Process {
        &self.processes[self.victim]
    }

    async fn measure_quiet(&mut self) {
        let window = self.measure(WINDOW).await;
        self.quiet.push(window);
        if self.quiet.len() > QUIET_WINDOWS {
            self.quiet.remove(0);
        }
    }

    /// The 99th percentile of good calls in that time; all of them must succeed.
    async fn measure(&mut self, window: Duration) -> Duration {
        let line = self.ask(self.caller, &window.as_millis().to_string(), "measured ").await;
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [calls, failures, micros] = numbers[..] else { panic!("three numbers and not {line:?}") };
        assert!(calls > 0 && failures == 0, "{failures} of {calls} calls have failed");
        Duration::from_micros(micros)
    }

    /// The victim's memory in use.
    async fn heap_bytes(&mut self) -> usize {
        self.ask(self.victim, "heap", "heap ").await.parse().expect("a number")
    }

    /// The rest of the line that begins like this and answers the order.
    async fn ask(&mut self, process: usize, order: &str, answer: &str) -> String {
        let process = &mut self.processes[process];
        let before = process.count(answer);
        process.tell(order);
        eventually("the order is answered", async || process.count(answer) > before).await;
        process.last_line(answer).expect("it was counted")
    }

    /// Checks that no thread of the victim works without a reason.
    async fn assert_rests(&self, when: &str) {
        let process = self.victim().id();
        let (mut busiest, mut rests) = ((String::new(), Duration::ZERO), 0);
        for _ in 0..RESTS_MAX {
            let before = cpu_times(process);
            sleep(REST).await;
            let now = busiest_of(&before, &cpu_times(process));
            if now.1 < REST / 10 {
                rests += 1;
            } else {
                (busiest, rests) = (now, 0);
            }
            if rests == RESTS {
                return;
            }
        }
        panic!(
            "{when}: the thread {:?} has worked for {:?} of {REST:?} in which nothing happens",
            busiest.0, busiest.1
        );
    }

    /// Checks that the victim has returned what the attack took.
    async fn assert_recovers(&mut self, when: &str, heap_bytes_slack: usize) {
        let process = self.victim().id();
        let (descriptors, resident_bytes, heap_bytes) = (self.descriptors, self.resident_bytes, self.heap_bytes);
        let what = format!("the descriptors return after {when}");
        eventually(&what, async || process::descriptors(process) <= descriptors + DIALS).await;
        let what = format!("the memory in use returns after {when}");
        eventually(&what, async || self.heap_bytes().await < heap_bytes + heap_bytes_slack).await;
        let what = format!("the resident memory returns after {when}");
        eventually(&what, async || self.victim().resident_bytes() < resident_bytes + RESIDENT_BYTES_SLACK).await;
    }
}

/// The result of an attack.
#[derive(Debug)]
struct Figures<'a> {
    attack: &'a str,
    meetings: usize,
    /// The 99th percentiles.
    baseline: Duration,
    during: Duration,
    /// Before all attacks, at most, and after this one.
    resident_bytes: [usize; 3],
    /// Before all attacks, and after this one.
    heap_bytes: [usize; 2],
}

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attack, meetings, baseline, during, .. } = self;
        let [before, peak, after] = self.resident_bytes.map(mebibytes);
        write!(f, "{attack:<24} {meetings:>6} connections; p99 {baseline:>8.1?} -> {during:>8.1?}; ")?;
        write!(f, "resident {before} -> {peak} -> {after}, ")?;
        let [before, after] = self.heap_bytes.map(mebibytes);
        write!(f, "in use {before} -> {after}")
    }
}

fn busiest_of(
    before: &BTreeMap<String, (String, Duration)>,
    after: &BTreeMap<String, (String, Duration)>,
) -> (String, Duration) {
    let spent = after.iter().map(|(id, (name, time))| {
        let earlier = before.get(id).map_or(Duration::ZERO, |(_, time)| *time);
        (name.clone(), time.saturating_sub(earlier))
    });
    spent.max_by_key(|(_, time)| *time).unwrap_or_default()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

/// The time of a window: some dozens of calls.
const WINDOW: Duration = Duration::from_millis(150);

/// The same while a peer introduces itself: hundreds of calls. Each of the largest introductions delays one of them, and
/// a few of those are handled in this time.
const WINDOW_OF_INTRODUCTIONS: Duration = Duration::from_millis(600);

/// The windows during an attack, at least.
const WINDOWS: usize = 3;

/// The windows without an attack whose median is the baseline.
const QUIET_WINDOWS: usize = 5;

/// A latency that is no fault: a call waits for a few turns, of up to 512 messages each, while the victim, the attacker
/// and the good peers share the processors.
const UNNOTICED: Duration = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 25 });

/// The same while a peer introduces itself: a call may meet a turn that takes one of the largest introductions, and makes
/// one of the largest changes of an offer.
const UNNOTICED_INTRODUCTIONS: Duration = Duration::from_millis(if cfg!(debug_assertions) { 600 } else { 30 });

/// A latency that no busy machine explains.
const STALL: Duration = Duration::from_secs(2);

/// The time in which a thread must rest.
const REST: Duration = Duration::from_millis(200);

/// How often in a row.
const RESTS: usize = 3;

/// How often it is given the time to come to rest.
const RESTS_MAX: usize = 40;

/// What may be left of attacks: room in maps and queues for 2,000 connections.
const HEAP_BYTES_SLACK: usize = 4 << 20;

/// What may be left of introductions: room for 4,096 methods, twice.
const OFFERS_ROOM: usize = 12 << 20;

/// What may be left of all attacks: that, and what glibc keeps of many small blocks because a few among them are in use.
const RESIDENT_BYTES_SLACK: usize = 48 << 20;

/// The connections that a dialing victim may have open or half open again.
const DIALS: usize = 32;
