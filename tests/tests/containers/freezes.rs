//! Processes that are frozen for longer than their lease lasts.

use xero_tests::{
    containers::stack::Stack,
    load::{account::Terms, record::micros_now},
};

use crate::crew::{BROKERS, CLIENTS, Crew, NOTICED, assert_nobody_was_missed, seconds_after};

pub(crate) async fn frozen_worker_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let id = crew.workers[0].worker_id().await;
    let at = crew.workers[0].pause().await;
    for broker in &crew.brokers {
        broker.has_workers(2).await;
    }
    crew.clients_are_served(2).await;
    crew.workers[0].unpause().await;
    crew.is_whole().await;
    let account = crew.account(stack, &Terms::default()).await;
    assert!(account.struck() > 0, "no call was in flight to the worker that was frozen: {account}");
    for broker in BROKERS {
        let noticed = account.missed(broker, id, at).expect("it was noticed");
        assert!(NOTICED.contains(&noticed), "{broker} has noticed after {noticed:?}");
    }
}

pub(crate) async fn frozen_broker_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let at = crew.brokers[0].pause().await;
    crew.clients_are_served(1).await;
    crew.brokers[0].unpause().await;
    crew.is_whole().await;
    let account = crew.account(stack, &Terms::default()).await;
    assert!(account.struck() > 0, "no call was in flight to the broker that was frozen: {account}");
    for client in CLIENTS {
        let noticed = account.had(client, 1, at).expect("it was noticed");
        assert!(NOTICED.contains(&noticed), "{client} has noticed after {noticed:?}");
    }
}

pub(crate) async fn frozen_client_finds_its_brokers_again(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let [client, other] = &crew.clients;
    let from = client.pause().await;
    // Nobody tells who has clients; what matters is that the lease is over.
    tokio::time::sleep(*NOTICED.end()).await;
    other.has_replies().await;
    let until = client.unpause().await;
    crew.is_whole().await;
    let terms = Terms::default().frozen("client-1", from..seconds_after(until, 5));
    let until = micros_now();
    let account = crew.account(stack, &terms).await;
    assert_nobody_was_missed(&account, &BROKERS, from..until);
}
