//! One measurement, as a line of JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    mode::{Figure, Flavor, Mode},
    peer::Peer,
    session::Report,
};

/// A measurement of one round, or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The round, from 1.
    pub round: u32,
    /// What was measured.
    #[serde(flatten)]
    pub case: Case,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a round measures once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Case {
    /// How it calls.
    pub mode: Mode,
    /// Who is called.
    pub peer: Peer,
    /// The kind of runtime, for a peer that has one.
    pub runtime: Option<Flavor>,
}

/// What came of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// It has figures.
    Measured(Figures),
    /// It has none.
    Failed {
        /// Why not.
        error: String,
    },
}

/// The figures of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What the client has counted.
    #[serde(flatten)]
    pub report: Report,
    /// What each process has used, by its part.
    pub processes: BTreeMap<String, Usage>,
    /// CPUs that other work of the machine, or its host, has kept busy meanwhile.
    pub cpus_elsewhere: f64,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time during the measurement, in seconds, user and system.
    pub cpu_seconds: f64,
    /// Resident memory at its end, in KiB.
    pub resident_kib: u64,
    /// Most resident memory since the process began, in KiB.
    pub peak_kib: u64,
}

impl Record {
    /// The figures, unless the measurement failed.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Measured(figures) => Some(figures),
            Outcome::Failed { .. } => None,
        }
    }

    /// The reason of a failed measurement.
    pub fn error(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Measured(_) => None,
            Outcome::Failed { error } => Some(error),
        }
    }
}

impl Figures {
    /// The figure by which a mode compares peers.
    pub fn value(&self, figure: Figure) -> Option<f64> {
        let Report { calls, seconds, p50_us, .. } = self.report;
        match figure {
            Figure::MedianLatency => p50_us,
            Figure::MeanLatency => Some(seconds * 1e6 / calls as f64),
            Figure::Rate => Some(calls as f64 / seconds),
        }
    }

    /// CPU time of all processes for one call, in microseconds.
    pub fn cpu_us_per_call(&self) -> f64 {
        let seconds: f64 = self.processes.values().map(|usage| usage.cpu_seconds).sum();
        seconds * 1e6 / self.report.calls as f64
    }

    /// Most resident memory of any process, in MiB.
    pub fn peak_mib(&self) -> f64 {
        self.processes.values().map(|usage| usage.peak_kib).max().unwrap_or(0) as f64 / 1024.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_json_reads_back() {
        let case = Case { mode: Mode::InFlight64, peer: Peer::XeroInline, runtime: Some(Flavor::MultiThread) };
        let report = Report { calls: 10, seconds: 2.0, p50_us: Some(1.5), p99_us: None };
        let usage = Usage { cpu_seconds: 0.5, resident_kib: 1_024, peak_kib: 2_048 };
        let processes = BTreeMap::from([("client".to_owned(), usage)]);
        let measured = Outcome::Measured(Figures { report, processes, cpus_elsewhere: 0.0 });
        for outcome in [measured, Outcome::Failed { error: "no libzmq".to_owned() }] {
            let record = Record { round: 2, case, outcome };
            let line = serde_json::to_string(&record).expect("is written");
            assert_eq!(serde_json::from_str::<Record>(&line).expect("is read"), record, "{line}");
        }
    }

    #[test]
    fn figures_follow_from_calls_and_seconds() {
        let usage = |cpu_seconds, peak_kib| Usage { cpu_seconds, resident_kib: 0, peak_kib };
        let processes =
            BTreeMap::from([("client".to_owned(), usage(0.5, 1_024)), ("server".to_owned(), usage(1.5, 3_072))]);
        let report = Report { calls: 1_000, seconds: 2.0, p50_us: Some(1_900.0), p99_us: None };
        let figures = Figures { report, processes, cpus_elsewhere: 0.0 };
        assert_eq!(figures.value(Figure::MeanLatency), Some(2_000.0));
        assert_eq!(figures.value(Figure::MedianLatency), Some(1_900.0));
        assert_eq!(figures.value(Figure::Rate), Some(500.0));
        assert_eq!(figures.cpu_us_per_call(), 2_000.0);
        assert_eq!(figures.peak_mib(), 3.0);
    }
}
