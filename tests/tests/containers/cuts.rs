//! Hosts that are cut off, both ways or one way only: connections stay, and nothing comes.

use xero_tests::{
    containers::{
        container::{Container, Way},
        stack::Stack,
    },
    load::{
        account::{Account, Terms},
        record::micros_now,
    },
};

use crate::crew::{BROKERS, CLIENTS, Crew, NOTICED, assert_nobody_was_missed};

pub(crate) async fn worker_that_is_cut_off_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let zone = stack.network("zone-1");
    let id = crew.workers[0].worker_id().await;
    let at = crew.workers[0].disconnect(&zone).await;
    for broker in &crew.brokers {
        broker.has_workers(2).await;
    }
    crew.clients_are_served(2).await;
    crew.workers[0].connect(&zone).await;
    crew.is_whole().await;
    let account = crew.account(stack, &Terms::default()).await;
    assert!(account.struck() > 0, "no call was in flight to the worker that was cut off: {account}");
    for broker in BROKERS {
        let noticed = account.missed(broker, id, at).expect("it was noticed");
        assert!(NOTICED.contains(&noticed), "{broker} has noticed after {noticed:?}");
    }
}

pub(crate) async fn broker_that_is_cut_off_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let networks = ["front", "zone-1", "zone-2", "zone-3"].map(|name| stack.network(name));
    let broker = &crew.brokers[0];
    let mut at = 0;
    for network in &networks {
        at = at.max(broker.disconnect(network).await);
    }
    crew.clients_are_served(1).await;
    broker.has_workers(0).await;
    for network in &networks {
        broker.connect(network).await;
    }
    crew.is_whole().await;
    let account = crew.account(stack, &Terms::default()).await;
    assert!(account.struck() > 0, "no call was in flight to the broker that was cut off: {account}");
    for client in CLIENTS {
        let noticed = account.had(client, 1, at).expect("it was noticed");
        assert!(noticed <= *NOTICED.end(), "{client} has noticed after {noticed:?}");
    }
}

pub(crate) async fn client_that_is_cut_off_finds_its_brokers_again(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let front = stack.network("front");
    let [client, other] = &crew.clients;
    let from = client.disconnect(&front).await;
    client.has_workers(0).await;
    other.has_replies().await;
    client.connect(&front).await;
    crew.is_whole().await;
    let lonely = from..micros_now();
    let account = crew.account(stack, &Terms::default().unreachable("client-1", lonely.clone())).await;
    assert_nobody_was_missed(&account, &BROKERS, lonely);
    assert_client_has_noticed(&account, from);
}

pub(crate) async fn worker_that_only_hears_or_is_only_heard_is_noticed(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let worker = &crew.workers[0];
    let id = worker.worker_id().await;
    let mut cuts = Vec::new();
    for way in [Way::In, Way::Out] {
        cuts.push(worker.lose(100, way).await);
        for broker in &crew.brokers {
            broker.has_workers(2).await;
        }
        crew.clients_are_served(2).await;
        heal(worker).await;
        crew.is_whole().await;
    }
    let account = crew.account(stack, &Terms::default()).await;
    assert!(account.struck() > 0, "no call was in flight to the worker that was cut off: {account}");
    for at in cuts {
        for broker in BROKERS {
            let noticed = account.missed(broker, id, at).expect("it was noticed");
            assert!(noticed <= *NOTICED.end(), "{broker} has noticed after {noticed:?}");
        }
    }
}

pub(crate) async fn broker_that_only_hears_or_is_only_heard_is_noticed(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let broker = &crew.brokers[0];
    let mut cuts = Vec::new();
    for way in [Way::In, Way::Out] {
        cuts.push(broker.lose(100, way).await);
        crew.clients_are_served(1).await;
        heal(broker).await;
        crew.is_whole().await;
    }
    let account = crew.account(stack, &Terms::default()).await;
    assert!(account.struck() > 0, "no call was in flight to the broker that was cut off: {account}");
    for at in cuts {
        for client in CLIENTS {
            let noticed = account.had(client, 1, at).expect("it was noticed");
            assert!(noticed <= *NOTICED.end(), "{client} has noticed after {noticed:?}");
        }
    }
}

pub(crate) async fn client_that_only_hears_or_is_only_heard_ends_its_calls(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let [client, other] = &crew.clients;
    let mut cuts = Vec::new();
    for way in [Way::In, Way::Out] {
        cuts.push(client.lose(100, way).await);
        client.has_workers(0).await;
        other.has_replies().await;
        heal(client).await;
        crew.is_whole().await;
    }
    let lonely = cuts[0]..micros_now();
    let account = crew.account(stack, &Terms::default().unreachable("client-1", lonely.clone())).await;
    assert_nobody_was_missed(&account, &BROKERS, lonely);
    cuts.into_iter().for_each(|at| assert_client_has_noticed(&account, at));
}

/// Lets packets pass again; some must have been dropped.
async fn heal(container: &Container) {
    let dropped = container.lose_no_more().await;
    assert!(dropped > 0, "no packet of {} was dropped", container.name);
}

fn assert_client_has_noticed(account: &Account, at: u64) {
    let noticed = account.had("client-1", 0, at).expect("it was noticed");
    assert!(noticed <= *NOTICED.end(), "client-1 has noticed after {noticed:?}");
}
