//! The history of a seed, for people: one line per event, with its time, its process and its content.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use xero::proto::message::{Message, Request};
use xero_tests::command_line::print_line;

use super::{clock::At, ledger::counted_bytes, work::Work};

/// Where the lines of a replayed seed go. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
    /// Whether lines are printed at once.
    is_live: bool,
}

impl Trace {
    /// Keeps the lines, for [`Self::lines`].
    pub fn kept() -> Self {
        Self::default()
    }

    /// Prints the lines at once, so that they are there even when the simulation hangs.
    pub fn live() -> Self {
        Self { is_live: true, ..Self::default() }
    }

    /// The events so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    pub(super) fn push(&self, at: At, who: &dyn fmt::Display, what: &dyn fmt::Display) {
        let line = format!("{at} {who:<12} {what}");
        if self.is_live {
            print_line(&line);
        } else if let Ok(mut lines) = self.lines.lock() {
            lines.push(line);
        }
    }
}

/// A message in a few words.
pub(super) struct Brief<'a>(pub(super) &'a Message);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Message::Ready(m) => write!(f, "READY {:?}, credits {}, window {}", m.role, m.credits, m.window_bytes),
            Message::Offer(m) => write!(f, "OFFER of {} services, without {:?}", m.changed.len(), m.withdrawn),
            Message::Request(m) => write_request(f, m),
            Message::Partial(m) => write!(f, "PARTIAL {} of {}", m.sequence, m.call),
            Message::Final(m) => write!(f, "FINAL of {} after {} partial replies", m.call, m.partials),
            Message::Error(m) => {
                let may = if m.maybe_executed { "may have run" } else { "not run" };
                write!(f, "ERROR {:?} of {}, {may}: {:.60}", m.code, m.call, m.detail)
            }
            Message::Cancel(call) => write!(f, "CANCEL {call}"),
            Message::Credit(credits) => write!(f, "CREDIT {credits}"),
            Message::Ack(bytes) => write!(f, "ACK {bytes}"),
            Message::Event(m) => write!(f, "EVENT {}", m.topic),
            Message::Subscribe(m) => write!(f, "SUBSCRIBE {}", m.topic),
            Message::Heartbeat => f.write_str("HEARTBEAT"),
            Message::Patience(time) => write!(f, "HEARTBEAT with patience {time:?}"),
            Message::Drain => f.write_str("DRAIN"),
            Message::Goodbye => f.write_str("GOODBYE"),
        }?;
        match counted_bytes(self.0, false) {
            0 => Ok(()),
            bytes => write!(f, ", {bytes} bytes"),
        }
    }
}

fn write_request(f: &mut fmt::Formatter<'_>, request: &Request) -> fmt::Result {
    let Request { call, attempt, service, method, remaining, .. } = request;
    write!(f, "REQUEST {call} attempt {attempt} {service}.{method} with {remaining:?} left")?;
    match Work::read(&request.payload) {
        Some(work) => write!(f, " (call {})", work.tag.0),
        None => f.write_str(" (unreadable)"),
    }
}
