//! Names that do not resolve yet, and names whose address changes.

use xero_tests::{
    containers::{container::Container, stack::Stack},
    load::terms::{Fault, Terms},
    scene::eventually,
};

use crate::crew::{AT_ONCE, Crew, terms_of};

pub(crate) async fn worker_may_start_before_its_brokers_names_resolve(stack: &mut Stack) {
    stack.up(&["worker-1", "worker-2", "worker-3"]).await;
    for service in ["worker-1", "worker-2", "worker-3"] {
        let worker = stack.container(service).await;
        let complains = async || worker.errors().await.contains("cannot look up the host of tcp://broker-1:5561");
        eventually("the worker says what it cannot find", complains).await;
    }
    let crew = Crew::start(stack).await;
    crew.account(stack, Terms::default()).await;
}

pub(crate) async fn broker_may_return_with_another_address(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let networks = ["front", "zone-1", "zone-2", "zone-3"].map(|name| stack.network(name));
    let before = crew.brokers[0].addresses(&networks).await;
    let come_back = async |broker: &Container| {
        // Another container takes its free addresses.
        stack.squat(&networks).await;
        broker.start().await
    };
    let absence = [crew.broker_endures(0, Fault::Left, Container::stop, come_back).await];
    let after = crew.brokers[0].addresses(&networks).await;
    for (old, new) in before.iter().zip(&after) {
        assert!(!old.is_empty() && !new.is_empty() && old != new, "it had {before:?} and has {after:?}");
    }
    let account = crew.account(stack, terms_of(&absence)).await;
    absence[0].assert_noticed(&account, &AT_ONCE);
}
