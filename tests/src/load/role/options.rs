//! The options of the roles.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use xero::{Broker, BrokerBuilder, Client, ClientBuilder, Worker, WorkerBuilder};

use super::{LIVENESS, TELLS};
use crate::{command_line::whole_number, load::ledger::TEXT_BYTES_MAX};

/// The options of a worker.
#[derive(Clone, Debug, Args)]
pub struct WorkerOptions {
    /// The clients or brokers to dial
    #[arg(value_name = "ENDPOINT", required = true)]
    pub endpoints: Vec<String>,
    /// An existing file for the records of runs [default: standard output]
    #[arg(long, value_name = "PATH")]
    pub journal: Option<PathBuf>,
    /// The time between heartbeats, four of which may be missed [default: the library's]
    #[arg(long, value_name = "MS", allow_negative_numbers = true, value_parser = milliseconds)]
    pub interval: Option<Duration>,
    /// How many calls it runs at once: 1 or more [default: the library's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u32>(1..=u32::MAX.into()))]
    pub credits: Option<u32>,
    /// The least and the most time between two dials [default: the library's]
    #[arg(long, value_name = "MS..MS", value_parser = bounds)]
    pub backoff: Option<(Duration, Duration)>,
    /// Time limit for running calls after SIGTERM [default: the library's]
    #[arg(long, value_name = "MS", allow_negative_numbers = true, value_parser = milliseconds)]
    pub drain: Option<Duration>,
}

/// The options of a broker.
#[derive(Clone, Debug, Args)]
pub struct BrokerOptions {
    /// Where clients connect to
    pub frontend: String,
    /// Where workers connect to
    pub backend: String,
    /// The time between heartbeats, four of which may be missed [default: the library's]
    #[arg(long, value_name = "MS", allow_negative_numbers = true, value_parser = milliseconds)]
    pub interval: Option<Duration>,
    /// How often a call is tried: 1 to 255 [default: the library's]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number::<u8>(1..=255))]
    pub attempts: Option<u8>,
    /// How many calls each client may have here: 1 or more [default: the library's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u32>(1..=u32::MAX.into()))]
    pub credits: Option<u32>,
    /// Time limit for running calls after SIGTERM [default: the library's]
    #[arg(long, value_name = "MS", allow_negative_numbers = true, value_parser = milliseconds)]
    pub drain: Option<Duration>,
    /// Print repeatedly which workers it has
    #[arg(long = TELLS)]
    pub tells: bool,
}

/// The options of a client that calls endlessly.
#[derive(Clone, Debug, Args)]
pub struct CallerOptions {
    /// The endpoint to bind, or the brokers to connect to
    #[arg(value_name = "ENDPOINT", required = true)]
    pub endpoints: Vec<String>,
    /// Bind the endpoint
    #[arg(long)]
    pub bind: bool,
    /// The time between heartbeats
    #[arg(long, value_name = "MS", default_value = "1000", allow_negative_numbers = true, value_parser = milliseconds)]
    pub interval: Duration,
    /// Concurrent calls: 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(1..=1_000))]
    pub concurrency: u64,
    /// The length of each call's text
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub text: usize,
    /// The length of each reply's text
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub reply: usize,
    /// How long the procedure takes
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub millis: u64,
}

/// The options of a steady load.
#[derive(Clone, Debug, Args)]
pub struct LoadOptions {
    /// The brokers to connect to, or the endpoint to bind
    #[arg(value_name = "ENDPOINT", required = true)]
    pub endpoints: Vec<String>,
    /// Bind the endpoint
    #[arg(long)]
    pub bind: bool,
    /// Calls that start per second: 1 to 10000
    #[arg(long, value_name = "CALLS", default_value_t = 100, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u32>(1..=10_000))]
    pub rate: u32,
    /// The seed of the calls; the same for loads that are judged together
    #[arg(long, value_name = "SEED", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(0..=u64::MAX))]
    pub seed: u64,
    /// The number of the first call; apart from those of other loads [default: random]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(0..=FIRST_MAX))]
    pub first: Option<u64>,
    /// The longest text of a call or a reply: up to 314159
    #[arg(long, value_name = "BYTES", default_value_t = TEXT_BYTES_MAX, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<usize>(0..=crate::load::TEXT_BYTES_MAX as u64))]
    pub text_max: usize,
    /// The time between heartbeats, four of which may be missed [default: the library's]
    #[arg(long, value_name = "MS", allow_negative_numbers = true, value_parser = milliseconds)]
    pub interval: Option<Duration>,
    /// How often a call is tried: 1 to 255 [default: the library's]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole_number::<u8>(1..=255))]
    pub attempts: Option<u8>,
}

/// The options of a faulty link.
#[derive(Clone, Debug, Args)]
pub struct LinkOptions {
    /// Where to listen, and where to carry connections: HOST:PORT=HOST:PORT
    #[arg(value_name = "LISTEN=TARGET", required = true, value_parser = way)]
    pub ways: Vec<(String, String)>,
    /// The delay in each direction: up to 60000
    #[arg(long, value_name = "MS", default_value = "0", allow_negative_numbers = true, value_parser = lateness)]
    pub latency: Duration,
    /// The random variation of the delay: up to 60000
    #[arg(long, value_name = "MS", default_value = "0", allow_negative_numbers = true, value_parser = lateness)]
    pub jitter: Duration,
    /// The rate of each connection in each direction: 1 or more [default: unlimited]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u32>(1..=u32::MAX.into()))]
    pub bytes_per_second: Option<u32>,
    /// The seed of the jitter
    #[arg(long, value_name = "SEED", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = whole_number::<u64>(0..=u64::MAX))]
    pub seed: u64,
}

