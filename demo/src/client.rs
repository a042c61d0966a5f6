//! `demo-client`: calls a method from the command line.

use std::{
    io::{self, Write},
    process::ExitCode,
    slice,
    time::Duration,
};

use clap::Args;
use tracing::level_filters::LevelFilter;
use xero::Client;

use crate::{
    arguments::{Arguments, ArgumentsError},
    check_reachable,
    report::{Report, Style, Verdict, complain},
    run::{self, End, Plan},
    signals::{INTERRUPTED, Signals},
    whole,
    worker::{self, log},
};

/// The command line of `demo-client`.
#[derive(Clone, Debug, Args)]
pub struct ClientOptions {
    /// Where workers can find it, without --connect: tcp://*:5550, tcp://127.0.0.1:0 (any free port), ipc:///path
    // With --connect it is the method: told apart here, not by clap, which then could not have options in between.
    #[arg(value_name = "ENDPOINT")]
    first: Option<String>,
    /// A method of the service Demo, or Service.method
    #[arg(value_name = "METHOD")]
    second: Option<String>,
    /// Connect to the brokers at these endpoints instead of binding one
    #[arg(long, value_name = "ENDPOINT[,ENDPOINT…]")]
    connect: Vec<String>,
    /// Arguments by position: JSON values, such as '"apple", "orange"'
    #[arg(long, value_name = "JSON", allow_hyphen_values = true, conflicts_with = "kwargs")]
    args: Option<String>,
    /// Arguments by name: JSON, such as '"str1":"apple", "str2":"orange"'
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    kwargs: Option<String>,
    /// How many calls to make; -1 to go on until interrupted
    #[arg(long, value_name = "N", default_value = "1", allow_negative_numbers = true, value_parser = count)]
    count: Count,
    /// How many calls run at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = concurrency)]
    concurrency: u16,
    /// Time that each call has
    #[arg(long, value_name = "SECONDS", default_value = "5", allow_negative_numbers = true, value_parser = timeout)]
    timeout: Duration,
    /// Time to wait for a first worker
    #[arg(long, value_name = "SECONDS", default_value = "3.2", allow_negative_numbers = true, value_parser = seconds)]
    wait: Duration,
    /// Print one JSON object a line: {"partial": …}, {"reply": …}, {"error": …}, {"summary": …}
    #[arg(long)]
    json: bool,
}

/// The rest of the help.
pub const HELP: &str = "\
Replies go to standard output, one a line; everything else to standard error. With --json all of them are objects on
standard output, errors and summary included; they say which call they belong to when --concurrency is more than 1. Only
what ends the program before the first call, with exit code 2, is text.

Exit codes:
    0  every call succeeded
    1  the procedure returned an error, or panicked
    2  the command line was wrong, or the endpoint cannot be bound or connected to
    3  a call failed otherwise: no worker, worker lost, deadline, unknown method or arguments; it says whether the
       procedure may have run
  130  interrupted before any call had ended
Of several calls the worst counts.

Examples:
    demo-client 'tcp://*:5550' ping --count 20
    demo-client 'tcp://*:5550' compare --args '\"apple\", \"orange\"'
    demo-client 'tcp://*:5550' compare --kwargs '\"str1\":\"apple\", \"str2\":\"orange\"'
    demo-client 'tcp://*:5550' slow_succeed --args 5 --timeout 20
    demo-client --connect tcp://broker-1:5560,tcp://broker-2:5560 ping";

/// The usage line.
pub const USAGE: &str = "\
demo-client [OPTIONS] <ENDPOINT> <METHOD>
       demo-client [OPTIONS] --connect <ENDPOINT[,ENDPOINT…]> <METHOD>";

/// Makes the calls, prints their outcomes, and returns the exit code.
pub async fn call(options: ClientOptions) -> ExitCode {
    log(LevelFilter::WARN);
    match prepared(options).await {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            complain(&message);
            ExitCode::from(worker::USAGE)
        }
    }
}

