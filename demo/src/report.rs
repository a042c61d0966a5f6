//! Prints the results of `demo-client`: a line for each reply, a summary of several, and the exit code.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write},
    time::Duration,
};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{json, value::RawValue};
use xero::{CallError, RpcError, Value};

/// Writes an error of the command itself to standard error.
pub fn complain(message: &str) {
    // With standard error closed, nobody can read the message.
    let _ = writeln!(io::stderr(), "error: {message}");
}

/// How calls ended, from good to bad; the worst one decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every call has succeeded.
    Succeeded,
    /// The procedure has returned an error, or panicked.
    Failed,
    /// The call itself failed: no worker, worker lost, deadline, unknown method and so on.
    CallFailed,
}

impl Verdict {
    /// The verdict of one failed call.
    pub fn of<E>(error: &CallError<E>) -> Self {
        match error {
            CallError::Application(_) | CallError::Rpc(RpcError::Panicked { .. }) => Self::Failed,
            _ => Self::CallFailed,
        }
    }

    /// The exit code for the verdict.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::CallFailed => 3,
        }
    }
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// One JSON object a line, errors and summary included, all on standard output.
    pub json: bool,
    /// Whether a JSON line names its call, because calls overlap.
    pub numbered: bool,
    /// The number of calls; `None` if it is open.
    pub count: Option<u64>,
}

impl Style {
    /// The line for a reply; `None` if it is not JSON.
    fn reply(self, call: u64, label: &str, value: &Value) -> Option<String> {
        let text = value.to_string();
        serde_json::from_str::<&RawValue>(&text).ok()?;
        let value = one_line(&text);
        Some(match (self.json, self.numbered) {
            (false, _) => format!("{label}: {value}"),
            (true, false) => format!(r#"{{"{label}":{value}}}"#),
            (true, true) => format!(r#"{{"call":{call},"{label}":{value}}}"#),
        })
    }
}

/// Prints replies as they arrive, and counts them.
#[derive(Debug)]
pub struct Report {
    style: Style,
    bar: ProgressBar,
    /// Microseconds of the calls that succeeded.
    latencies: Histogram<u64>,
    succeeded: u64,
    failed: u64,
    verdict: Verdict,
}

impl Report {
    /// An empty report. Several calls get a progress bar on standard error, if that is a terminal.
    pub fn new(style: Style) -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MICROSECONDS_MAX, 3);
        Self {
            style,
            bar: bar(style.count),
            latencies: latencies.expect("the bounds are in order, and 3 digits are allowed"),
            succeeded: 0,
            failed: 0,
            verdict: Verdict::Succeeded,
        }
    }

    /// Prints a partial reply.
    ///
    /// # Errors
    /// When nobody reads standard output any more, or it cannot be written to.
    pub fn partial(&mut self, call: u64, value: &Value) -> io::Result<()> {
        match self.style.reply(call, "partial", value) {
            Some(line) => self.line(&line),
            None => self.no_json(call, "partial reply", value),
        }
    }

    /// Prints and counts the outcome of a call.
    ///
    /// # Errors
    /// When nobody reads standard output any more, or it cannot be written to.
    pub fn outcome(&mut self, call: u64, outcome: &Result<Value, CallError<Value>>, took: Duration) -> io::Result<()> {
        self.bar.inc(1);
        match outcome {
            Ok(value) => match self.style.reply(call, "reply", value) {
                Some(line) => {
                    self.succeeded += 1;
                    self.latencies.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                    self.line(&line)
                }
                None => {
                    self.failed += 1;
                    self.no_json(call, "reply", value)
                }
            },
            Err(error) => {
                self.failed += 1;
                self.verdict = self.verdict.max(Verdict::of(error));
                self.error(Some(call), kind(error), &describe(error), error.maybe_executed(), error.application())
            }
        }
    }

