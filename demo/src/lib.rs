//! The demo of Xero: the service [`Demo`], a worker that serves it, a broker, a client for the command line, and a tour.
//!
//! | command | what it does |
//! |---|---|
//! | `cargo run -p xero-demo` | the tour: starts workers, calls them, kills some, and reports what happens |
//! | `demo-worker ENDPOINT…` | serves [`Demo`] to the clients and brokers at these endpoints |
//! | `demo-client ENDPOINT METHOD` | binds the endpoint, waits for a worker, calls the method |
//! | `demo-broker FRONTEND BACKEND` | binds both endpoints, and routes calls between clients and workers |
//! | `demo-client --connect ENDPOINT METHOD` | connects to a broker, waits for a worker, calls the method |
//! | `demo-lifecycle QUESTION` | answers an orchestrator's questions about a container without a shell |
//!
//! The service is the whole contract. Its typed client, `DemoClient`, is made from the trait:
//!
//! ```
//! use xero::{Client, Worker};
//! use xero_demo::{Demo, DemoClient, Here};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::bind("tcp://127.0.0.1:0").await?;
//! let worker = Worker::connect(client.endpoint()).serve(Here).start()?;
//!
//! let demo = DemoClient::new(&client);
//! assert_eq!(demo.ping().await?, "pong");
//! assert_eq!(demo.compare("apple".to_owned(), "orange".to_owned()).await?, (false, 2));
//! # worker.drain().await;
//! # Ok(())
//! # }
//! ```

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};
use tracing::info;
use xero::Context;

pub mod arguments;
pub mod broker;
pub mod client;
pub mod lifecycle;
pub mod report;
pub mod run;
pub mod signals;
pub mod tour;
pub mod worker;

/// Refuses an endpoint that nobody outside of this process can reach.
pub(crate) fn check_reachable(endpoint: &str) -> Result<(), String> {
    match endpoint.starts_with("inproc://") {
        true => {
            Err(format!("{endpoint} is within one process, and this program is alone in its own: use tcp:// or ipc://"))
        }
        false => Ok(()),
    }
}

/// Reads a whole number of the command line within this range.
pub(crate) fn whole<T: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number)).and_then(|number| number.try_into().ok());
    number.ok_or_else(|| format!("give a whole number from {} to {}", range.start(), range.end()))
}

/// The methods of the demo's workers. No method blocks another.
#[xero::service]
pub trait Demo {
    /// Answers "pong".
    #[xero(idempotent)]
    async fn ping(&self) -> String;

    /// Whether two texts are equal: `(true, 1)` if so, else `(false, 2)`.
    #[xero(idempotent)]
    async fn compare(&self, str1: String, str2: String) -> (bool, u8);

    /// Replies with nothing.
    #[xero(idempotent)]
    async fn return_none(&self);

    /// Sends the partial reply "started", and succeeds after this many seconds.
    #[xero(idempotent)]
    async fn slow_succeed(&self, cx: &Context, seconds: f64) -> Result<bool, DemoError>;

    /// Sends the partial reply "started", and fails after this many seconds. Not idempotent: it never runs twice.
    async fn slow_fail(&self, cx: &Context, seconds: f64) -> Result<bool, DemoError>;

    /// Sends the text back.
    #[xero(idempotent)]
    async fn echo(&self, payload: String) -> String;

    /// Which worker answers.
    #[xero(idempotent)]
    async fn whoami(&self, cx: &Context) -> WhoAmI;
}

/// A worker, by its two names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoAmI {
    /// Its id, new at each start.
    pub worker: String,
    /// Its process.
    pub pid: u32,
}

/// Why a slow method has no reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum DemoError {
    /// It failed, as requested.
    #[error("failed after {seconds} s, as requested")]
    Failed {
        /// How long it took.
        seconds: f64,
    },
    /// It cannot wait that long, and has not started.
    #[error("cannot wait for {given} s: give a number from 0 to {SECONDS_MAX}")]
    InvalidSeconds {
        /// The requested seconds. Text, because JSON cannot express "not a number".
        given: String,
    },
}

/// The worker's side of [`Demo`]: this process does all the work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here;

#[xero::worker]
impl Demo for Here {
    async fn ping(&self) -> String {
        "pong".to_owned()
    }

    async fn compare(&self, str1: String, str2: String) -> (bool, u8) {
        if str1 == str2 { (true, 1) } else { (false, 2) }
    }

    async fn return_none(&self) {}

    async fn slow_succeed(&self, cx: &Context, seconds: f64) -> Result<bool, DemoError> {
        wait(cx, seconds).await?;
        Ok(true)
    }

    async fn slow_fail(&self, cx: &Context, seconds: f64) -> Result<bool, DemoError> {
        wait(cx, seconds).await?;
        Err(DemoError::Failed { seconds })
    }

    async fn echo(&self, payload: String) -> String {
        payload
    }

    async fn whoami(&self, cx: &Context) -> WhoAmI {
        WhoAmI { worker: cx.worker_id().to_string(), pid: std::process::id() }
    }
}

/// The longest that a slow method waits: a day.
pub const SECONDS_MAX: u32 = 24 * 60 * 60;

async fn wait(cx: &Context, seconds: f64) -> Result<(), DemoError> {
    let time = duration(seconds)?;
    info!(method = %format_args!("{}.{}", cx.service(), cx.method()), attempt = cx.attempt(), ?time, "started");
    // A departed caller has cancelled the call, which ends at its next `await`.
    let _ = cx.partial("started").await;
    tokio::time::sleep(time).await;
    Ok(())
}

fn duration(seconds: f64) -> Result<Duration, DemoError> {
    let time = Duration::try_from_secs_f64(seconds).ok();
    time.filter(|time| *time <= Duration::from_secs(SECONDS_MAX.into()))
        .ok_or_else(|| DemoError::InvalidSeconds { given: seconds.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_that_are_not_a_duration_are_an_error() {
        for seconds in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 86_400.1, -f64::MIN_POSITIVE] {
            let error = duration(seconds).expect_err("is refused");
            assert_eq!(error, DemoError::InvalidSeconds { given: seconds.to_string() });
        }
    }

    #[test]
    fn seconds_may_be_zero_a_fraction_or_a_day() {
        assert_eq!(duration(0.0), Ok(Duration::ZERO));
        assert_eq!(duration(0.25), Ok(Duration::from_millis(250)));
        assert_eq!(duration(86_400.0), Ok(Duration::from_secs(86_400)));
    }

    #[test]
    fn service_is_an_ordinary_trait() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("builds");
        let equal = runtime.block_on(Here.compare("apple".to_owned(), "apple".to_owned()));
        assert_eq!(equal, (true, 1));
    }
}