async fn prepared(options: ClientOptions) -> Result<u8, String> {
    let target = options.target()?;
    let arguments = options.arguments()?;
    let signals = Signals::listen().map_err(|error| format!("cannot handle signals: {error}"))?;
    let client = target.place.client().await?;
    if !options.wait.is_zero() {
        let _ = writeln!(io::stderr(), "waiting for {}", target.place.awaited(&client));
    }
    let mut report = Report::new(options.style());
    let arrived = tokio::select! {
        biased;
        () = signals.first() => None,
        outcome = client.wait_for_service(target.service(), options.wait) => Some(outcome),
    };
    let code = match arrived {
        Some(Ok(())) => make_calls(&client, options.plan(target.method, arguments), &mut report, &signals).await,
        Some(Err(error)) => {
            // The client names its address on this machine; its user has asked for another one.
            let message = error.to_string().replace(client.endpoint(), &target.place.shown(&client));
            let printed = report.no_worker(&message);
            code(&report, printed.err())
        }
        None => {
            let printed = report.interrupted(false);
            code(&report, printed.err())
        }
    };
    client.close().await;
    Ok(code)
}

async fn make_calls(client: &Client, plan: Plan, report: &mut Report, signals: &Signals) -> u8 {
    let (end, took) = run::run(client, plan, report, signals).await;
    let interrupted = matches!(end, End::Interrupted);
    match end {
        End::Complete | End::Interrupted => {
            let printed = report.finish(took, interrupted);
            code(report, printed.err())
        }
        End::Unprintable(error) => code(report, Some(error)),
    }
}

/// The exit code, after the printing succeeded or failed.
fn code(report: &Report, unprintable: Option<io::Error>) -> u8 {
    match unprintable {
        // The reader has enough, as in `demo-client … | head`: that is not a failure of the calls.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to standard output: {error}"));
            Verdict::CallFailed.exit_code()
        }
        _ => report.verdict().map_or(INTERRUPTED, Verdict::exit_code),
    }
}

impl ClientOptions {
    fn target(&self) -> Result<Target, String> {
        let target = self.asked()?;
        if target.method.ends_with('.') {
            return Err("<METHOD> is empty; write it as `ping` or `Demo.ping`".to_owned());
        }
        Ok(target)
    }

    fn asked(&self) -> Result<Target, String> {
        let missing = |what| Err(format!("{what} is missing\n\nUsage: {USAGE}\n\nFor more, try '--help'."));
        let is_endpoint = |text: &str| text.contains("://");
        match (self.first.as_deref(), self.second.as_deref(), self.connect.is_empty()) {
            (Some(endpoint), Some(method), true) => Ok(Target::new(Place::Bound(endpoint.to_owned()), method)),
            (Some(endpoint), None, true) if is_endpoint(endpoint) => missing("<METHOD>"),
            (Some(_), None, true) => missing("<ENDPOINT>"),
            (None, _, true) => missing("<ENDPOINT> <METHOD>"),
            (None, _, false) => missing("<METHOD>"),
            (Some(method), None, false) if !is_endpoint(method) => {
                Ok(Target::new(Place::Brokers(self.brokers()?), method))
            }
            (Some(_), ..) => Err("an <ENDPOINT> to bind cannot be used with --connect: give <METHOD> only".to_owned()),
        }
    }

    fn brokers(&self) -> Result<Vec<String>, String> {
        for text in self.connect.iter().filter(|text| text.contains(',')) {
            if text.split(',').any(|endpoint| endpoint.trim().is_empty()) {
                return Err(format!("--connect: an endpoint is missing beside a comma in {text:?}"));
            }
        }
        Ok(self.connect.iter().flat_map(|text| text.split(',')).map(str::to_owned).collect())
    }

    fn arguments(&self) -> Result<Arguments, String> {
        let shown = |option: &'static str| move |error: ArgumentsError| format!("{option}: {error}");
        match (&self.args, &self.kwargs) {
            (Some(text), _) => Arguments::positional(text).map_err(shown("--args")),
            (None, Some(text)) => Arguments::named(text).map_err(shown("--kwargs")),
            (None, None) => Ok(Arguments::NONE),
        }
    }

