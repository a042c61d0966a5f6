//! Makes the calls of a run, a bounded number at a time, and hands their replies to a report.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use xero::{CallError, Client, Codec, Value};

use crate::{arguments::Arguments, report::Report, signals::Signals};

/// The method to call, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// As `Service.method`.
    pub method: String,
    /// Its arguments.
    pub arguments: Arguments,
    /// The time limit of each call.
    pub timeout: Duration,
    /// The number of calls; `None` until interrupted.
    pub count: Option<u64>,
    /// The number of calls in flight at once.
    pub concurrency: usize,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    /// All calls have ended.
    Complete,
    /// A signal has cut it short; calls in flight are cancelled.
    Interrupted,
    /// Its replies could not be printed.
    Unprintable(io::Error),
}

/// Makes the calls and reports each. Returns how the run ended and how long it took.
pub async fn run(client: &Client, plan: Plan, report: &mut Report, signals: &Signals) -> (End, Duration) {
    let began = Instant::now();
    let (sender, mut happenings) = mpsc::channel(HAPPENINGS_MAX);
    let plan = Arc::new(plan);
    let next = Arc::new(AtomicU64::new(0));
    let lanes =
        plan.count.map_or(plan.concurrency, |count| plan.concurrency.min(usize::try_from(count).unwrap_or(usize::MAX)));
    // Dropping the set stops the lanes, which cancels their calls.
    let mut running = JoinSet::new();
    for _ in 0..lanes {
        running.spawn(lane(client.clone(), Arc::clone(&plan), Arc::clone(&next), sender.clone()));
    }
    drop(sender);
    let end = loop {
        let happening = tokio::select! {
            biased;
            () = signals.first() => break End::Interrupted,
            happening = happenings.recv() => happening,
        };
        let printed = match happening {
            None => break End::Complete,
            Some(Happening::Partial(call, value)) => report.partial(call, &value),
            Some(Happening::Ended(call, outcome, took)) => report.outcome(call, &outcome, took),
        };
        if let Err(error) = printed {
            break End::Unprintable(error);
        }
    };
    (end, began.elapsed())
}

/// Replies that wait to be printed. A terminal slower than the calls holds them up, so that they do not fill the
/// memory.
const HAPPENINGS_MAX: usize = 1024;

enum Happening {
    Partial(u64, Value),
    Ended(u64, Result<Value, CallError<Value>>, Duration),
}

/// Makes one call after another until all are made.
async fn lane(client: Client, plan: Arc<Plan>, next: Arc<AtomicU64>, happenings: mpsc::Sender<Happening>) {
    loop {
        let call = next.fetch_add(1, Ordering::Relaxed) + 1;
        if plan.count.is_some_and(|count| call > count) {
            return;
        }
        let began = Instant::now();
        let prepared = client.call(&plan.method).codec(Codec::Json).arguments(&plan.arguments);
        let mut pending = prepared.timeout(plan.timeout).start();
        while let Some(value) = pending.partial().await {
            if happenings.send(Happening::Partial(call, value)).await.is_err() {
                return;
            }
        }
        let outcome = pending.await;
        if happenings.send(Happening::Ended(call, outcome, began.elapsed())).await.is_err() {
            return;
        }
    }
}
