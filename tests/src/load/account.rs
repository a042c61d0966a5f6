//! Combines the logs of clients, brokers and workers, and checks the promises.

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
    terms::{Disturbance, Fault, Terms},
};

/// All calls of a test, and the workers that each process had over time.
#[derive(Debug, Default)]
pub struct Account {
    seed: u64,
    ledger: Ledger,
    calls: BTreeMap<u64, Call>,
    /// The clients.
    clients: BTreeSet<String>,
    /// The attempts at each call that workers have started.
    runs: BTreeMap<u64, Vec<u8>>,
    /// The workers that have run anything.
    ran: BTreeSet<Uuid>,
    /// The start of each life of a service, and its id.
    lives: BTreeMap<String, Vec<(u64, Option<Uuid>)>>,
    /// The workers of each broker and client, in the order of time.
    workers: BTreeMap<String, Vec<(u64, Vec<Uuid>)>>,
    /// The calls that were lost or retried because a fault hit a process that had them.
    struck: u64,
}

#[derive(Clone, Debug)]
struct Call {
    client: String,
    begun_at: u64,
    ended: Option<(u64, End)>,
}

impl Account {
    /// The account of those records, each with its process's name, in each process's order. All loads have that seed,
    /// and separate numbers; the records cover every worker that ever ran.
    pub fn of<'a>(seed: u64, terms: &Terms, records: impl IntoIterator<Item = (&'a str, Record)>) -> Self {
        let mut account = Self { seed, ..Self::default() };
        records.into_iter().for_each(|(name, record)| account.add(service(name), record));
        for (number, call) in std::mem::take(&mut account.calls) {
            account.judge(number, &call, terms);
            account.calls.insert(number, call);
        }
        let numbers = account.runs.iter().flat_map(|(number, attempts)| attempts.iter().map(|_| *number));
        account.ledger.compare(numbers.collect::<Vec<_>>());
        account.judge_losses(terms);
        account
    }

    /// The calls.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The calls that were lost or retried because a process that had them was killed, cut off or frozen.
    pub fn struck(&self) -> u64 {
        self.struck
    }

    /// The number of workers that received calls.
    pub fn workers_that_ran(&self) -> usize {
        self.ran.len()
    }

    /// The calls per second that all clients together started, from the first to the last.
    pub fn rate(&self) -> f64 {
        let at = || self.calls.values().map(|call| call.begun_at);
        let micros = at().max().unwrap_or_default() - at().min().unwrap_or_default();
        self.calls.len() as f64 / Duration::from_micros(micros.max(1)).as_secs_f64()
    }

    /// The calls that the client started in that time: none in its absence.
    pub fn begun_by(&self, client: &str, time: &Range<u64>) -> usize {
        self.calls.values().filter(|call| call.client == client && time.contains(&call.begun_at)).count()
    }

    /// How long after that moment the observer first had this many workers; its workers at that moment count too.
    pub fn had(&self, observer: &str, count: usize, from: u64) -> Option<Duration> {
        let before = self.sets(observer).take_while(|(at, _)| *at <= from).last();
        let after = self.sets(observer).skip_while(|(at, _)| *at <= from);
        let found = before.into_iter().chain(after).find(|(_, ids)| ids.len() == count);
        found.map(|(at, _)| Duration::from_micros(at.saturating_sub(from)))
    }

    /// Fails, and prints everything, if a promise was broken.
    pub fn assert_kept(&self) {
        assert!(self.ledger.violations().is_empty(), "{self}");
    }

    fn add(&mut self, name: &str, record: Record) {
        match record {
            Record::Started { at, id } => {
                self.lives.entry(name.to_owned()).or_default().push((at, id));
                // It no longer has the workers of its previous life.
                self.workers.entry(name.to_owned()).or_default().push((at, Vec::new()));
            }
            Record::Begun { number, at } => {
                self.ledger.begun(&self.plan(number));
                self.clients.insert(name.to_owned());
                self.calls.insert(number, Call { client: name.to_owned(), begun_at: at, ended: None });
            }
            Record::Ended { number, at, took, end } => match self.calls.get_mut(&number) {
                Some(call) if call.ended.is_none() => {
                    call.ended = Some((at, end));
                    // Its own measure of the time, because the wall clock may have been set in between.
                    call.begun_at = at.saturating_sub(took);
                }
                _ => self.ledger.violated(format!("call {number} has ended twice, or was never begun")),
            },
            Record::Ran { number, worker, attempt, .. } => {
                self.runs.entry(number).or_default().push(attempt);
                self.ran.insert(worker);
            }
            Record::Workers { at, ids } => self.workers.entry(name.to_owned()).or_default().push((at, ids)),
        }
    }

    fn judge(&mut self, number: u64, call: &Call, terms: &Terms) {
        let plan = self.plan(number);
        let Some((ended_at, end)) = &call.ended else { return self.judge_open(number, call, terms) };
        let took = Duration::from_micros(ended_at - call.begun_at);
        let around = self.around(&call.client, &(call.begun_at..*ended_at + 1), terms);
        match around.iter().any(|disturbance| disturbance.isolates(&call.client)) {
            true => self.ledger.ended_unreachable(&plan, end, took),
            false => self.ledger.ended(&plan, end, took),
        }
        if took > plan.timeout + TICK + frozen(&around, &call.client) {
            self.ledger.violated(format!("{plan:?} has taken {took:.1?}"));
        }
        let is_lost = matches!(end, End::Lost { .. });
        if is_lost && !around.iter().any(|disturbance| disturbance.is_deadly()) {
            self.ledger.violated(format!("{plan:?} has lost its worker while none died"));
        }
        let attempts = self.runs.get(&number).map_or(&[][..], Vec::as_slice);
        let is_repeated =
            *attempts != [1] && !attempts.is_empty() || matches!(end, End::Replied { attempt } if *attempt > 1);
        if is_repeated && around.is_empty() {
            let what =
                format!("{plan:?} ended as {end:?} after attempts {attempts:?} while nothing was done to anybody");
            self.ledger.violated(what);
        }
        self.struck += u64::from((is_lost || is_repeated) && around.iter().any(|disturbance| disturbance.is_deadly()));
    }

    /// Judges a call that has not ended: its client must have been killed during it, and restarted.
    fn judge_open(&mut self, number: u64, call: &Call, terms: &Terms) {
        let next_life = self.lives.get(&call.client).into_iter().flatten().find(|(at, _)| *at > call.begun_at);
        let died = next_life.is_some_and(|(at, _)| {
            let is_it = |it: &Disturbance| it.fault == Fault::Killed && it.victim == call.client;
            terms.during(&(*at..at + 1)).any(is_it)
        });
        if !died {
            let Call { client, begun_at, .. } = call;
            self.ledger.violated(format!("call {number} of {client}, begun at {begun_at}, has never ended"));
        }
    }

    /// Checks that no process lost an undisturbed worker or broker, unless it was disturbed itself.
    fn judge_losses(&mut self, terms: &Terms) {
        let mut losses = Vec::new();
        for (observer, sets) in &self.workers {
            for pair in sets.windows(2) {
                let [(_, before), (at, after)] = pair else { continue };
                let lost = before.iter().filter(|id| !after.contains(id));
                let excused = |id: &Uuid| terms.during(&(*at..at + 1)).any(|it| self.explains(it, observer, *id));
                let unexcused = lost.filter(|id| !terms.is_over(*at) && !excused(id));
                losses
                    .extend(unexcused.map(|id| format!("{observer} has lost {id} at {at}, to whom nothing was done")));
            }
        }
        losses.into_iter().for_each(|loss| self.ledger.violated(loss));
    }

    fn explains(&self, disturbance: &Disturbance, observer: &str, lost: Uuid) -> bool {
        let mut lives = self.lives.get(&disturbance.victim).into_iter().flatten();
        disturbance.victim == observer || lives.any(|(_, id)| *id == Some(lost))
    }

    /// The disturbances during the call that hit processes it may have gone to, or its own client.
    fn around<'a>(&self, client: &str, life: &Range<u64>, terms: &'a Terms) -> Vec<&'a Disturbance> {
        let is_other_client = |victim: &String| victim != client && self.clients.contains(victim);
        terms.during(life).filter(|disturbance| !is_other_client(&disturbance.victim)).collect()
    }

    /// The call's plan, except the lengths of its texts, which the load may have bounded: its caller has checked those.
    fn plan(&self, number: u64) -> Plan {
        Plan::of(self.seed, number, TEXT_BYTES_MAX)
    }

    fn sets(&self, observer: &str) -> impl Iterator<Item = &(u64, Vec<Uuid>)> {
        self.workers.get(observer).into_iter().flatten()
    }
}

