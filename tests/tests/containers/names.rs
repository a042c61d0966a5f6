//! Names that are not there yet, and names that lead elsewhere.

use std::time::Duration;

use xero_tests::{containers::stack::Stack, load::account::Terms, scene::eventually};

use crate::crew::Crew;

pub(crate) async fn worker_may_be_there_before_its_brokers_names(stack: &mut Stack) {
    stack.up(&["worker-1", "worker-2", "worker-3"]).await;
    for service in ["worker-1", "worker-2", "worker-3"] {
        let worker = stack.container(service).await;
        let complains = async || worker.errors().await.contains("broker-1:5561");
        eventually("the worker says what it cannot find", complains).await;
    }
    let crew = Crew::start(stack).await;
    crew.account(stack, &Terms::default().undisturbed()).await;
}

pub(crate) async fn broker_may_come_back_with_another_address(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let networks = ["front", "zone-1", "zone-2", "zone-3"].map(|name| stack.network(name));
    let broker = &crew.brokers[0];
    let before = broker.addresses(&networks).await;
    broker.stop().await;
    // Somebody else takes its addresses, as they are free.
    stack.squat(&networks).await;
    let back = broker.start().await;
    let after = broker.addresses(&networks).await;
    for (old, new) in before.iter().zip(&after) {
        assert_ne!(old, new, "the broker has an address that it has had");
    }
    crew.is_whole().await;
    let account = crew.account(stack, &Terms::default().lossless()).await;
    for client in ["client-1", "client-2"] {
        let found = account.had(client, 2, back).expect("it was found again");
        assert!(found < Duration::from_secs(10), "{client} has found it after {found:?}");
    }
}
