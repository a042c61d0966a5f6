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
    Attack, Strike, scale,
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
    /// The last windows without an attack.
    quiet: Vec<Window>,
    descriptors: usize,
    resident_bytes: usize,
    heap_bytes: usize,
}

/// Latencies of good calls in some time.
#[derive(Clone, Copy)]
struct Window {
    /// The 99th percentile.
    high: Duration,
    longest: Duration,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { high, longest } = self;
        write!(f, "{high:.1?} (max {longest:.1?})")
    }
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
    pub(super) fn has(&self, attack: &Attack) -> bool {
        !attack.needs_replies || self.side.serves()
    }

    /// Begins an attack beside others.
    pub(super) fn begin(&self, strike: Strike) -> Begun {
        let assault = Assault::new(&self.side, self.victim().id());
        let strike = self.attackers.spawn(strike(Arc::clone(&assault)));
        Begun { assault, strike }
    }

    /// Attacks, and checks that good calls, the processor and the memory are as before.
    pub(super) async fn withstand(&mut self, attack: &Attack) {
        let Attack { name: attack, strike, announces, .. } = *attack;
        let (length, slack, unnoticed, stall) = match announces {
            true => (WINDOW_OF_INTRODUCTIONS, SLACK_OF_OFFERS, UNNOTICED_INTRODUCTIONS, STALL_OF_INTRODUCTIONS),
            false => (WINDOW, SLACK, UNNOTICED, STALL),
        };
        let baseline = median(&self.quiet);
        let Begun { assault, strike } = self.begin(strike);
        let (mut windows, mut peak) = (Vec::new(), 0);
        while windows.len() < WINDOWS * scale() || !strike.is_finished() {
            if windows.len() == WINDOWS * scale() {
                assault.call_off();
            }
            windows.push(self.measure(length).await);
            peak = peak.max(self.victim().resident_bytes());
            assert!(windows.len() < 100, "{attack} does not end");
        }
        let held = within(PATIENCE, strike).await.expect("the attacker itself is sound");
        assert!(assault.meetings() > 0, "{attack} has not happened");
        // Introductions that were sent are read at their pace as long as their connection stands: a debug build is busy then.
        let held = Some(held).filter(|_| !announces || !cfg!(debug_assertions));
        self.assert_rests(attack).await;
        drop(held);
        // The ends of many connections at the same time hold up nobody, either.
        windows.push(self.measure(length).await);
        self.assert_recovers(attack, slack).await;
        let during = median(&windows[..windows.len() - 1]);
        let figures = Figures {
            attack,
            meetings: assault.meetings(),
            baseline,
            during,
            resident_bytes: [self.resident_bytes, peak, self.victim().resident_bytes()],
            heap_bytes: [self.heap_bytes, self.heap_bytes().await],
        };
        println!("{figures} {windows:?}");
        assert!(during < (3 * baseline).max(unnoticed), "good calls are slow: {figures} {windows:?}");
        // Which the median does not show if the attack is over before most windows.
        assert!(windows.iter().all(|window| window.longest < stall), "good calls stall: {figures} {windows:?}");
        self.measure_quiet().await;
    }

    /// Ends the attack that went on beside the others, and the test.
    pub(super) async fn end(mut self, slow: Begun) {
        slow.assault.call_off();
        drop(within(PATIENCE, slow.strike).await.expect("the attacker itself is sound"));
        self.assert_recovers("all attacks", SLACK_OF_OFFERS).await;
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

    /// The latencies of good calls in that time; all of them must succeed.
    async fn measure(&mut self, length: Duration) -> Window {
        let line = self.ask(self.caller, &length.as_millis().to_string(), "measured ").await;
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [calls, failures, high, longest] = numbers[..] else { panic!("four numbers and not {line:?}") };
        assert!(calls > 0 && failures == 0, "{failures} of {calls} calls have failed");
        let [high, longest] = [high, longest].map(Duration::from_micros);
        Window { high, longest }
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
    async fn assert_recovers(&mut self, when: &str, slack: Slack) {
        let process = self.victim().id();
        let (descriptors, resident_bytes, heap_bytes) = (self.descriptors, self.resident_bytes, self.heap_bytes);
        let what = format!("the descriptors return after {when}");
        eventually(&what, async || process::descriptors(process) <= descriptors + DIALS).await;
        let what = format!("the memory in use returns after {when}");
        eventually(&what, async || self.heap_bytes().await < heap_bytes + slack.heap_bytes).await;
        let what = format!("the resident memory returns after {when}");
        eventually(&what, async || self.victim().resident_bytes() < resident_bytes + slack.resident_bytes).await;
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

/// The median of the windows' 99th percentiles.
fn median(windows: &[Window]) -> Duration {
    let mut times: Vec<_> = windows.iter().map(|window| window.high).collect();
    times.sort();
    times[times.len() / 2]
}

/// The time of a window: some dozens of calls.
const WINDOW: Duration = Duration::from_millis(150);

/// The same while peers introduce themselves: hundreds of calls. Each of the largest introductions delays one of them, and
/// a few of those are handled in this time.
const WINDOW_OF_INTRODUCTIONS: Duration = Duration::from_millis(400);

/// The windows during an attack, at least.
const WINDOWS: usize = 3;

/// The windows without an attack whose median is the baseline.
const QUIET_WINDOWS: usize = 5;

/// A latency that is no fault: a call waits for a few turns, of up to 512 messages each, while the victim, the attacker
/// and the good peers share the processors.
const UNNOTICED: Duration = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 25 });

/// The same while peers introduce themselves: a call may meet a turn that takes one of the largest introductions, and makes
/// one of the largest changes of an offer.
const UNNOTICED_INTRODUCTIONS: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 30 });

/// The latency of a single call that no busy machine explains.
const STALL: Duration = Duration::from_secs(2);

/// The same while peers introduce themselves: however many do, a call waits for few of their introductions.
const STALL_OF_INTRODUCTIONS: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3_000 } else { 150 });

/// The time in which a thread must rest.
const REST: Duration = Duration::from_millis(200);

/// How often in a row.
const RESTS: usize = 3;

/// How often it is given the time to come to rest. A debug build may have a hundred of the largest introductions to handle.
const RESTS_MAX: usize = if cfg!(debug_assertions) { 150 } else { 40 };

/// What may be left of attacks.
#[derive(Clone, Copy, Debug)]
struct Slack {
    heap_bytes: usize,
    resident_bytes: usize,
}

/// Room in maps and queues for 2,000 connections; and what glibc keeps of many small blocks because a few among them are in
/// use.
const SLACK: Slack = Slack { heap_bytes: 4 << 20, resident_bytes: 48 << 20 };

/// The same with offers, whose small blocks take `offers_bytes_max`, 128 MiB, at most.
const SLACK_OF_OFFERS: Slack = Slack { heap_bytes: 4 << 20, resident_bytes: 176 << 20 };

/// The connections that a dialing victim may have open or half open again.
const DIALS: usize = 32;
