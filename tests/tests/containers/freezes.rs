//! Processes that are frozen for longer than their lease.

use tokio::time::sleep;
use xero_tests::{
    containers::{container::Container, stack::Stack},
    load::terms::Fault,
};

use crate::crew::{Crew, NOTICED, assert_struck, terms_of};

pub(crate) async fn frozen_worker_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let freeze = [crew.worker_endures(0, Fault::Frozen, Container::pause, Container::unpause).await];
    let account = crew.account(stack, terms_of(&freeze)).await;
    assert_struck(&account);
    freeze[0].assert_noticed(&account, &NOTICED);
}

pub(crate) async fn frozen_broker_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let freeze = [crew.broker_endures(0, Fault::Frozen, Container::pause, Container::unpause).await];
    let account = crew.account(stack, terms_of(&freeze)).await;
    assert_struck(&account);
    freeze[0].assert_noticed(&account, &NOTICED);
}

pub(crate) async fn frozen_client_finds_its_brokers_again(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let freeze = async |client: &Container| {
        let frozen = client.pause().await;
        // Brokers do not report their clients: wait until they must have noticed.
        sleep(*NOTICED.end()).await;
        frozen
    };
    let freeze = [crew.client_endures(Fault::Frozen, freeze, Container::unpause).await];
    let account = crew.account(stack, terms_of(&freeze)).await;
    freeze[0].assert_silent(&account);
}
