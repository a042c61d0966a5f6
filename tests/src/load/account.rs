//! What the logs of clients, brokers and workers say together, and whether the promises were kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    time::Duration,
};

use uuid::Uuid;

use super::{
    ledger::{End, Ledger, Plan, TEXT_BYTES_MAX},
    record::Record,
};

/// What may have happened to calls, as something was done to those who made and served them.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    is_lossless: bool,
    is_undisturbed: bool,
    killed: BTreeSet<String>,
    frozen: Vec<(String, Range<u64>)>,
    unreachable: Vec<(String, Range<u64>)>,
}

impl Terms {
    /// Nobody died who had not said goodbye: no call may end with the loss of its worker.
    #[must_use]
    pub fn lossless(mut self) -> Self {
        self.is_lossless = true;
        self
    }

    /// Nothing was done to anybody that a peer must notice: each call succeeds at its first attempt.
    #[must_use]
    pub fn undisturbed(mut self) -> Self {
        self.is_undisturbed = true;
        self.lossless()
    }

    /// That client was killed: calls of its may never have ended.
    #[must_use]
    pub fn killed(mut self, client: &str) -> Self {
        self.killed.insert(client.to_owned());
        self
    }

    /// That client was frozen at that time: it could end no call, and end those late that it then had.
    #[must_use]
    pub fn frozen(mut self, client: &str, time: Range<u64>) -> Self {
        self.frozen.push((client.to_owned(), time.clone()));
        self.unreachable(client, time)
    }

    /// That client could reach no worker at that time: its deadline may have ended any call.
    #[must_use]
    pub fn unreachable(mut self, client: &str, time: Range<u64>) -> Self {
        self.unreachable.push((client.to_owned(), time));
        self
    }
}

/// All calls of a test, and who had which workers when.
#[derive(Debug, Default)]
pub struct Account {
    seed: u64,
    ledger: Ledger,
    runs: Vec<u64>,
    /// The workers that have run anything.
    ran: BTreeSet<Uuid>,
    /// For each broker and client, in the order of time.
    workers: BTreeMap<String, Vec<(u64, Vec<Uuid>)>>,
    /// When each call was begun and by whom.
    begun: BTreeMap<u64, (String, u64)>,
}

