//! Very many calls of mixed sizes to workers in their own processes, and their cost.

use std::{
    fmt, iter,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use xero::Client;

use crate::{
    load::{
        LoadClient, Order, TEXT_BYTES_MAX,
        crew::{Crew, CrewConfig, Topology},
        figures::{Latencies, Memory, Sample},
        member::Member,
    },
    process::resident_bytes,
    scene::{PATIENCE, eventually},
};

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that plays the roles; see [`crate::load::child`].
    pub program: PathBuf,
    /// The number of calls.
    pub calls: u64,
    /// The number of calls at once.
    pub concurrency: usize,
    /// How calls find workers.
    pub topology: Topology,
    /// The number of workers.
    pub workers: usize,
    /// The seed of the sizes.
    pub seed: u64,
    /// The pause between progress lines, if any.
    pub telling: Option<Duration>,
}

impl Settings {
    /// The usual settings.
    pub fn new(program: impl Into<PathBuf>, topology: Topology, calls: u64) -> Self {
        Self {
            program: program.into(),
            calls,
            concurrency: CONCURRENCY,
            topology,
            workers: WORKERS,
            seed: SEED,
            telling: None,
        }
    }
}

/// The results of a run.
#[derive(Debug)]
pub struct Report {
    settings: Settings,
    time: Duration,
    tally: Tally,
    memory: Memory,
    violations: Vec<String>,
}

impl Report {
    /// Broken promises, at most the first few.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Fails, and prints everything, if a promise was broken.
    pub fn assert_sound(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, time, tally, memory, violations } = self;
        let Settings { workers, concurrency, topology, .. } = settings;
        let Tally { replies, errors, text_bytes, latencies, .. } = tally;
        writeln!(f, "{topology}, {concurrency} at once to {workers} workers")?;
        writeln!(f, "{replies} replies and {errors} errors in {time:.1?}")?;
        let seconds = time.as_secs_f64();
        let [calls, mebibytes] = [*replies as f64 / seconds, *text_bytes as f64 / seconds / f64::from(1 << 20)];
        writeln!(f, "{calls:.0} calls and {mebibytes:.0} MiB of text a second")?;
        write!(f, "latency {latencies}\nresident memory:\n{memory}")?;
        violations.iter().try_for_each(|violation| writeln!(f, "VIOLATION {violation}"))
    }
}

/// The counts so far.
#[derive(Clone, Debug, Default)]
struct Tally {
    replies: u64,
    errors: u64,
    text_bytes: u64,
    /// Of all calls.
    latencies: Latencies,
    /// Of the calls since the last line.
    recent: Latencies,
    mistakes: Vec<String>,
}

/// Makes the calls.
pub async fn run(settings: Settings) -> Report {
    let Settings { program, topology, workers, .. } = settings.clone();
    let crew = CrewConfig { program, topology, workers, interval: None, attempts_max: None };
    let mut crew = Crew::start(&crew, None).await;
    let load = Load::new(&crew.client, &settings);
    let mut watch = Watch::new(&settings);
    let calls = tokio::spawn(load.clone().make(settings.concurrency));
    while !calls.is_finished() {
        watch.look(&crew.members, &load.tally);
        sleep(Duration::from_millis(20)).await;
    }
    let time = watch.start.elapsed();
    calls.await.expect("no task panics");
    let mut violations = watch.memory.growth(time, memory_max(settings.concurrency));
    violations.extend(dismiss(&mut crew.members).await);
    crew.client.close().await;
    let tally = locked(&load.tally).clone();
    violations.extend(tally.mistakes.iter().cloned());
    if tally.replies != settings.calls {
        violations.push(format!("{} of {} calls have a reply", tally.replies, settings.calls));
    }
    Report { settings, time, tally, memory: watch.memory, violations }
}

/// Asks all to leave; returns the errors of that.
async fn dismiss(members: &mut [Member]) -> Vec<String> {
    let mut mistakes = Vec::new();
    for member in members {
        if let Some(death) = member.death() {
            mistakes.push(death);
            continue;
        }
        member.terminate();
        eventually("it has left", async || match member.has_left() {
            Ok(has_left) => has_left,
            Err(obituary) => {
                mistakes.push(obituary);
                true
            }
        })
        .await;
    }
    mistakes
}

/// Makes calls and counts them.
#[derive(Clone)]
struct Load {
    client: LoadClient,
    seed: u64,
    next: Arc<AtomicU64>,
    calls: u64,
    tally: Arc<Mutex<Tally>>,
}

