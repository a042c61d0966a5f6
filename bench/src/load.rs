//! The load that a client makes: tasks that call one after another, and what they count.

use std::{
    error::Error,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::mode::Mode;

/// Why a measurement has no figures.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Makes one call at a time. Clones, where there are any, share one connection.
pub trait Caller: Send + 'static {
    /// Makes a call, and checks its reply.
    fn call(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Makes calls for some time.
pub trait Driver: Send {
    /// Makes calls for the time, and counts them.
    fn run(&mut self, time: Duration) -> impl Future<Output = Result<Tally, Failure>> + Send;
}

/// What a run of calls comes to.
#[derive(Debug)]
pub struct Tally {
    /// The calls that have ended.
    pub calls: u64,
    /// The time from the first call's start to the last one's end.
    pub time: Duration,
    /// The time of each call in nanoseconds, where calls are sequential.
    pub latencies: Option<Histogram<u64>>,
}

/// The driver of a sequential mode: one call after another.
#[derive(Debug)]
pub struct OneLane<C>(pub C);

impl<C: Caller> Driver for OneLane<C> {
    async fn run(&mut self, time: Duration) -> Result<Tally, Failure> {
        let mut latencies = Histogram::new(DIGITS)?;
        let start = Instant::now();
        let mut before = start;
        while before - start < time {
            self.0.call().await?;
            let now = Instant::now();
            latencies.record(u64::try_from((now - before).as_nanos())?)?;
            before = now;
        }
        Ok(Tally { calls: latencies.len(), time: before - start, latencies: Some(latencies) })
    }
}

/// The driver of any mode: as many tasks as there are calls in flight.
#[derive(Debug)]
pub struct Lanes<C> {
    caller: OneLane<C>,
    lanes: usize,
}

impl<C: Caller + Clone> Lanes<C> {
    /// Makes the calls of a mode through clones of the caller.
    pub fn new(caller: C, mode: Mode) -> Self {
        Self { caller: OneLane(caller), lanes: mode.in_flight() }
    }

    async fn side_by_side(&mut self, time: Duration) -> Result<Tally, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut lanes = JoinSet::new();
        let start = Instant::now();
        for _ in 0..self.lanes {
            lanes.spawn(lane(self.caller.0.clone(), Arc::clone(&stop)));
        }
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
        let mut calls = 0;
        while let Some(lane) = lanes.join_next().await {
            calls += lane??;
        }
        Ok(Tally { calls, time: start.elapsed(), latencies: None })
    }
}

impl<C: Caller + Clone> Driver for Lanes<C> {
    async fn run(&mut self, time: Duration) -> Result<Tally, Failure> {
        match self.lanes {
            1 => self.caller.run(time).await,
            _ => self.side_by_side(time).await,
        }
    }
}

/// Makes calls until it is stopped, and returns how many.
async fn lane(mut caller: impl Caller, stop: Arc<AtomicBool>) -> Result<u64, Failure> {
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        caller.call().await?;
        calls += 1;
    }
    Ok(calls)
}

/// Significant digits of a latency: a tenth of a percent.
const DIGITS: u8 = 3;

/// Checks the size of a reply.
///
/// # Errors
/// When it is not the request's.
pub fn check(bytes: usize, expected: usize) -> Result<(), Failure> {
    if bytes == expected { Ok(()) } else { Err(format!("a reply of {bytes} bytes instead of {expected}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Napper;

    impl Caller for Napper {
        async fn call(&mut self) -> Result<(), Failure> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        }
    }

    #[derive(Clone)]
    struct Failing;

    impl Caller for Failing {
        async fn call(&mut self) -> Result<(), Failure> {
            tokio::task::yield_now().await;
            Err("nobody answers".into())
        }
    }

    #[tokio::test]
    async fn sequential_calls_have_latencies_and_others_have_none() {
        let time = Duration::from_millis(50);
        let tally = Lanes::new(Napper, Mode::SequentialOneCpu).run(time).await.expect("runs");
        let latencies = tally.latencies.expect("latencies");
        assert_eq!(tally.calls, latencies.len());
        assert!(latencies.min() >= 1_000_000 && tally.time >= time);

        let tally = Lanes::new(Napper, Mode::InFlight64).run(time).await.expect("runs");
        assert!(tally.calls >= 64 && tally.latencies.is_none());
    }

    #[tokio::test]
    async fn failed_call_ends_the_run_with_its_reason() {
        for mode in [Mode::SequentialOneCpu, Mode::InFlight64] {
            let failure = Lanes::new(Failing, mode).run(Duration::from_millis(5)).await.expect_err("fails");
            assert_eq!(failure.to_string(), "nobody answers");
        }
    }
}
