//! Calls at a steady rate while the serving processes are killed, frozen, asked to leave, and restarted.
//!
//! At any time at least one worker is reachable (see [`Crew`](crate::load::crew::Crew)): a fault hits a process only if
//! a worker is reachable without it. A worker or broker that was given up while it was frozen is not among its client's
//! workers until it has returned, so one that only looks well does not count.

mod director;
mod schedule;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};
use uuid::Uuid;

use self::director::Director;
use crate::load::{
    LoadClient,
    crew::Topology,
    figures::Memory,
    ledger::{Kind, Ledger, TEXT_BYTES_MAX},
    record::Record,
    steady::Steady,
};

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that plays the roles; see [`crate::load::child`].
    pub program: PathBuf,
    /// The seed of everything that looks random.
    pub seed: u64,
    /// How long the faults continue.
    pub time: Duration,
    /// How calls find workers.
    pub topology: Topology,
    /// The number of calls that start per second.
    pub calls_per_second: u32,
    /// How many workers there are.
    pub workers: usize,
    /// Whether progress is printed.
    pub is_talkative: bool,
}

impl Settings {
    /// The usual settings.
    pub fn new(program: impl Into<PathBuf>, topology: Topology, time: Duration) -> Self {
        let (program, seed) = (program.into(), Uuid::new_v4().as_u64_pair().0);
        let (calls_per_second, workers) = (CALLS_PER_SECOND, WORKERS);
        Self { program, seed, time, topology, calls_per_second, workers, is_talkative: false }
    }

    /// Why a sound run with these settings proves little, if so.
    pub fn doubt(&self) -> Option<String> {
        let least = TIME_MIN.as_secs();
        let doubt = match (self.calls_per_second < CALLS_PER_SECOND_MIN, self.time < TIME_MIN) {
            (true, _) => format!("fewer than {CALLS_PER_SECOND_MIN} calls a second"),
            (_, true) => format!("less than {least} seconds"),
            (false, false) => return None,
        };
        Some(format!("{doubt} prove little: the faults may hit no call"))
    }

    /// The calls that must have started per second.
    fn load_min(&self) -> f64 {
        let nearly_all = f64::from(self.calls_per_second) * 0.9;
        nearly_all.min(f64::from(CALLS_PER_SECOND_MIN))
    }

    /// The mistake in a load of this many calls, if any.
    fn judge(&self, begun: u64) -> Option<String> {
        let (seconds, least) = (self.time.as_secs_f64(), self.load_min());
        let (rate, asked) = (begun as f64 / seconds, self.calls_per_second);
        let mistake = || format!("{rate:.0} calls a second of the {asked} asked for; at least {least:.0} were due");
        // Whole calls only: a fraction of a due call has not started.
        (begun < (least * seconds) as u64).then(mistake)
    }
}

/// The results of a run.
#[derive(Debug)]
pub struct Report {
    settings: Settings,
    log: Vec<(Duration, String)>,
    ledger: Ledger,
    memory: Memory,
    /// The calls that started during the faults, and the time of these.
    begun: u64,
    time: Duration,
    /// The longest time without a reachable worker.
    gap: Duration,
}

impl Report {
    /// Broken promises, at most the first few.
    pub fn violations(&self) -> &[String] {
        self.ledger.violations()
    }

    /// Fails, and prints everything, if a promise was broken.
    pub fn assert_sound(&self) {
        assert!(self.violations().is_empty(), "{self:#}");
    }
}

/// With `#`, including the log.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, log, ledger, memory, begun, time, gap } = self;
        if f.alternate() {
            for (at, line) in log {
                writeln!(f, "{}{line}", moment(*at))?;
            }
        }
        let Settings { seed, workers, topology, calls_per_second, .. } = settings;
        writeln!(f, "seed {seed}, {topology}: {time:.1?} of calls to {workers} workers")?;
        match gap.is_zero() {
            true => writeln!(f, "at every moment a worker was reachable")?,
            false => writeln!(f, "no worker was reachable for {gap:.1?} at the longest")?,
        }
        let rate = *begun as f64 / time.as_secs_f64();
        writeln!(f, "{rate:.0} calls a second, {calls_per_second} asked for; {LAST} calls more after the faults")?;
        write!(f, "{ledger}resident memory:\n{memory}")
    }
}

