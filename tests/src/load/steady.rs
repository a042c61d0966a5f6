//! Calls at a steady rate, whatever becomes of them.

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

/// Where it is kept what was called and what became of it.
pub trait Book: Debug + Send + Sync {
    /// A call is about to go out.
    fn begun(&self, plan: &Plan);
    /// A call has ended, so long after it was begun.
    fn ended(&self, plan: &Plan, end: End, took: Duration);
}

/// Judged at once, in this process.
impl Book for Mutex<Ledger> {
    fn begun(&self, plan: &Plan) {
        self.lock().unwrap_or_else(PoisonError::into_inner).begun(plan);
    }

    fn ended(&self, plan: &Plan, end: End, took: Duration) {
        self.lock().unwrap_or_else(PoisonError::into_inner).ended(plan, &end, took);
    }
}

/// Records on standard output, for somebody else to judge.
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

/// Makes calls and keeps book.
#[derive(Clone, Debug)]
pub struct Steady {
    /// Whom it calls.
    pub client: LoadClient,
    /// What the calls are drawn from.
    pub seed: u64,
    /// The most bytes that a text has.
    pub text_bytes_max: usize,
    /// Where it keeps book.
    pub book: Arc<dyn Book>,
}

impl Steady {
    /// Begins calls at that rate, with numbers from the first on, until the future is ready, and waits until all have
    /// ended; how many were begun, and for how long.
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
        let call = call.timeout(plan.timeout).into_future();
        pin!(call);
        let end = match timeout(plan.timeout, &mut call).await {
            Ok(outcome) => End::of(&plan.order, &outcome),
            // Counted from when the deadline is noticed: a process that was frozen over it has its time afterwards.
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

/// By how much a call may outlast its deadline: far more than the timer's tick, as the machine is busy, and far less
/// than what a call that nobody ends would take.
const TICK: Duration = Duration::from_secs(1);

/// Calls that may be open at once, so that a fault that stops everything is no flood.
const OPEN_MAX: usize = 5_000;

/// How often calls are begun.
const TURN: Duration = Duration::from_millis(2);
