//! Calls at a steady rate, whatever their outcomes.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    pin,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    LoadClient,
    ledger::{End, Kind, Ledger, Plan},
    record::Record,
};

/// A record of calls and their outcomes.
pub trait Book: Debug + Send + Sync {
    /// Notes that a call is about to start.
    fn begun(&self, plan: &Plan);
    /// Notes that a call has ended, this long after its start.
    fn ended(&self, plan: &Plan, end: End, took: Duration);
}

/// Judges at once, in this process.
impl Book for Mutex<Ledger> {
    fn begun(&self, plan: &Plan) {
        self.lock().unwrap_or_else(PoisonError::into_inner).begun(plan);
    }

    fn ended(&self, plan: &Plan, end: End, took: Duration) {
        self.lock().unwrap_or_else(PoisonError::into_inner).ended(plan, &end, took);
    }
}

/// Records on standard output, for another process to judge.
#[derive(Clone, Copy, Debug)]
pub struct Records;

impl Book for Records {
    fn begun(&self, plan: &Plan) {
        Record::begun(plan.order.number).print();
    }

    fn ended(&self, plan: &Plan, end: End, took: Duration) {
        Record::ended(plan.order.number, end, took).print();
    }
}

/// Makes calls and records them.
#[derive(Clone, Debug)]
pub struct Steady {
    /// The client that it calls through.
    pub client: LoadClient,
    /// The seed of the calls.
    pub seed: u64,
    /// The largest text, in bytes.
    pub text_bytes_max: usize,
    /// Its record.
    pub book: Arc<dyn Book>,
}

impl Steady {
    /// Starts calls at that rate, numbered from `first`, until the future is ready, and waits until all have ended.
    /// Returns how many started, and for how long.
    pub async fn make(self, first: u64, calls_per_second: u32, until: impl Future<Output = ()>) -> (u64, Duration) {
        pin!(until);
        let start = Instant::now();
        let mut calls = JoinSet::new();
        let mut made = 0;
        loop {
            let due = (start.elapsed().as_secs_f64() * f64::from(calls_per_second)) as u64;
            while made < due && calls.len() < OPEN_MAX {
                calls.spawn(self.clone().call(self.plan(first + made)));
                made += 1;
            }
            while calls.try_join_next().is_some() {}
            tokio::select! {
                biased;
                () = &mut until => break,
                () = sleep(TURN) => {}
            }
        }
        let time = start.elapsed();
        calls.join_all().await;
        (made, time)
    }

    /// Makes that call.
    pub async fn call(self, plan: Plan) {
        let text = plan.order.text();
        self.book.begun(&plan);
        let start = Instant::now();
        let call = match plan.kind {
            Kind::Again => self.client.again(plan.order, &text),
            Kind::Once | Kind::Hurried => self.client.once(plan.order, &text),
        };
        let call = call.timeout(plan.timeout);
        pin!(call);
        let end = match timeout(plan.timeout, &mut call).await {
            Ok(outcome) => End::of(&plan.order, &outcome),
            // Counted from when the deadline is noticed: a process that was frozen during it has its time afterwards.
            Err(_) => match timeout(TICK, call).await {
                Ok(outcome) => End::of(&plan.order, &outcome),
                Err(_) => End::Hung,
            },
        };
        self.book.ended(&plan, end, start.elapsed());
    }

    /// The call of that number.
    pub fn plan(&self, number: u64) -> Plan {
        Plan::of(self.seed, number, self.text_bytes_max)
    }
}

/// How much a call may outlast its deadline: far more than the timer's tick, as the machine is busy, and far less than
/// a call that never ends would take.
const TICK: Duration = Duration::from_secs(1);

/// Open calls at once, so that a fault that stops everything does not cause a flood.
const OPEN_MAX: usize = 5_000;

/// The pause between starts of calls.
const TURN: Duration = Duration::from_millis(2);