/// How long that client was frozen.
fn frozen(around: &[&Disturbance], client: &str) -> Duration {
    let own = around.iter().filter(|disturbance| disturbance.fault == Fault::Frozen && disturbance.victim == client);
    own.map(|disturbance| Duration::from_micros(disturbance.time.end - disturbance.time.start)).sum()
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

/// How much a call may outlast its deadline: containers share a busy machine.
const TICK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::ledger::Kind;

    #[test]
    fn open_call_is_excused_only_by_the_death_of_its_client() {
        let mut open = records(number(Kind::Again), &[1], None);
        let killed = done("client-1", Fault::Killed, 101, 103);
        assert_eq!(violations(&open, &killed), 1);
        open.push(("client-1.1", Record::Started { at: 102 * SECOND, id: None }));
        assert_eq!(violations(&open, &killed), 0);
        assert_eq!(violations(&open, &done("client-1", Fault::Killed, 90, 101)), 1);
        assert_eq!(violations(&open, &done("client-2", Fault::Killed, 101, 103)), 1);
        assert_eq!(violations(&open, &done("client-1", Fault::CutOff, 101, 103)), 1);
    }

    #[test]
    fn deadline_is_excused_only_while_its_client_reached_no_worker() {
        let late = records(number(Kind::Again), &[1], Some((10, End::Expired { maybe_executed: true })));
        let cut = |from, until| violations(&late, &done("client-1", Fault::CutOff, from, until));
        assert_eq!([cut(105, 106), cut(90, 101), cut(90, 100), cut(111, 120)], [0, 0, 1, 1]);
        assert_eq!(violations(&late, &done("broker-1", Fault::CutOff, 90, 120)), 1);
    }

    #[test]
    fn early_deadline_is_found() {
        let early = records(number(Kind::Again), &[1], Some((1, End::Expired { maybe_executed: true })));
        assert_eq!(violations(&early, &done("client-1", Fault::CutOff, 90, 120)), 1);
    }

    #[test]
    fn late_end_is_excused_by_the_time_that_the_client_was_frozen() {
        let late = |seconds| records(number(Kind::Again), &[1], Some((seconds, End::Replied { attempt: 1 })));
        let frozen = done("client-1", Fault::Frozen, 101, 106);
        assert_eq!([16, 17].map(|seconds| violations(&late(seconds), &frozen)), [0, 1]);
        assert_eq!(violations(&late(16), &done("client-1", Fault::CutOff, 101, 106)), 1);
    }

    #[test]
    fn loss_is_excused_by_a_death_and_a_second_attempt_also_by_a_drain() {
        let lost = records(number(Kind::Once), &[1], Some((1, End::Lost { maybe_executed: true })));
        let retried = records(number(Kind::Again), &[1, 2], Some((1, End::Replied { attempt: 2 })));
        let under = |fault, from, until| {
            let terms = done("worker-1", fault, from, until);
            (violations(&lost, &terms), violations(&retried, &terms))
        };
        assert_eq!(under(Fault::Killed, 100, 101), (0, 0));
        assert_eq!(under(Fault::Left, 100, 101), (1, 0));
        assert_eq!(under(Fault::Killed, 98, 99), (1, 1));
        let account = Account::of(1, &done("worker-1", Fault::Killed, 100, 101), retried);
        assert_eq!(account.struck(), 1);
    }

    #[test]
    fn fault_of_one_client_excuses_nothing_of_another() {
        let mut both = records(number(Kind::Once), &[1], Some((1, End::Lost { maybe_executed: true })));
        let other = number(Kind::Again);
        let ended = Record::Ended { number: other, at: 51 * SECOND, took: SECOND, end: End::Replied { attempt: 1 } };
        both.push(("client-2.1", Record::Begun { number: other, at: 50 * SECOND }));
        both.push(("client-2.1", ended));
        both.push(("worker-1.1", Record::ran(other, 1, Uuid::nil())));
        assert_eq!(violations(&both, &done("client-2", Fault::CutOff, 100, 101)), 1);
        assert_eq!(violations(&both, &done("client-1", Fault::CutOff, 100, 101)), 0);
    }

    #[test]
    fn extra_run_or_wrong_attempt_is_found_in_the_workers_logs() {
        let (once, again) = (number(Kind::Once), number(Kind::Again));
        let ran = |number, attempts| violations(&records(number, attempts, Some((1, REPLIED))), &Terms::default());
        assert_eq!([&[][..], &[1]].map(|attempts| ran(once, attempts)), [1, 0]);
        assert!(ran(once, &[1, 1]) > 0 && ran(again, &[1, 1]) > 0 && ran(again, &[2]) > 0);
    }

    #[test]
    fn reply_before_the_end_of_the_procedure_is_found() {
        let hurried = records(number(Kind::Hurried), &[1], Some((0, REPLIED)));
        assert_eq!(violations(&hurried, &Terms::default()), 1);
    }

    #[test]
    fn lost_peer_must_have_been_disturbed() {
        let [one, other] = [1, 2].map(Uuid::from_u128);
        let had =
            |second: u64, ids: &[Uuid]| ("broker-1.1", Record::Workers { at: second * SECOND, ids: ids.to_vec() });
        let started = ("worker-1.1", Record::Started { at: 0, id: Some(other) });
        let seen = [started, had(1, &[one]), had(2, &[one, other]), had(7, &[one]), had(9, &[one, other])];
        assert_eq!(violations(&seen, &Terms::default()), 1);
        assert_eq!(violations(&seen, &Terms::default().over_at(7 * SECOND)), 0);
        assert_eq!(violations(&seen, &done("worker-1", Fault::CutOff, 6, 8)), 0);
        assert_eq!(violations(&seen, &done("worker-1", Fault::CutOff, 3, 6)), 1);
        assert_eq!(violations(&seen, &done("worker-2", Fault::CutOff, 6, 8)), 1);
        assert_eq!(violations(&seen, &done("broker-1", Fault::CutOff, 6, 8)), 0);
    }

    #[test]
    fn calls_of_a_client_are_counted_from_the_start_of_a_time_to_before_its_end() {
        let account = Account::of(1, &Terms::default(), records(number(Kind::Again), &[], None));
        let counts = |client, from, until| account.begun_by(client, &(from * SECOND..until * SECOND));
        assert_eq!([(100, 101), (99, 100), (101, 102)].map(|(from, until)| counts("client-1", from, until)), [1, 0, 0]);
        assert_eq!(counts("client-2", 100, 101), 0);
    }

    #[test]
    fn losses_and_returns_of_workers_are_read_from_their_observers() {
        let ids = [1, 2, 3].map(Uuid::from_u128);
        let had = |second: u64, count: usize| Record::Workers { at: second * SECOND, ids: ids[..count].to_vec() };
        let started = Record::Started { at: 8 * SECOND, id: None };
        let sets = [had(1, 3), had(4, 2), had(6, 3), started, had(9, 0)];
        let account = Account::of(1, &Terms::default(), sets.map(|set| ("broker-1.1", set)));
        let had = |count, second| account.had("broker-1", count, second * SECOND).map(|time| time.as_secs());
        assert_eq!([had(2, 3), had(3, 4), had(3, 2), had(3, 8), had(2, 6)], [Some(1), Some(2), Some(0), None, None]);
        assert_eq!(account.had("broker-2", 3, 0), None);
    }

    const SECOND: u64 = 1_000_000;

    const REPLIED: End = End::Replied { attempt: 1 };

    /// A call of that kind; for an idempotent one, with a procedure that takes no time.
    fn number(kind: Kind) -> u64 {
        let is_it = |plan: &Plan| plan.kind == kind && (kind == Kind::Hurried || plan.order.millis == 0);
        (0..).find(|number| is_it(&Plan::of(1, *number, 0))).expect("each kind comes")
    }

    /// A call that starts at 100 s, has run in these attempts, and ends after this many seconds.
    fn records(number: u64, attempts: &[u8], ended: Option<(u64, End)>) -> Vec<(&'static str, Record)> {
        let at = 100 * SECOND;
        let mut records = vec![("client-1.1", Record::Begun { number, at })];
        records.extend(ended.map(|(seconds, end)| {
            let (at, took) = (at + seconds * SECOND, seconds * SECOND);
            ("client-1.1", Record::Ended { number, at, took, end })
        }));
        let ran = |attempt: &u8| ("worker-1.1", Record::ran(number, *attempt, Uuid::nil()));
        records.extend(attempts.iter().map(ran));
        records
    }

    fn violations(records: &[(&'static str, Record)], terms: &Terms) -> usize {
        Account::of(1, terms, records.iter().cloned()).ledger.violations().len()
    }

    fn done(victim: &str, fault: Fault, from: u64, until: u64) -> Terms {
        let time = from * SECOND..until * SECOND;
        Terms::default().disturbed(Disturbance { victim: victim.to_owned(), fault, time })
    }
}