    /// Prints that no worker came, which fails every call before it is sent.
    ///
    /// # Errors
    /// When nobody reads standard output any more, or it cannot be written to.
    pub fn no_worker(&mut self, message: &str) -> io::Result<()> {
        self.verdict = Verdict::CallFailed;
        self.error(None, "no_worker", &with_execution(message, false), false, None)
    }

    /// Prints that a signal came before the only call, or any call, had ended.
    ///
    /// # Errors
    /// When nobody reads standard output any more, or it cannot be written to.
    pub fn interrupted(&self, maybe_executed: bool) -> io::Result<()> {
        self.error(None, "interrupted", &with_execution("interrupted", maybe_executed), maybe_executed, None)
    }

    /// The verdict so far; `None` before the first call has ended.
    pub fn verdict(&self) -> Option<Verdict> {
        (self.succeeded + self.failed > 0 || self.verdict > Verdict::Succeeded).then_some(self.verdict)
    }

    /// Ends the progress bar, and prints the summary of several calls: on standard error, or with the rest as JSON.
    ///
    /// # Errors
    /// When nobody reads standard output any more, or it cannot be written to.
    pub fn finish(&self, took: Duration, interrupted: bool) -> io::Result<()> {
        self.bar.finish_and_clear();
        if self.style.count == Some(1) {
            return if interrupted && self.verdict().is_none() { self.interrupted(true) } else { Ok(()) };
        }
        let summary = Summary { report: self, took, interrupted };
        if self.style.json {
            return self.line(&summary.json());
        }
        let _ = writeln!(io::stderr(), "{summary}");
        Ok(())
    }

    /// Prints that a worker sent a reply that is not JSON, which fails its call.
    fn no_json(&mut self, call: u64, what: &str, value: &Value) -> io::Result<()> {
        self.verdict = Verdict::CallFailed;
        let message = with_execution(&format!("the worker's {what} is not JSON: {value}"), true);
        self.error(Some(call), "invalid_reply", &message, true, None)
    }