    fn style(&self) -> Style {
        Style { json: self.json, numbered: self.concurrency > 1, count: self.count.0 }
    }

    fn plan(&self, method: String, arguments: Arguments) -> Plan {
        Plan { method, arguments, timeout: self.timeout, count: self.count.0, concurrency: self.concurrency.into() }
    }
}

/// The method to call, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    place: Place,
    /// As `Service.method`.
    method: String,
}

impl Target {
    fn new(place: Place, method: &str) -> Self {
        let method = if method.contains('.') { method.to_owned() } else { format!("Demo.{method}") };
        Self { place, method }
    }

    fn service(&self) -> &str {
        self.method.rsplit_once('.').map_or("", |(service, _)| service)
    }
}

/// Where the client finds workers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// They dial this endpoint.
    Bound(String),
    /// They are behind the brokers at these endpoints.
    Brokers(Vec<String>),
}

impl Place {
    async fn client(&self) -> Result<Client, String> {
        let endpoints = match self {
            Self::Bound(endpoint) => slice::from_ref(endpoint),
            Self::Brokers(endpoints) => endpoints,
        };
        endpoints.iter().try_for_each(|endpoint| check_reachable(endpoint))?;
        match self {
            Self::Bound(endpoint) => Client::bind(endpoint).await.map_err(|error| error.to_string()),
            Self::Brokers(endpoints) => Client::connect(endpoints).map_err(|error| error.to_string()),
        }
    }

    fn awaited(&self, client: &Client) -> String {
        match self {
            Self::Bound(_) => format!("a worker at {}", self.shown(client)),
            Self::Brokers(_) => format!("a broker with a worker at {}", self.shown(client)),
        }
    }

    fn shown(&self, client: &Client) -> String {
        match self {
            Self::Bound(asked) => shown_endpoint(asked, client.endpoint()),
            Self::Brokers(_) => client.endpoint().to_owned(),
        }
    }
}

/// The bound endpoint with its real port, and with `*` if every interface is bound.
///
/// The client itself reports the address for this machine, which is useless to a peer elsewhere.
pub(crate) fn shown_endpoint(asked: &str, bound: &str) -> String {
    match bound.rsplit_once(':') {
        Some((_, port)) if asked.starts_with("tcp://*:") => format!("tcp://*:{port}"),
        _ => bound.to_owned(),
    }
}

/// The number of calls; `None` until interrupted.
#[derive(Clone, Copy, Debug)]
struct Count(Option<u64>);

fn count(text: &str) -> Result<Count, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(Count(None)),
        Ok(0) => Err("no calls would be made; give 1 or more, or -1 to go on until interrupted".to_owned()),
        Ok(count) => u64::try_from(count).map(|count| Count(Some(count))).map_err(|_| COUNT_RANGE.to_owned()),
        Err(_) => Err(COUNT_RANGE.to_owned()),
    }
}

const COUNT_RANGE: &str = "give a whole number of 1 or more, or -1 to go on until interrupted";

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1e9).contains(number));
    number.map(Duration::from_secs_f64).ok_or_else(|| SECONDS_RANGE.to_owned())
}

const SECONDS_RANGE: &str = "give a number of seconds, such as 0.5 or 20, and at most 1,000,000,000";

fn concurrency(text: &str) -> Result<u16, String> {
    whole(text, 1..=u16::MAX.into())
}

fn timeout(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("a timeout must be more than 0 seconds".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_is_a_number_of_calls_or_minus_one() {
        assert_eq!(count("20").expect("is a count").0, Some(20));
        assert_eq!(count("-1").expect("is a count").0, None);
        for wrong in ["0", "-2", "1.5", "many", "", "99999999999999999999"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn timeout_is_more_than_nothing_and_may_have_a_fraction() {
        assert_eq!(timeout("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["0", "-1", "NaN", "inf", "1e300", "soon", ""] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wait_may_be_nothing() {
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert!(seconds("-0.1").is_err());
    }
}