/// Makes the calls and the faults.
pub async fn run(settings: Settings) -> Report {
    let journal = JournalFile::new();
    let mut director = Director::begin(&settings, journal.path()).await;
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let (client, book) = (LoadClient::new(director.client()), Arc::clone(&ledger));
    let load = Steady { client, seed: settings.seed, text_bytes_max: TEXT_BYTES_MAX, book };
    let calls = tokio::spawn(load.clone().make(0, settings.calls_per_second, sleep(settings.time)));
    director.disturb(settings.time, || summary(&ledger)).await;
    let (begun, time) = calls.await.expect("no task panics");
    director.heal().await;
    make_last_ones(&load, &ledger).await;
    let ending = director.end().await;
    drop(load);
    let mut ledger = std::mem::take(&mut *locked(&ledger));
    ledger.compare(journal.numbers());
    ending.violations.into_iter().for_each(|violation| ledger.violated(violation));
    if let Some(mistake) = settings.judge(begun) {
        ledger.violated(mistake);
    }
    if settings.doubt().is_none() && (ledger.retried == 0 || ledger.lost == 0) {
        ledger.violated("the faults have hit no call".to_owned());
    }
    Report { settings, log: ending.log, ledger, memory: ending.memory, begun, time, gap: ending.gap }
}

/// The start of a line about that moment.
fn moment(at: Duration) -> String {
    format!("{:>8.3} s: ", at.as_secs_f64())
}

fn summary(ledger: &Mutex<Ledger>) -> String {
    let ledger = locked(ledger);
    let Ledger { made, replies, retried, lost, .. } = &*ledger;
    let violations = ledger.violations().len();
    format!("{made} calls, {replies} replies, {retried} retried, {lost} lost, {violations} violations")
}

/// Makes calls that must all succeed, because the faults are over.
async fn make_last_ones(load: &Steady, ledger: &Mutex<Ledger>) {
    let plans = (LAST_FROM..).map(|number| load.plan(number));
    let plans = plans.filter(|plan| plan.kind != Kind::Hurried).take(LAST);
    let lost = locked(ledger).lost;
    let mut calls = JoinSet::new();
    plans.for_each(|plan| drop(calls.spawn(load.clone().call(plan))));
    calls.join_all().await;
    let mut ledger = locked(ledger);
    if ledger.lost > lost {
        let lost = ledger.lost - lost;
        ledger.violated(format!("{lost} workers were lost after all had come to rest"));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file in which workers record their runs.
#[derive(Debug)]
struct JournalFile(PathBuf);

impl JournalFile {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("xero-chaos-{}", Uuid::new_v4()));
        fs::write(&path, "").expect("the directory for temporary files can be written to");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn numbers(&self) -> Vec<u64> {
        let text = fs::read_to_string(&self.0).expect("the journal can be read");
        let number = |line| match Record::parse(line) {
            Some(Record::Ran { number, .. }) => number,
            _ => panic!("this is no run: {line}"),
        };
        text.lines().map(number).collect()
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The default calls per second: half as many again as required.
pub const CALLS_PER_SECOND: u32 = 1_500;

/// The least load under which a run proves something.
pub const CALLS_PER_SECOND_MIN: u32 = 1_000;

/// The default number of workers: several can be away, and one is still reachable.
pub const WORKERS: usize = 5;

/// The least time in which every kind of fault happens several times.
pub const TIME_MIN: Duration = Duration::from_secs(10);

/// The number of calls after the faults.
const LAST: usize = 500;

/// The number of the first call after the faults, out of reach for those before.
const LAST_FROM: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(calls_per_second: u32, seconds: u64) -> Settings {
        let time = Duration::from_secs(seconds);
        Settings { calls_per_second, ..Settings::new("", Topology::Direct, time) }
    }

    #[test]
    fn load_must_reach_its_rate_up_to_the_required_least() {
        for (asked, least) in [(300, 270), (1_000, 900), (1_500, 1_000), (10_000, 1_000)] {
            let settings = settings(asked, 10);
            assert_eq!(settings.judge(least * 10), None, "{asked}");
            assert!(settings.judge(least * 10 - 1).is_some(), "{asked}");
        }
        assert_eq!(settings(1, 1).judge(0), None);
    }

    #[test]
    fn run_below_the_least_load_or_time_gets_a_warning() {
        assert_eq!(settings(CALLS_PER_SECOND_MIN, 10).doubt(), None);
        assert!(settings(CALLS_PER_SECOND_MIN - 1, 10).doubt().is_some());
        assert!(settings(CALLS_PER_SECOND_MIN, 9).doubt().is_some());
    }
}
