//! Processes that are frozen for longer than their lease lasts.

use tokio::time::sleep;
use xero_tests::{
    containers::{container::Container, stack::Stack},
    load::{account::Terms, record::micros_now},
};

use crate::crew::{BROKERS, Crew, NOTICED, assert_nobody_was_missed, assert_struck, seconds_after};

pub(crate) async fn frozen_worker_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let freeze = crew.worker_endures(0, Container::pause, Container::unpause).await;
    let account = crew.account(stack, &Terms::default()).await;
    assert_struck(&account);
    freeze.assert_noticed(&account, &NOTICED);
}

pub(crate) async fn frozen_broker_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let freeze = crew.broker_endures(0, Container::pause, Container::unpause).await;
    let account = crew.account(stack, &Terms::default()).await;
    assert_struck(&account);
    freeze.assert_noticed(&account, &NOTICED);
}

pub(crate) async fn frozen_client_finds_its_brokers_again(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let freeze = async |client: &Container| {
        let at = client.pause().await;
        // Nobody tells which clients it has: the time in which its brokers notice must be over.
        sleep(*NOTICED.end()).await;
        at
    };
    let freeze = crew.client_endures_unobserved(freeze, Container::unpause).await;
    let terms = Terms::default().frozen("client-1", freeze.at..seconds_after(freeze.healed_at, 5));
    let until = micros_now();
    let account = crew.account(stack, &terms).await;
    assert_nobody_was_missed(&account, &BROKERS, freeze.at..until);
}
