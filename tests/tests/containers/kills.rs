//! Processes that are killed and restarted while calls go on.

use xero_tests::{
    containers::{container::Container, stack::Stack},
    load::{account::Terms, record::micros_now},
};

use crate::crew::{AT_ONCE, BROKERS, Crew, assert_nobody_was_missed, assert_struck};

pub(crate) async fn killed_workers_cost_no_idempotent_call(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut kills = Vec::new();
    for index in 0..crew.workers.len() {
        kills.push(crew.worker_endures(index, Container::kill, Container::start).await);
    }
    restart(&crew, &crew.workers[0]).await;
    let account = crew.account(stack, &Terms::default()).await;
    assert_struck(&account);
    kills.iter().for_each(|kill| kill.assert_noticed(&account, &AT_ONCE));
}

pub(crate) async fn killed_brokers_cost_no_idempotent_call(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut kills = Vec::new();
    for index in 0..crew.brokers.len() {
        kills.push(crew.broker_endures(index, Container::kill, Container::start).await);
    }
    restart(&crew, &crew.brokers[0]).await;
    let account = crew.account(stack, &Terms::default()).await;
    assert_struck(&account);
    kills.iter().for_each(|kill| kill.assert_noticed(&account, &AT_ONCE));
}

pub(crate) async fn killed_client_costs_the_other_nothing(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let kill = crew.client_endures_unobserved(Container::kill, Container::start).await;
    restart(&crew, &crew.clients[0]).await;
    let until = micros_now();
    let account = crew.account(stack, &Terms::default().undisturbed().killed("client-1")).await;
    assert_nobody_was_missed(&account, &BROKERS, kill.at..until);
}

/// Asks somebody to leave, and starts it again.
async fn restart(crew: &Crew, container: &Container) {
    container.stop().await;
    container.start().await;
    crew.is_whole().await;
}