    fn error(
        &self,
        call: Option<u64>,
        kind: &str,
        message: &str,
        maybe_executed: bool,
        value: Option<&Value>,
    ) -> io::Result<()> {
        if !self.style.json {
            self.bar.suspend(|| complain(&printable(message)));
            return Ok(());
        }
        let mut error = json!({ "kind": kind, "message": message, "maybe_executed": maybe_executed });
        if let Some(Ok(value)) = value.map(Value::decode::<Box<RawValue>>) {
            error["value"] = json!(value);
        }
        let call = call.filter(|_| self.style.numbered).map(|call| format!(r#""call":{call},"#));
        self.line(&format!(r#"{{{}"error":{error}}}"#, call.unwrap_or_default()))
    }

    fn line(&self, line: &str) -> io::Result<()> {
        self.bar.suspend(|| writeln!(io::stdout(), "{}", printable(line)))
    }
}

/// The summary of several calls.
struct Summary<'a> {
    report: &'a Report,
    took: Duration,
    interrupted: bool,
}

impl Summary<'_> {
    fn calls_per_second(&self) -> f64 {
        let calls = self.report.succeeded + self.report.failed;
        // Counts stay far below 2^52, where a float begins to round.
        if self.took.is_zero() { 0.0 } else { calls as f64 / self.took.as_secs_f64() }
    }

    fn milliseconds(&self, quantile: f64) -> Option<f64> {
        let latencies = &self.report.latencies;
        (!latencies.is_empty()).then(|| latencies.value_at_quantile(quantile) as f64 / 1e3)
    }

    fn json(&self) -> String {
        let Report { succeeded, failed, .. } = self.report;
        let summary = json!({
            "calls": succeeded + failed,
            "succeeded": succeeded,
            "failed": failed,
            "seconds": self.took.as_secs_f64(),
            "calls_per_second": self.calls_per_second(),
            "p50_ms": self.milliseconds(0.50),
            "p99_ms": self.milliseconds(0.99),
            "interrupted": self.interrupted,
        });
        json!({ "summary": summary }).to_string()
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { succeeded, failed, .. } = self.report;
        let calls = succeeded + failed;
        let s = if calls == 1 { "" } else { "s" };
        write!(f, "{calls} call{s} in {:.2} s: {succeeded} succeeded, {failed} failed", self.took.as_secs_f64())?;
        write!(f, "; {:.1} calls/s", self.calls_per_second())?;
        if let (Some(p50), Some(p99)) = (self.milliseconds(0.50), self.milliseconds(0.99)) {
            write!(f, "; p50 {p50:.2} ms, p99 {p99:.2} ms")?;
        }
        if self.interrupted { f.write_str("; interrupted") } else { Ok(()) }
    }
}

/// A call that takes longer is counted as taking this long: ten hours.
const LATENCY_MICROSECONDS_MAX: u64 = 36_000_000_000;

fn bar(count: Option<u64>) -> ProgressBar {
    if count == Some(1) || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match count {
        Some(count) => (ProgressBar::new(count), "{wide_bar} {pos}/{len} calls, {per_sec}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} calls, {per_sec}"),
    };
    // Without the template, the bar only looks plainer.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The text about a failed call for people: what happened, and whether the procedure may have run.
fn describe(error: &CallError<Value>) -> String {
    match error {
        CallError::Application(value) => format!("the procedure returned {}", one_line(&value.to_string())),
        CallError::Rpc(RpcError::Panicked { .. }) => error.to_string(),
        _ => with_execution(&error.to_string(), error.maybe_executed()),
    }
}

/// Adds whether the call may have run, which most errors say themselves.
fn with_execution(message: &str, maybe_executed: bool) -> String {
    let execution = if maybe_executed { "; the procedure may have run" } else { "; the procedure has not run" };
    let mut text = message.trim_end_matches(execution).to_owned();
    text.push_str(execution);
    text
}

/// The variant's name, for programs.
fn kind(error: &CallError<Value>) -> &'static str {
    let Some(error) = error.rpc() else { return "application" };
    match error {
        RpcError::Panicked { .. } => "panicked",
        RpcError::UnknownService { .. } => "unknown_service",
        RpcError::UnknownMethod { .. } => "unknown_method",
        RpcError::SignatureMismatch { .. } => "signature_mismatch",
        RpcError::InvalidArguments { .. } => "invalid_arguments",
        RpcError::InvalidReply { .. } => "invalid_reply",
        RpcError::DeadlineExceeded { .. } => "deadline_exceeded",
        RpcError::Cancelled { .. } => "cancelled",
        RpcError::NoWorker { .. } => "no_worker",
        RpcError::WorkerLost { .. } => "worker_lost",
        RpcError::Overloaded { .. } => "overloaded",
        RpcError::Refused { .. } => "refused",
        RpcError::TooLarge { .. } => "too_large",
        RpcError::PartialsLost { .. } => "partials_lost",
        RpcError::PartialsUnread { .. } => "partials_unread",
        RpcError::Malformed { .. } => "malformed",
        RpcError::Closed { .. } => "closed",
        RpcError::Forked { .. } => "forked",
        RpcError::Crashed { .. } => "crashed",
        _ => "other",
    }
}

/// A peer's text without characters that a terminal acts on.
///
/// Control characters, and those that reorder the text around them, become `\u001b` and the like. JSON writes them so
/// within strings, and has none of them elsewhere.
fn printable(text: &str) -> String {
    let is_acted_on = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match is_acted_on(c) {
            true => _ = write!(printable, "\\u{:04x}", u32::from(c)),
            false => printable.push(c),
        }
    }
    printable
}

/// A JSON text without the line breaks that another worker's encoder may put between its parts.
///
/// Within a JSON string, a line break is always written as `\n`.
fn one_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for part in json.split(['\r', '\n']) {
        let _ = line.write_str(part.trim_start_matches(' '));
    }
    line
}

