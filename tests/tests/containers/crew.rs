//! All that take part in the calls, and what came of those.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

use xero_tests::{
    containers::{container::Container, stack::Stack},
    load::{
        account::{Account, Terms},
        record::Record,
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

    /// Strikes that worker until both brokers have noticed; calls go on without it. Then it is healed.
    pub(crate) async fn worker_endures(&self, index: usize, strike: impl Deed, heal: impl Deed) -> Blow {
        let whole = self.workers.len();
        self.endure(&self.workers[index], &self.brokers, (whole - 1, whole), strike, heal).await
    }

    /// Strikes that broker until both clients have noticed; calls go on without it. Then it is healed.
    pub(crate) async fn broker_endures(&self, index: usize, strike: impl Deed, heal: impl Deed) -> Blow {
        self.endure(&self.brokers[index], &self.clients, (1, 2), strike, heal).await
    }

    /// Strikes the first client until it has noticed that it has no broker; the other's calls go on. Then it is healed.
    pub(crate) async fn client_endures(&self, strike: impl Deed, heal: impl Deed) -> Blow {
        self.endure(&self.clients[0], &self.clients[..1], (0, 2), strike, heal).await
    }

    /// Strikes the first client while nobody can tell when that is noticed; the other's calls go on. Then it is healed.
    pub(crate) async fn client_endures_unobserved(&self, strike: impl Deed, heal: impl Deed) -> Blow {
        self.endure(&self.clients[0], &[], (0, 0), strike, heal).await
    }

    /// `left` and `whole` are how many workers or brokers the observers have without the victim and with it.
    async fn endure(
        &self,
        victim: &Container,
        observers: &[Container],
        (left, whole): (usize, usize),
        strike: impl Deed,
        heal: impl Deed,
    ) -> Blow {
        let at = strike(victim).await;
        for observer in observers {
            observer.has_workers(left).await;
        }
        for client in self.clients.iter().filter(|client| client.name != victim.name) {
            client.has_replies().await;
        }
        let healed_at = heal(victim).await;
        self.is_whole().await;
        Blow {
            observers: observers.iter().map(|observer| observer.service().to_owned()).collect(),
            left,
            whole,
            at,
            healed_at,
        }
    }

    /// Asks everybody to leave, clients first, and judges their logs.
    pub(crate) async fn account(self, stack: &mut Stack, terms: &Terms) -> Account {
        for container in self.clients.iter().chain(&self.workers).chain(&self.brokers) {
            container.stop().await;
        }
        let outputs = stack.outputs().await;
        let records = outputs.iter().flat_map(|(name, said)| Record::all_in(said).map(move |record| (&**name, record)));
        let account = Account::of(SEED, terms, records);
        account.assert_kept();
        println!("{}: {account}", stack.name());
        assert!(account.ledger().replies > 0, "{account}");
        account
    }
}

/// What is done to a container; when, in microseconds since 1970.
pub(crate) trait Deed: AsyncFnOnce(&Container) -> u64 {}

impl<F: AsyncFnOnce(&Container) -> u64> Deed for F {}

/// What was done to somebody, and who was to notice.
pub(crate) struct Blow {
    observers: Vec<String>,
    /// How many workers or brokers they had left, and how many they have when all are well.
    left: usize,
    whole: usize,
    pub(crate) at: u64,
    pub(crate) healed_at: u64,
}

impl Blow {
    /// Fails unless everybody noticed in that time, and had all back soon after it was healed.
    pub(crate) fn assert_noticed(&self, account: &Account, within: &RangeInclusive<Duration>) {
        for observer in &self.observers {
            let noticed = account.had(observer, self.left, self.at);
            assert!(noticed.is_some_and(|time| within.contains(&time)), "{observer} has noticed after {noticed:?}");
            let healed = account.had(observer, self.whole, self.healed_at);
            assert!(healed.is_some_and(|time| time < HEALED), "{observer} has all back after {healed:?}");
        }
    }
}

/// Fails unless calls were in flight to those who were struck.
pub(crate) fn assert_struck(account: &Account) {
    let ledger = account.ledger();
    assert!(ledger.retried + ledger.lost > 0, "no call was in flight to whom it was done: {account}");
}

/// The brokers' services.
pub(crate) const BROKERS: [&str; 2] = ["broker-1", "broker-2"];

/// The clients' services.
pub(crate) const CLIENTS: [&str; 2] = ["client-1", "client-2"];

/// The seed that the Compose file gives the load: which calls are made is no part of these tests.
const SEED: u64 = 1;

/// Fails if one of these has missed anybody from then on, until that moment.
pub(crate) fn assert_nobody_was_missed(account: &Account, observers: &[&str], time: Range<u64>) {
    for observer in observers {
        assert!(!account.ever_missed(observer, time.clone()), "{observer} has taken somebody for dead: {account}");
    }
}

/// Within what time a process that was killed is missed: its connection ends with it. The rest is Docker's.
pub(crate) const AT_ONCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(2);

/// Within what time a peer that is frozen or cut off is missed: after an expiry of three intervals of a second, and
/// before another interval and what Docker takes are over.
pub(crate) const NOTICED: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(5);

/// Within what time a peer that is well again is found: it dials at least every 2 s, and gives an attempt 1 s. The rest is
/// Docker's, and the busy machine's.
const HEALED: Duration = Duration::from_secs(8);

/// So many seconds after that moment.
pub(crate) fn seconds_after(at: u64, seconds: u64) -> u64 {
    at + seconds * 1_000_000
}
