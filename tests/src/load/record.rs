//! The records that processes write of calls, for later judgement: a line of JSON per event.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, interval};
use uuid::Uuid;

use super::ledger::End;

/// An event. `at` is its time in microseconds since 1970: containers of one host share its clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// A process starts its work.
    Started {
        /// The time.
        at: u64,
        /// The id by which its peers know it, if they do.
        id: Option<Uuid>,
    },
    /// A call is about to start.
    Begun {
        /// The call's number.
        number: u64,
        /// The time.
        at: u64,
    },
    /// A call has ended.
    Ended {
        /// The call's number.
        number: u64,
        /// The time.
        at: u64,
        /// Its duration in microseconds.
        took: u64,
        /// The outcome.
        end: End,
    },
    /// A worker starts to run a call.
    Ran {
        /// The call's number.
        number: u64,
        /// The attempt at it.
        attempt: u8,
        /// The worker's id.
        worker: Uuid,
        /// The time.
        at: u64,
    },
    /// The present workers of a broker or a client, after a change.
    Workers {
        /// The time.
        at: u64,
        /// Their ids, sorted; for a client that is connected to brokers, those of the brokers.
        ids: Vec<Uuid>,
    },
}

impl Record {
    /// A process starts its work, now.
    pub fn started(id: Option<Uuid>) -> Self {
        Self::Started { at: micros_now(), id }
    }

    /// A call is about to start, now.
    pub fn begun(number: u64) -> Self {
        Self::Begun { number, at: micros_now() }
    }

    /// A call ends now, this long after its start.
    pub fn ended(number: u64, end: End, took: Duration) -> Self {
        Self::Ended { number, at: micros_now(), took: micros(took), end }
    }

    /// A worker starts to run a call, now.
    pub fn ran(number: u64, attempt: u8, worker: Uuid) -> Self {
        Self::Ran { number, attempt, worker, at: micros_now() }
    }

    /// The record on that line, if there is one.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// The records in that text; skips other lines, and one that a kill has cut short.
    pub fn all_in(text: &str) -> impl Iterator<Item = Self> {
        text.lines().filter_map(Self::parse)
    }

    /// Writes it as one line to standard output, in one piece.
    ///
    /// # Panics
    /// When standard output cannot be written to: a run without records must not continue.
    pub fn print(&self) {
        println!("{self}");
    }
}

/// The line, without its end.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Where a worker notes its runs.
#[derive(Debug)]
pub enum Notes {
    /// Nowhere.
    Nowhere,
    /// In a file that it may share with others.
    Journal(File),
    /// On its standard output.
    Output,
}

impl Notes {
    /// In that file.
    ///
    /// # Errors
    /// When it does not exist or cannot be written to.
    pub fn journal(path: &Path) -> io::Result<Self> {
        OpenOptions::new().append(true).open(path).map(Self::Journal)
    }

    /// Notes the record.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, record: &Record) -> io::Result<()> {
        match self {
            Self::Nowhere => {}
            // One write in append mode: several processes share the file, and a kill leaves no partial line.
            Self::Journal(file) => (&*file).write_all(format!("{record}\n").as_bytes())?,
            Self::Output => record.print(),
        }
        Ok(())
    }
}

/// Prints a process's workers: now, after each change, and every quarter of a second, so that they are among the newest
/// lines. Never ends.
pub async fn print_workers(workers: impl Fn() -> Vec<xero::WorkerInfo>) {
    let mut moments = interval(LOOKING);
    let mut printed = None;
    loop {
        moments.tick().await;
        let mut ids: Vec<_> = workers().iter().map(|worker| worker.id).collect();
        ids.sort_unstable();
        let is_said = |(at, said): &(Instant, Vec<Uuid>)| *said == ids && at.elapsed() < SAYING;
        if !printed.as_ref().is_some_and(is_said) {
            Record::Workers { at: micros_now(), ids: ids.clone() }.print();
            printed = Some((Instant::now(), ids));
        }
    }
}

/// Microseconds since 1970.
pub fn micros_now() -> u64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The pause between looks at the workers: much shorter than between renewals of a lease.
const LOOKING: Duration = Duration::from_millis(20);

/// The longest pause between prints.
const SAYING: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_one_line_that_is_read_back() {
        let mistake = "not\nits \"own\"".to_owned();
        let took = Duration::from_micros(7);
        let ends = [
            End::Replied { attempt: 2 },
            End::Wrong { mistake: mistake.clone() },
            End::Lost { maybe_executed: true },
            End::Expired { maybe_executed: false },
            End::Failed { error: mistake, maybe_executed: true },
            End::Hung,
        ];
        let workers = Record::Workers { at: 1, ids: vec![Uuid::new_v4(), Uuid::new_v4()] };
        let others = [Record::started(None), Record::begun(u64::MAX), Record::ran(1, 255, Uuid::new_v4()), workers];
        for record in ends.map(|end| Record::ended(3, end, took)).into_iter().chain(others) {
            let line = record.to_string();
            assert_eq!(line.lines().count(), 1, "{line}");
            assert_eq!(Record::parse(&line), Some(record), "{line}");
        }
    }

    #[test]
    fn other_lines_than_records_are_skipped() {
        let record = Record::begun(1);
        let whole = record.to_string();
        let cut = &whole[..whole.len() - 1];
        let text = format!("started x\n{whole}\n\n{{}}\n{{\"begun\":{{\"number\":1}}}}\n7\n{cut}");
        assert_eq!(Record::all_in(&text).collect::<Vec<_>>(), [record]);
    }
}
