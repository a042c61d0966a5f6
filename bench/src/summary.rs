//! What all rounds say about each case: spreads, and ratios to other peers of the same round.

use std::collections::BTreeSet;

use crate::{
    mode::{Flavor, Mode},
    peer::Peer,
    record::{Case, Figures, Record},
    stats::Spread,
};

/// The peers that others are compared with, in the order of the table's columns.
pub const REFERENCES: [Peer; 5] = [Peer::Bare, Peer::Batching, Peer::Tarpc, Peer::Xero, Peer::Libzmq];

/// All records of a run, and the questions that tables ask of them.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    records: &'a [Record],
}

impl<'a> Summary<'a> {
    /// Summarizes the records.
    pub fn new(records: &'a [Record]) -> Self {
        Self { records }
    }

    /// The modes with a record.
    pub fn modes(&self) -> BTreeSet<Mode> {
        self.records.iter().map(|record| record.case.mode).collect()
    }

    /// The cases of a mode with a record, by peer and kind of runtime.
    pub fn cases(&self, mode: Mode) -> BTreeSet<Case> {
        self.records.iter().map(|record| record.case).filter(|case| case.mode == mode).collect()
    }

    /// The mode's own figure.
    pub fn figure(&self, case: Case) -> Option<Spread> {
        self.spread(case, |figures| figures.value(case.mode.figure()))
    }

    /// CPU time of all processes for one call, in microseconds.
    pub fn cpu_us_per_call(&self, case: Case) -> Option<Spread> {
        self.spread(case, |figures| Some(figures.cpu_us_per_call()))
    }

    /// Most resident memory of one part, in MiB.
    pub fn peak_mib(&self, case: Case, part: &str) -> Option<Spread> {
        self.spread(case, |figures| Some(figures.processes.get(part)?.peak_kib as f64 / 1024.0))
    }

    /// CPUs that other work kept busy during the measurements of a mode.
    pub fn cpus_elsewhere(&self, mode: Mode) -> Option<Spread> {
        let records = self.records.iter().filter(|record| record.case.mode == mode);
        Spread::of(records.filter_map(|record| Some(record.figures()?.cpus_elsewhere)))
    }

    /// Most resident memory of any process, in MiB.
    pub fn peak_mib_of_any(&self, case: Case) -> Option<Spread> {
        self.spread(case, |figures| Some(figures.peak_mib()))
    }

    /// The mode's own figure, divided by that of another peer in the same mode, round and kind of runtime.
    ///
    /// Rounds in which either has failed do not count. A peer without a runtime is compared with multi-thread ones.
    pub fn ratio(&self, case: Case, reference: Peer) -> Option<Spread> {
        let figure = |record: &Record| record.figures()?.value(case.mode.figure());
        let own = self.records.iter().filter(|record| record.case == case);
        Spread::of(own.filter_map(|own| {
            let mut others = self.records.iter().filter(|other| other.round == own.round);
            let other = others.find(|other| other.case == Self::counterpart(case, reference))?;
            Some(figure(own)? / figure(other)?)
        }))
    }

    /// Why the case has failed, if it has in any round.
    pub fn error(&self, case: Case) -> Option<&'a str> {
        self.records.iter().filter(|record| record.case == case).find_map(Record::error)
    }

    /// The case of another peer that a case is compared with.
    fn counterpart(case: Case, peer: Peer) -> Case {
        let runtime = peer.has_runtime().then_some(case.runtime.unwrap_or(Flavor::MultiThread));
        Case { peer, runtime, ..case }
    }

    fn spread(&self, case: Case, figure: impl Fn(&Figures) -> Option<f64>) -> Option<Spread> {
        let own = self.records.iter().filter(|record| record.case == case);
        Spread::of(own.filter_map(|record| figure(record.figures()?)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        record::{Outcome, Usage},
        session::Report,
    };

    #[test]
    fn ratio_is_the_median_of_the_rounds_own_ratios() {
        // Of medians, the ratio would be 2 / 10.
        let records = [
            measured(1, Peer::Xero, 1),
            measured(1, Peer::Tarpc, 10),
            measured(2, Peer::Xero, 2),
            measured(2, Peer::Tarpc, 1),
            measured(3, Peer::Xero, 30),
            measured(3, Peer::Tarpc, 60),
        ];
        let ratio = Summary::new(&records).ratio(case(Peer::Xero), Peer::Tarpc).expect("a ratio");
        assert_eq!(ratio, Spread { median: 0.5, min: 0.1, max: 2.0 });
    }

    #[test]
    fn rounds_in_which_either_peer_failed_do_not_count() {
        let records = [
            measured(1, Peer::Xero, 10),
            failed(1, Peer::Tarpc),
            failed(2, Peer::Xero),
            measured(2, Peer::Tarpc, 10),
            measured(3, Peer::Xero, 30),
            measured(3, Peer::Tarpc, 10),
        ];
        let summary = Summary::new(&records);
        assert_eq!(summary.ratio(case(Peer::Xero), Peer::Tarpc).map(|ratio| ratio.median), Some(3.0));
        assert_eq!(summary.ratio(case(Peer::Xero), Peer::Bare), None);
        assert_eq!(summary.figure(case(Peer::Xero)).map(|figure| figure.median), Some(20.0));
        assert_eq!(summary.error(case(Peer::Xero)), Some("it broke"));
    }

    #[test]
    fn kinds_of_runtime_are_compared_apart_and_peers_without_one_with_both() {
        let on = |flavor, peer, calls| {
            let mut record = measured(1, peer, calls);
            record.case.runtime = flavor;
            record
        };
        let (multi, current) = (Some(Flavor::MultiThread), Some(Flavor::CurrentThread));
        let records = [
            on(multi, Peer::Xero, 10),
            on(current, Peer::Xero, 40),
            on(multi, Peer::Tarpc, 20),
            on(current, Peer::Tarpc, 10),
            on(None, Peer::Libzmq, 80),
        ];
        let summary = Summary::new(&records);
        let ratio = |index: usize, reference| {
            let records: &[Record; 5] = &records;
            summary.ratio(records[index].case, reference).map(|ratio| ratio.median)
        };
        assert_eq!(ratio(0, Peer::Tarpc), Some(0.5));
        assert_eq!(ratio(1, Peer::Tarpc), Some(4.0));
        assert_eq!(ratio(0, Peer::Libzmq), Some(0.125));
        assert_eq!(ratio(1, Peer::Libzmq), Some(0.5));
        assert_eq!(ratio(4, Peer::Tarpc), Some(4.0));
    }

    pub(crate) fn case(peer: Peer) -> Case {
        Case { mode: Mode::InFlight64, peer, runtime: Some(Flavor::MultiThread) }
    }

    /// A record with that many calls in a second, which cost 1 s of CPU time.
    pub(crate) fn measured(round: u32, peer: Peer, calls: u64) -> Record {
        let usage = Usage { cpu_seconds: 0.5, resident_kib: 1_024, peak_kib: 2_048 };
        let processes = ["client", "server"].map(|part| (part.to_owned(), usage));
        let report = Report { calls, seconds: 1.0, p50_us: None, p99_us: None };
        let outcome = Outcome::Measured(Figures { report, processes: BTreeMap::from(processes), cpus_elsewhere: 0.25 });
        Record { round, case: case(peer), outcome }
    }

    pub(crate) fn failed(round: u32, peer: Peer) -> Record {
        Record { round, case: case(peer), outcome: Outcome::Failed { error: "it broke".to_owned() } }
    }
}