impl WorkerOptions {
    pub(super) fn settings(&self) -> WorkerBuilder {
        let mut settings = Worker::connect(&self.endpoints);
        if let Some(interval) = self.interval {
            settings = settings.heartbeat_interval(interval).liveness(LIVENESS);
        }
        if let Some(credits) = self.credits {
            settings = settings.concurrency(credits);
        }
        if let Some((first, max)) = self.backoff {
            settings = settings.backoff(first, max);
        }
        match self.drain {
            Some(timeout) => settings.drain_timeout(timeout),
            None => settings,
        }
    }
}

impl BrokerOptions {
    pub(super) fn settings(&self) -> BrokerBuilder {
        let mut settings = Broker::builder();
        if let Some(interval) = self.interval {
            settings = settings.heartbeat_interval(interval).liveness(LIVENESS);
        }
        if let Some(attempts) = self.attempts {
            settings = settings.attempts_max(attempts);
        }
        if let Some(credits) = self.credits {
            settings = settings.client_credits(credits);
        }
        match self.drain {
            Some(timeout) => settings.drain_timeout(timeout),
            None => settings,
        }
    }
}

impl LoadOptions {
    pub(super) fn settings(&self) -> ClientBuilder {
        let mut settings = Client::builder();
        if let Some(interval) = self.interval {
            settings = settings.heartbeat_interval(interval).liveness(LIVENESS);
        }
        match self.attempts {
            Some(attempts) => settings.attempts_max(attempts),
            None => settings,
        }
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    whole_number(1..=u64::MAX)(text).map(Duration::from_millis)
}

fn lateness(text: &str) -> Result<Duration, String> {
    whole_number(0..=60_000)(text).map(Duration::from_millis)
}

fn bounds(text: &str) -> Result<(Duration, Duration), String> {
    let (first, max) = text.split_once("..").ok_or("give two numbers of milliseconds, as in 100..2000")?;
    Ok((milliseconds(first)?, milliseconds(max)?))
}

fn way(text: &str) -> Result<(String, String), String> {
    let is_address = |address: &str| {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        matches!(port, Some(Ok(_)))
    };
    let ends = text.split_once('=').filter(|(listen, target)| is_address(listen) && is_address(target));
    let (listen, target) = ends.ok_or("give HOST:PORT=HOST:PORT, as in 0.0.0.0:5560=broker-1:5560")?;
    Ok((listen.to_owned(), target.to_owned()))
}

/// The largest first number: from there, no load makes enough calls to exhaust the numbers.
pub(super) const FIRST_MAX: u64 = 1 << 60;

/// The rest of a worker's help.
pub(super) const WORKER_HELP: &str = "\
Prints `started ID`, then each run of a call as a record, then `left`.

Example:
    crew worker tcp://broker-1:5561 tcp://broker-2:5561";

/// The rest of a broker's help.
pub(super) const BROKER_HELP: &str = "\
Prints `frontend ENDPOINT`, `backend ENDPOINT` and `started ID`, then its workers as a record whenever they change, then
`left`.

Example:
    crew broker 'tcp://*:5560' 'tcp://*:5561'";

/// The rest of a caller's help.
pub(super) const CALLER_HELP: &str = "\
Prints `started ENDPOINT`, and `replied` at each reply. Exits with 1 when a call fails.

Example:
    crew caller tcp://broker-1:5560 --concurrency 8";

/// The rest of a load's help.
pub(super) const LOAD_HELP: &str = "\
Waits up to 60 seconds for a worker. Prints `started ENDPOINT`, records of each call's start and end and of each
change of its workers or brokers, and then `left`. At most 5000 calls are open at once; after SIGTERM, the last may take
11 seconds to end. Exits with 1 if no worker has come.

Example:
    crew load tcp://broker-1:5560 tcp://broker-2:5560 --rate 500 --seed 7 --first 1_000_000";

/// The rest of a link's help.
pub(super) const LINK_HELP: &str = "\
Prints `started ADDRESS` for each LISTEN=TARGET. The target's name is resolved again for each connection; a connection
to an unreachable target is reset.

Example:
    crew link 0.0.0.0:5560=broker-1:5560 0.0.0.0:5561=broker-1:5561 --latency 200 --jitter 100";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn way_of_a_link_has_two_addresses() {
        let pair = |listen: &str, target: &str| Ok((listen.to_owned(), target.to_owned()));
        assert_eq!(way("0.0.0.0:5560=broker-1:5561"), pair("0.0.0.0:5560", "broker-1:5561"));
        assert_eq!(way("[::1]:0=[::1]:1"), pair("[::1]:0", "[::1]:1"));
        for wrong in ["", "=", "a:1", "a:1=", "=a:1", "a=b", "a:1=b", "a:1=:1", "a:1=b:x", "a:1=b:65536"] {
            assert!(way(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn backoff_has_two_bounds() {
        let millis = Duration::from_millis;
        assert_eq!(bounds("20..500"), Ok((millis(20), millis(500))));
        for wrong in ["", "20", "20..", "..500", "0..500", "20-500", "x..y"] {
            assert!(bounds(wrong).is_err(), "{wrong}");
        }
    }
}