impl Account {
    /// What those records say, each with the name of whose it is, and each of theirs in its order. All loads have that
    /// seed, and numbers of their own; no worker that there ever was is left out.
    pub fn of<'a>(seed: u64, terms: &Terms, records: impl IntoIterator<Item = (&'a str, Record)>) -> Self {
        let mut account = Self { seed, ..Self::default() };
        records.into_iter().for_each(|(name, record)| account.add(service(name), record, terms));
        account.ledger.compare(std::mem::take(&mut account.runs));
        account.look_for_open_calls(terms);
        account
    }

    /// The calls.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How many workers have been given calls.
    pub fn workers_that_ran(&self) -> usize {
        self.ran.len()
    }

    /// Calls that were begun in a second by all clients together, from the first to the last.
    pub fn rate(&self) -> f64 {
        let at = || self.begun.values().map(|(_, at)| *at);
        let micros = at().max().unwrap_or_default() - at().min().unwrap_or_default();
        self.begun.len() as f64 / Duration::from_micros(micros.max(1)).as_secs_f64()
    }

    /// How long after that moment somebody first had so many workers; what it had at that moment counts, too.
    pub fn had(&self, observer: &str, count: usize, from: u64) -> Option<Duration> {
        let before = self.sets(observer).take_while(|(at, _)| *at <= from).last();
        let after = self.sets(observer).skip_while(|(at, _)| *at <= from);
        let found = before.into_iter().chain(after).find(|(_, ids)| ids.len() == count);
        found.map(|(at, _)| Duration::from_micros(at.saturating_sub(from)))
    }

    /// Whether somebody has lost workers that it had at that time.
    pub fn ever_missed(&self, observer: &str, time: Range<u64>) -> bool {
        let seen: Vec<_> = self.sets(observer).filter(|(at, _)| time.contains(at)).collect();
        seen.windows(2).any(|pair| pair[0].1.iter().any(|id| !pair[1].1.contains(id)))
    }

    /// Fails, and says all, when anything has happened that must not.
    pub fn assert_kept(&self) {
        assert!(self.ledger.violations().is_empty(), "{self}");
    }

    fn add(&mut self, name: &str, record: Record, terms: &Terms) {
        match record {
            Record::Begun { number, at } => {
                self.begun.insert(number, (name.to_owned(), at));
                self.ledger.begun(&self.plan(number));
            }
            Record::Ended { number, at, took, end } => {
                self.end(&self.plan(number), &end, name, at.saturating_sub(took)..at, terms);
            }
            Record::Ran { number, worker, .. } => {
                self.runs.push(number);
                self.ran.insert(worker);
            }
            Record::Workers { at, ids } => self.workers.entry(name.to_owned()).or_default().push((at, ids)),
        }
    }

    fn end(&mut self, plan: &Plan, end: &End, client: &str, life: Range<u64>, terms: &Terms) {
        let took = Duration::from_micros(life.end - life.start);
        let overlaps =
            |(name, time): &(String, Range<u64>)| name == client && life.start < time.end && time.start < life.end;
        match terms.unreachable.iter().any(overlaps) {
            true => self.ledger.ended_unreachable(plan, end, took),
            false => self.ledger.ended(plan, end, took),
        }
        if took > plan.timeout + TICK && !terms.frozen.iter().any(overlaps) {
            self.ledger.violated(format!("{plan:?} has taken {took:.1?}"));
        }
        if terms.is_lossless && matches!(end, End::Lost { .. }) {
            self.ledger.violated(format!("{plan:?} lost its worker and none had died"));
        }
        if terms.is_undisturbed && matches!(end, End::Replied { attempt } if *attempt > 1) {
            self.ledger.violated(format!("{plan:?} ended as {end:?} and nothing had been done to anybody"));
        }
    }

    fn look_for_open_calls(&mut self, terms: &Terms) {
        let left: Vec<_> = self.ledger.open().collect();
        for number in left {
            let Some((client, at)) = self.begun.get(&number) else { continue };
            if !terms.killed.contains(client) {
                let what = format!("call {number} of {client}, begun at {at}, has never ended");
                self.ledger.violated(what);
            }
        }
    }

    /// But for the lengths of its texts, which the load may have bounded: to those, its caller has held the reply.
    fn plan(&self, number: u64) -> Plan {
        Plan::of(self.seed, number, TEXT_BYTES_MAX)
    }

    fn sets(&self, observer: &str) -> impl Iterator<Item = &(u64, Vec<Uuid>)> {
        self.workers.get(observer).into_iter().flatten()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} calls a second; {}", self.rate(), self.ledger)
    }
}

