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
        self.clients_are_served(2).await;
    }

    /// Waits until each client has so many brokers, and replies.
    pub(crate) async fn clients_are_served(&self, brokers: usize) {
        for client in &self.clients {
            client.has_workers(brokers).await;
            client.has_replies().await;
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

/// Within what time a peer that is frozen or cut off is missed: after an expiry of three intervals of a second, and
/// before another interval and what Docker takes are over.
pub(crate) const NOTICED: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(5);

/// So many seconds after that moment.
pub(crate) fn seconds_after(at: u64, seconds: u64) -> u64 {
    at + seconds * 1_000_000
}
