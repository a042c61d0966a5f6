//! All participants of the calls, and the outcomes.

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
    /// Starts all containers, and waits until they are connected and calls have replies.
    pub(crate) async fn start(stack: &Stack) -> Self {
        stack.up(&[]).await;
        let crew = Self::of(stack, &["worker-1", "worker-2", "worker-3"]).await;
        crew.is_whole().await;
        crew
    }

    /// The existing ones, with the workers of these services.
    pub(crate) async fn of(stack: &Stack, services: &[&str]) -> Self {
        let mut workers = Vec::new();
        for service in services {
            workers.extend(stack.containers(service).await);
        }
        let brokers = [stack.container(BROKERS[0]).await, stack.container(BROKERS[1]).await];
        let clients = [stack.container(CLIENTS[0]).await, stack.container(CLIENTS[1]).await];
        Self { brokers, workers, clients }
    }

    /// Waits until each broker has all workers, each client has both brokers, and each client gets replies.
    pub(crate) async fn is_whole(&self) {
        for broker in &self.brokers {
            broker.has_workers(self.workers.len()).await;
        }
        for client in &self.clients {
            client.has_workers(self.brokers.len()).await;
            client.has_replies().await;
        }
    }

    /// Strikes a worker until both brokers have noticed; calls continue without it. Then heals it.
    pub(crate) async fn worker_endures(&self, index: usize, fault: Fault, strike: impl Deed, heal: impl Deed) -> Blow {
        let whole = self.workers.len();
        let noticing = Noticing { observers: &self.brokers, left: whole - 1, whole };
        self.endure(&self.workers[index], fault, noticing, strike, heal).await
    }

    /// Strikes a broker until both clients have noticed; calls continue without it. Then heals it.
    pub(crate) async fn broker_endures(&self, index: usize, fault: Fault, strike: impl Deed, heal: impl Deed) -> Blow {
        let noticing = Noticing { observers: &self.clients, left: 1, whole: 2 };
        self.endure(&self.brokers[index], fault, noticing, strike, heal).await
    }

    /// Cuts the first client off until it has no broker; the other's calls continue. Then heals it.
    pub(crate) async fn client_is_cut_off(&self, cut: impl Deed, heal: impl Deed) -> Blow {
        let noticing = Noticing { observers: &self.clients[..1], left: 0, whole: 2 };
        self.endure(&self.clients[0], Fault::CutOff, noticing, cut, heal).await
    }

    /// Strikes the first client for a time that nobody reports; the other's calls continue. Then heals it.
    pub(crate) async fn client_endures(&self, fault: Fault, strike: impl Deed, heal: impl Deed) -> Blow {
        self.endure(&self.clients[0], fault, Noticing { observers: &[], left: 0, whole: 0 }, strike, heal).await
    }

    /// Stops it with SIGTERM, and starts it again.
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

    /// Stops all with SIGTERM, clients first, and checks their logs.
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

/// An act on a container; returns its begin and end, in microseconds since 1970.
pub(crate) trait Deed: AsyncFnOnce(&Container) -> Range<u64> {}

impl<F: AsyncFnOnce(&Container) -> Range<u64>> Deed for F {}

/// Who must notice, and their number of workers or brokers without the victim and with it.
struct Noticing<'a> {
    observers: &'a [Container],
    left: usize,
    whole: usize,
}

/// An act on a container, and who must notice it.
pub(crate) struct Blow {
    observers: Vec<String>,
    left: usize,
    whole: usize,
    struck: Range<u64>,
    healed: Range<u64>,
    pub(crate) disturbance: Disturbance,
}

impl Blow {
    /// Fails unless all noticed within this time, and had all back soon after the healing.
    pub(crate) fn assert_noticed(&self, account: &Account, within: &RangeInclusive<Duration>) {
        for observer in &self.observers {
            let noticed = account.had(observer, self.left, self.struck.start);
            // The deed happened at some time within this range.
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

    /// Fails if the victim, a client, continued to call meanwhile.
    pub(crate) fn assert_silent(&self, account: &Account) {
        let begun = account.begun_by(&self.disturbance.victim, &(self.struck.end..self.healed.start));
        assert_eq!(begun, 0, "{} has begun calls while it was to be silent: {account}", self.disturbance.victim);
    }
}

fn length(time: &Range<u64>) -> Duration {
    Duration::from_micros(time.end - time.start)
}

/// The disturbances of all these acts.
pub(crate) fn terms_of(blows: &[Blow]) -> Terms {
    blows.iter().fold(Terms::default(), |terms, blow| terms.disturbed(blow.disturbance.clone()))
}

/// That service got SIGTERM, and was or was not started again.
pub(crate) fn left(service: &str, time: Range<u64>) -> Disturbance {
    Disturbance { victim: service.to_owned(), fault: Fault::Left, time }
}

/// Fails unless calls were in flight to the victims.
pub(crate) fn assert_struck(account: &Account) {
    assert!(account.struck() > 0, "no call was in flight to whom it was done: {account}");
}

/// The brokers' services.
const BROKERS: [&str; 2] = ["broker-1", "broker-2"];

/// The clients' services.
const CLIENTS: [&str; 2] = ["client-1", "client-2"];

/// The seed that the Compose file gives the load; these tests do not depend on it.
const SEED: u64 = 1;

/// The time in which a killed process is noticed: its connection ends with it. The rest is Docker's.
pub(crate) const AT_ONCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(2);

/// The time in which a frozen or cut-off peer is noticed: after an expiry of three intervals of a second, and before
/// another interval and Docker's own time have passed.
pub(crate) const NOTICED: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(5);

/// The time in which a healed peer is found: it dials at least every 2 s, and each attempt takes at most 1 s. The rest
/// is Docker's, and the busy machine's.
const HEALED: Duration = Duration::from_secs(8);