/// The service of a container's name.
fn service(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// By how much a call may outlast its deadline: containers share a busy machine.
const TICK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::ledger::Kind;

    const SECOND: u64 = 1_000_000;

    fn number(kind: Kind) -> u64 {
        (0..).find(|number| Plan::of(1, *number, 0).kind == kind).expect("each kind comes")
    }

    /// A call that is begun at 100 s, has run so often, and ends after so many seconds.
    fn records(number: u64, runs: usize, ended: Option<(u64, End)>) -> Vec<(&'static str, Record)> {
        let mut client = vec![Record::Begun { number, at: 100 * SECOND }];
        if let Some((seconds, end)) = ended {
            client.push(Record::Ended { number, at: (100 + seconds) * SECOND, took: seconds * SECOND, end });
        }
        let ran = Record::Ran { number, attempt: 1, worker: Uuid::nil(), at: 100 * SECOND };
        let client = client.into_iter().map(|record| ("client-1.1", record));
        client.chain(std::iter::repeat_n(("worker-1.1", ran), runs)).collect()
    }

    fn violations(records: &[(&'static str, Record)], terms: &Terms) -> usize {
        Account::of(1, terms, records.iter().cloned()).ledger.violations().len()
    }

    #[test]
    fn call_that_has_not_ended_is_excused_by_nothing_but_the_death_of_its_client() {
        let open = records(number(Kind::Again), 1, None);
        let strange = Terms::default().killed("client-2").unreachable("client-1", 0..u64::MAX);
        assert_eq!(violations(&open, &strange), 1);
        assert_eq!(violations(&open, &Terms::default().killed("client-1")), 0);
    }

    #[test]
    fn deadline_ends_a_call_only_while_its_client_could_reach_nobody() {
        let late = records(number(Kind::Again), 1, Some((10, End::Expired { maybe_executed: true })));
        let from = |start: u64, end: u64| Terms::default().unreachable("client-1", start * SECOND..end * SECOND);
        assert_eq!(violations(&late, &from(105, 106)), 0);
        assert_eq!(violations(&late, &from(90, 101)), 0);
        assert_eq!(violations(&late, &from(90, 100)), 1);
        assert_eq!(violations(&late, &from(110, 120)), 1);
        assert_eq!(violations(&late, &Terms::default().unreachable("client-2", 0..u64::MAX)), 1);
    }

    #[test]
    fn end_long_after_the_deadline_is_excused_only_where_the_client_was_frozen() {
        let late = records(number(Kind::Again), 1, Some((12, End::Replied { attempt: 1 })));
        assert_eq!(violations(&late, &Terms::default().unreachable("client-1", 0..u64::MAX)), 1);
        assert_eq!(violations(&late, &Terms::default().frozen("client-1", 101 * SECOND..111 * SECOND)), 0);
    }

    #[test]
    fn losses_and_second_attempts_are_held_against_those_who_were_not_disturbed() {
        let lost = records(number(Kind::Once), 1, Some((1, End::Lost { maybe_executed: true })));
        let retried = records(number(Kind::Again), 2, Some((1, End::Replied { attempt: 2 })));
        let [any, lossless, undisturbed] =
            [Terms::default(), Terms::default().lossless(), Terms::default().undisturbed()];
        assert_eq!([&any, &lossless, &undisturbed].map(|terms| violations(&lost, terms)), [0, 1, 1]);
        assert_eq!([&any, &lossless, &undisturbed].map(|terms| violations(&retried, terms)), [0, 0, 1]);
    }

    #[test]
    fn run_that_is_one_too_many_is_found_in_the_workers_logs() {
        let ended = |runs| records(number(Kind::Once), runs, Some((1, End::Replied { attempt: 1 })));
        assert_eq!([0, 1, 2].map(|runs| violations(&ended(runs), &Terms::default())), [1, 0, 1]);
    }

    #[test]
    fn moments_at_which_a_worker_went_and_came_are_read_from_whoever_had_it() {
        let [one, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let had = |second: u64, ids: &[Uuid]| Record::Workers { at: second * SECOND, ids: ids.to_vec() };
        let sets = vec![had(1, &[one]), had(2, &[one, other]), had(7, &[one]), had(9, &[one, other])];
        let account = Account::of(1, &Terms::default(), sets.into_iter().map(|set| ("broker-1.1", set)));
        let seconds = Duration::from_secs;
        assert_eq!(account.had("broker-1", 1, 3 * SECOND), Some(seconds(4)));
        assert_eq!(account.had("broker-1", 1, 10 * SECOND), None);
        assert_eq!(account.had("broker-1", 2, 7 * SECOND), Some(seconds(2)));
        assert_eq!(account.had("broker-1", 2, 4 * SECOND), Some(seconds(0)));
        assert_eq!(account.had("broker-2", 2, 4 * SECOND), None);
        assert!(account.ever_missed("broker-1", 2 * SECOND..8 * SECOND));
        assert!(!account.ever_missed("broker-1", 2 * SECOND..7 * SECOND));
        assert!(!account.ever_missed("broker-1", 7 * SECOND..u64::MAX));
    }
}
