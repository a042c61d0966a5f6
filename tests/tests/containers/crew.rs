//! All that take part in the calls, and what came of those.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

use xero_tests::{
    containers::{container::Container, stack::Stack},
    load::{
        account::Account,
        record::{Record, micros_now},
        terms::{Disturbance, Fault, Terms},
    },
};

/// The containers of the stack.
pub(crate) struct Crew {
    pub(crate) brokers: [Container; 2],
    pub(crate) workers: Vec<Container>,
    pub(crate) clients: [Container; 2],
}

impl Crew {
    /// Starts everybody, and waits until all have found each other and calls have replies.
    pub(crate) async fn start(stack: &Stack) -> Self {
        stack.up(&[]).await;
        let crew = Self::of(stack, &["worker-1", "worker-2", "worker-3"]).await;
        crew.is_whole().await;
        crew
    }

    /// Those that there are, with these services' workers.
    pub(crate) async fn of(stack: &Stack, services: &[&str]) -> Self {
        let mut workers = Vec::new();
        for service in services {
            workers.extend(stack.containers(service).await);
        }
        let brokers = [stack.container(BROKERS[0]).await, stack.container(BROKERS[1]).await];
        let clients = [stack.container(CLIENTS[0]).await, stack.container(CLIENTS[1]).await];
        Self { brokers, workers, clients }
    }

    /// Waits until each broker has all workers, each client both brokers, and each client replies.
    pub(crate) async fn is_whole(&self) {
        for broker in &self.brokers {
            broker.has_workers(self.workers.len()).await;
        }
        for client in &self.clients {
            client.has_workers(self.brokers.len()).await;
            client.has_replies().await;
        }
    }

    /// Does that to that worker until both brokers have noticed; calls go on without it. Then it is healed.
    pub(crate) async fn worker_endures(&self, index: usize, fault: Fault, strike: impl Deed, heal: impl Deed) -> Blow {
        let whole = self.workers.len();
        let noticing = Noticing { observers: &self.brokers, left: whole - 1, whole };
        self.endure(&self.workers[index], fault, noticing, strike, heal).await
    }

    /// Does that to that broker until both clients have noticed; calls go on without it. Then it is healed.
    pub(crate) async fn broker_endures(&self, index: usize, fault: Fault, strike: impl Deed, heal: impl Deed) -> Blow {
        let noticing = Noticing { observers: &self.clients, left: 1, whole: 2 };
        self.endure(&self.brokers[index], fault, noticing, strike, heal).await
    }

    /// Cuts the first client off until it has noticed that it has no broker; the other's calls go on. Then it is healed.
    pub(crate) async fn client_is_cut_off(&self, cut: impl Deed, heal: impl Deed) -> Blow {
        let noticing = Noticing { observers: &self.clients[..1], left: 0, whole: 2 };
        self.endure(&self.clients[0], Fault::CutOff, noticing, cut, heal).await
    }

    /// Does that to the first client while nobody can tell when it is noticed; the other's calls go on. Then it is healed.
    pub(crate) async fn client_endures(&self, fault: Fault, strike: impl Deed, heal: impl Deed) -> Blow {
        self.endure(&self.clients[0], fault, Noticing { observers: &[], left: 0, whole: 0 }, strike, heal).await
    }

    /// Asks it to leave, and starts it again.
    pub(crate) async fn restart(&self, container: &Container) -> Disturbance {
        let from = container.stop().await.start;
        container.start().await;
        self.is_whole().await;
        left(container.service(), from..micros_now())
    }

    async fn endure(
        &self,
        victim: &Container,
        fault: Fault,
        noticing: Noticing<'_>,
        strike: impl Deed,
        heal: impl Deed,
    ) -> Blow {
        let Noticing { observers, left, whole } = noticing;
        let struck = strike(victim).await;
        for observer in observers {
            observer.has_workers(left).await;
        }
        for client in self.clients.iter().filter(|client| client.name != victim.name) {
            client.has_replies().await;
        }
        let healed = heal(victim).await;
        self.is_whole().await;
        let observers = observers.iter().map(|observer| observer.service().to_owned()).collect();
        let disturbance = Disturbance { victim: victim.service().to_owned(), fault, time: struck.start..micros_now() };
        Blow { observers, left, whole, struck, healed, disturbance }
    }