impl Load {
    fn new(client: &Client, settings: &Settings) -> Self {
        let Settings { seed, calls, .. } = *settings;
        let client = LoadClient::new(client);
        Self { client, seed, next: Arc::default(), calls, tally: Arc::default() }
    }

    async fn make(self, concurrency: usize) {
        let mut callers = JoinSet::new();
        iter::repeat_n(self, concurrency).for_each(|load| drop(callers.spawn(load.call_in_turn())));
        callers.join_all().await;
    }

    async fn call_in_turn(self) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            // After this many errors the problem is known; a million more would only take longer.
            if number >= self.calls || locked(&self.tally).mistakes.len() >= MISTAKES_MAX {
                return;
            }
            self.call(order(self.seed, number)).await;
        }
    }

    async fn call(&self, order: Order) {
        let text = order.text();
        let start = Instant::now();
        let outcome = self.client.once(order, &text).timeout(TIMEOUT).await;
        let time = start.elapsed();
        let checked = match outcome {
            Ok(receipt) => order.check(&receipt),
            Err(error) => Err(format!("{order:?} ended after {time:.1?} with: {error}")),
        };
        let mut tally = locked(&self.tally);
        match checked {
            Ok(()) => {
                tally.replies += 1;
                tally.text_bytes += (order.text_bytes + order.reply_bytes) as u64;
                tally.latencies.add(time);
                tally.recent.add(time);
            }
            Err(mistake) => {
                tally.errors += 1;
                tally.mistakes.push(mistake);
            }
        }
    }
}

/// The call of that number: as many between 10 and 100 bytes as between 10,000 and 100,000, and sometimes the largest.
fn order(seed: u64, number: u64) -> Order {
    let mut random = Rng::with_seed(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut bytes = || match random.u8(..100) {
        0 => TEXT_BYTES_MAX,
        1 => 0,
        _ => (TEXT_BYTES_MAX as f64).powf(random.f64()) as usize,
    };
    Order { number, text_bytes: bytes(), reply_bytes: bytes(), millis: 0 }
}

/// Watches the processes and reports progress.
struct Watch {
    start: Instant,
    memory: Memory,
    sampled_at: Option<Duration>,
    telling: Option<Duration>,
    reported_at: Duration,
    replies: u64,
}

impl Watch {
    fn new(settings: &Settings) -> Self {
        let (start, telling) = (Instant::now(), settings.telling);
        Self { start, memory: Memory::default(), sampled_at: None, telling, reported_at: Duration::ZERO, replies: 0 }
    }

    fn look(&mut self, members: &[Member], tally: &Mutex<Tally>) {
        let now = self.start.elapsed();
        if self.sampled_at.is_none_or(|at| now >= at + SAMPLING) {
            self.sampled_at = Some(now);
            members.iter().for_each(|member| member.sample(now, &mut self.memory));
            let ours = std::process::id();
            let bytes = resident_bytes(ours).expect("it is this process");
            self.memory.add("client", ours, Sample { at: now, bytes });
        }
        if self.telling.is_some_and(|telling| now >= self.reported_at + telling) {
            self.report(now, &mut locked(tally));
        }
    }

    fn report(&mut self, now: Duration, tally: &mut Tally) {
        let rate = (tally.replies - self.replies) as f64 / (now - self.reported_at).as_secs_f64();
        (self.reported_at, self.replies) = (now, tally.replies);
        let (seconds, memory) = (now.as_secs_f64(), self.memory.now(now - 2 * SAMPLING.min(now / 2)));
        let Tally { replies, errors, recent, .. } = &*tally;
        println!("{seconds:>6.1} s: {replies} replies, {errors} errors, {rate:.0} a second; {recent}; {memory}");
        tally.recent.clear();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So long that only a hang exceeds it: speed is measured, not tested.
const TIMEOUT: Duration = PATIENCE;

/// Errors after which the run stops.
const MISTAKES_MAX: usize = 20;

/// The pause between memory samples.
const SAMPLING: Duration = Duration::from_millis(250);

/// The default number of calls at once.
pub const CONCURRENCY: usize = 64;

/// The default number of workers.
pub const WORKERS: usize = 2;

/// The default seed of the sizes.
pub const SEED: u64 = 1;

/// The memory limit of each process: all calls at once of the largest size, both ways, in four copies, or a fixed
/// amount if that is more.
fn memory_max(concurrency: usize) -> usize {
    MEMORY_MAX.max(concurrency * TEXT_BYTES_MAX * 2 * 4)
}

/// [`memory_max`] for up to a hundred calls at once.
const MEMORY_MAX: usize = 256 << 20;
