//! A child's side of the conversation with the process that started it, in lines over stdin and stdout.
//!
//! A child that binds prints `ready` with its endpoints. A client that is connected and warm prints `warm`, waits for
//! `go`, measures, and prints its tally as JSON. In between, the parent reads the children's CPU times. A child ends
//! when its stdin does, so it never outlives its parent.

use std::{
    future,
    io::{self, BufRead, Write},
    process, thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    load::{Driver, Failure, Tally},
    mode::Mode,
};

/// What a child has to know about its measurement.
#[derive(Debug)]
pub struct Session {
    /// How to call.
    pub mode: Mode,
    /// Where to connect, for a child that does.
    pub endpoint: String,
    /// How long to call before the measurement.
    pub warm_up: Duration,
    /// How long to measure.
    pub time: Duration,
    go: oneshot::Receiver<()>,
}

/// A client's tally, as it tells its parent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The calls that have ended.
    pub calls: u64,
    /// The seconds that they took.
    pub seconds: f64,
    /// The median time of a call, in microseconds, where calls are sequential.
    pub p50_us: Option<f64>,
    /// The time that 99 of 100 calls stay below, in microseconds, where calls are sequential.
    pub p99_us: Option<f64>,
}

impl Session {
    /// Starts to listen to the parent.
    pub fn open(mode: Mode, endpoint: String, warm_up: Duration, time: Duration) -> Self {
        let (sender, go) = oneshot::channel();
        thread::spawn(move || listen(sender));
        Self { mode, endpoint, warm_up, time, go }
    }

    /// Warms up, measures, and keeps the connection until the process ends, so that the parent can see what all sides
    /// have used.
    ///
    /// # Errors
    /// When a call fails, or nobody reads what is printed.
    pub async fn measure(self, mut driver: impl Driver) -> Result<(), Failure> {
        driver.run(self.warm_up).await?;
        print("warm")?;
        self.go.await?;
        let report = Report::from(&driver.run(self.time).await?);
        print(&serde_json::to_string(&report)?)?;
        future::pending().await
    }
}

impl From<&Tally> for Report {
    fn from(tally: &Tally) -> Self {
        let quantile = |q| tally.latencies.as_ref().map(|latencies| latencies.value_at_quantile(q) as f64 / 1e3);
        Self { calls: tally.calls, seconds: tally.time.as_secs_f64(), p50_us: quantile(0.5), p99_us: quantile(0.99) }
    }
}

/// Reports the endpoints that this child has bound.
///
/// # Errors
/// When nobody reads what is printed.
pub fn ready(endpoints: &[&str]) -> io::Result<()> {
    print(&format!("ready {}", endpoints.join(" ")))
}

fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Passes on the parent's `go`, and ends the process with its parent.
fn listen(go: oneshot::Sender<()>) {
    let mut lines = io::stdin().lock().lines();
    if let Some(Ok(_)) = lines.next() {
        let _ = go.send(());
    }
    while let Some(Ok(_)) = lines.next() {}
    process::exit(0);
}