    /// Asks everybody to leave, clients first, and judges their logs.
    pub(crate) async fn account(self, stack: &mut Stack, terms: Terms) -> Account {
        let terms = terms.over_at(micros_now());
        for container in self.clients.iter().chain(&self.workers).chain(&self.brokers) {
            container.stop().await;
        }
        let outputs = stack.outputs().await;
        let records = outputs.iter().flat_map(|(name, said)| Record::all_in(said).map(move |record| (&**name, record)));
        let account = Account::of(SEED, &terms, records);
        account.assert_kept();
        println!("{}: {account}", stack.name());
        assert!(account.ledger().replies > 0, "{account}");
        account
    }
}

/// What is done to a container; from when to when, in microseconds since 1970.
pub(crate) trait Deed: AsyncFnOnce(&Container) -> Range<u64> {}

impl<F: AsyncFnOnce(&Container) -> Range<u64>> Deed for F {}

/// Who is to notice, and how many workers or brokers those have without the victim and with it.
struct Noticing<'a> {
    observers: &'a [Container],
    left: usize,
    whole: usize,
}

/// What was done to somebody, and who was to notice.
pub(crate) struct Blow {
    observers: Vec<String>,
    left: usize,
    whole: usize,
    struck: Range<u64>,
    healed: Range<u64>,
    pub(crate) disturbance: Disturbance,
}

impl Blow {
    /// Fails unless everybody noticed in that time, and had all back soon after it was healed.
    pub(crate) fn assert_noticed(&self, account: &Account, within: &RangeInclusive<Duration>) {
        for observer in &self.observers {
            let noticed = account.had(observer, self.left, self.struck.start);
            // Somewhere in the time that the deed took it was done.
            let (earliest, latest) = (*within.start(), *within.end() + length(&self.struck));
            assert!(
                noticed.is_some_and(|time| (earliest..=latest).contains(&time)),
                "{observer} was to notice what was done to {} within {earliest:.1?} to {latest:.1?} and has after {noticed:.1?}",
                self.disturbance.victim
            );
            let healed = account.had(observer, self.whole, self.healed.start);
            assert!(
                healed.is_some_and(|time| time < HEALED + length(&self.healed)),
                "{observer} was to have {} back within {HEALED:?} and had after {healed:.1?}",
                self.disturbance.victim
            );
        }
    }

    /// Fails if the victim, a client, went on calling meanwhile.
    pub(crate) fn assert_silent(&self, account: &Account) {
        let begun = account.begun_by(&self.disturbance.victim, &(self.struck.end..self.healed.start));
        assert_eq!(begun, 0, "{} has begun calls while it was to be silent: {account}", self.disturbance.victim);
    }
}

fn length(time: &Range<u64>) -> Duration {
    Duration::from_micros(time.end - time.start)
}

/// All that was done in these.
pub(crate) fn terms_of(blows: &[Blow]) -> Terms {
    blows.iter().fold(Terms::default(), |terms, blow| terms.disturbed(blow.disturbance.clone()))
}

/// That service was asked to leave, and came back or did not.
pub(crate) fn left(service: &str, time: Range<u64>) -> Disturbance {
    Disturbance { victim: service.to_owned(), fault: Fault::Left, time }
}

/// Fails unless calls were in flight to those who were struck.
pub(crate) fn assert_struck(account: &Account) {
    assert!(account.struck() > 0, "no call was in flight to whom it was done: {account}");
}

/// The brokers' services.
const BROKERS: [&str; 2] = ["broker-1", "broker-2"];

/// The clients' services.
const CLIENTS: [&str; 2] = ["client-1", "client-2"];

/// The seed that the Compose file gives the load: which calls are made is no part of these tests.
const SEED: u64 = 1;

/// Within what time a process that was killed is missed: its connection ends with it. The rest is Docker's.
pub(crate) const AT_ONCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(2);

/// Within what time a peer that is frozen or cut off is missed: after an expiry of three intervals of a second, and
/// before another interval and what Docker takes are over.
pub(crate) const NOTICED: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(5);

/// Within what time a peer that is well again is found: it dials at least every 2 s, and gives an attempt 1 s. The rest is
/// Docker's, and the busy machine's.
const HEALED: Duration = Duration::from_secs(8);
