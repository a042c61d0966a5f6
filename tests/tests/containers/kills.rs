//! Processes that are killed and restarted while calls go on.

use xero_tests::{
    containers::{container::Container, stack::Stack},
    load::terms::Fault,
};

use crate::crew::{AT_ONCE, Crew, assert_struck, terms_of};

pub(crate) async fn killed_workers_cost_no_idempotent_call(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut kills = Vec::new();
    for index in 0..crew.workers.len() {
        kills.push(crew.worker_endures(index, Fault::Killed, Container::kill, Container::start).await);
    }
    let terms = terms_of(&kills).disturbed(crew.restart(&crew.workers[0]).await);
    let account = crew.account(stack, terms).await;
    assert_struck(&account);
    kills.iter().for_each(|kill| kill.assert_noticed(&account, &AT_ONCE));
}

pub(crate) async fn killed_brokers_cost_no_idempotent_call(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut kills = Vec::new();
    for index in 0..crew.brokers.len() {
        kills.push(crew.broker_endures(index, Fault::Killed, Container::kill, Container::start).await);
    }
    let terms = terms_of(&kills).disturbed(crew.restart(&crew.brokers[0]).await);
    let account = crew.account(stack, terms).await;
    assert_struck(&account);
    kills.iter().for_each(|kill| kill.assert_noticed(&account, &AT_ONCE));
}

pub(crate) async fn killed_client_costs_the_other_nothing(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let kill = [crew.client_endures(Fault::Killed, Container::kill, Container::start).await];
    let terms = terms_of(&kill).disturbed(crew.restart(&crew.clients[0]).await);
    kill[0].assert_silent(&crew.account(stack, terms).await);
}