#[cfg(test)]
mod tests {
    use xero::Codec;

    use super::*;

    #[test]
    fn worst_verdict_decides_the_exit_code() {
        let codes = |verdicts: &[Verdict]| verdicts.iter().max().map(|verdict| verdict.exit_code());
        assert_eq!(codes(&[Verdict::Succeeded]), Some(0));
        assert_eq!(codes(&[Verdict::Failed, Verdict::Succeeded]), Some(1));
        assert_eq!(codes(&[Verdict::Succeeded, Verdict::CallFailed, Verdict::Failed]), Some(3));
    }

    #[test]
    fn every_failed_call_says_once_whether_it_may_have_run() {
        let lost = CallError::Rpc(RpcError::worker_lost("Demo.ping"));
        assert_eq!(
            describe(&lost),
            "`Demo.ping`: the worker, or a broker on the way to it, was lost before it replied (after 1 attempt); the procedure \
             may have run"
        );
        let full = CallError::Rpc(RpcError::overloaded("Demo.ping", "no room"));
        assert_eq!(describe(&full), "`Demo.ping`: overloaded: no room; the procedure has not run");
    }

    #[test]
    fn json_of_several_lines_is_printed_as_one() {
        assert_eq!(one_line("{\r\n  \"a\": 1,\n  \"b\": \" c \"\n}"), "{\"a\": 1,\"b\": \" c \"}");
    }

    #[test]
    fn replies_that_are_not_json_fail_their_call_and_forge_no_line() {
        let style = Style { json: true, numbered: false, count: None };
        let line = |text: &'static str| style.reply(1, "reply", &Value::from_bytes(Codec::Json, text.as_bytes()));
        assert_eq!(line(r#"{"a":1}"#).as_deref(), Some(r#"{"reply":{"a":1}}"#));
        for forged in [r#"1}{"reply":2"#, r#"1},"error":{"kind":"x"}"#, "", "1 2", "\u{1b}[2J", "{\"a\":"] {
            assert_eq!(line(forged), None, "{forged}");
        }
        assert_eq!(style.reply(1, "reply", &Value::from_bytes(Codec::Json, vec![0xff])), None);
        let mut report = Report::new(style);
        let forged = Value::from_bytes(Codec::Json, r#"1}{"reply":2"#.as_bytes());
        report.partial(1, &forged).expect("is written to standard output");
        assert_eq!(report.verdict(), Some(Verdict::CallFailed));
        let mut report = Report::new(style);
        report.outcome(1, &Ok(forged), Duration::ZERO).expect("is written to standard output");
        assert_eq!((report.verdict(), report.succeeded, report.failed), (Some(Verdict::CallFailed), 0, 1));
    }

    #[test]
    fn peers_texts_cannot_control_a_terminal() {
        assert_eq!(printable("\u{1b}[31mred\u{7f}\u{9b}2J\n\u{202e}"), r"\u001b[31mred\u007f\u009b2J\u000a\u202e");
        assert_eq!(printable("\"größer\" → 🦀"), "\"größer\" → 🦀");
        let style = Style { json: true, numbered: false, count: None };
        let line = style.reply(1, "reply", &Value::from_bytes(Codec::Json, "\"\u{9b}2J\u{7f}\"".as_bytes()));
        let parsed: serde_json::Value = serde_json::from_str(&printable(&line.expect("JSON"))).expect("still JSON");
        assert_eq!(parsed["reply"], "\u{9b}2J\u{7f}");
    }

    #[test]
    fn report_without_an_ended_call_has_no_verdict() {
        let style = Style { json: false, numbered: false, count: None };
        let mut report = Report::new(style);
        assert_eq!(report.verdict(), None);
        report.no_worker("no worker within 1 s").expect("is written to standard error");
        assert_eq!(report.verdict(), Some(Verdict::CallFailed));
    }
}
