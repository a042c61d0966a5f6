//! Processes that are killed and restarted while calls go on.

use std::time::Duration;

use xero_tests::{
    containers::{container::Container, stack::Stack},
    load::{account::Terms, record::micros_now},
};

use crate::crew::{BROKERS, CLIENTS, Crew, assert_nobody_was_missed};

pub(crate) async fn killed_workers_cost_no_idempotent_call(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut kills = Vec::new();
    for worker in &crew.workers {
        let id = worker.worker_id().await;
        kills.push((id, worker.kill().await));
        for broker in &crew.brokers {
            broker.has_workers(2).await;
        }
        crew.clients_are_served(2).await;
        worker.start().await;
        crew.is_whole().await;
    }
    restart(&crew, &crew.workers[0]).await;
    let account = crew.account(stack, &Terms::default()).await;
    assert!(account.struck() > 0, "no call was in flight to a worker that was killed: {account}");
    for (id, at) in kills {
        for broker in BROKERS {
            let noticed = account.missed(broker, id, at).expect("it was noticed");
            assert!(noticed < AT_ONCE, "{broker} has noticed after {noticed:?}");
        }
    }
}

pub(crate) async fn killed_brokers_cost_no_idempotent_call(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut kills = Vec::new();
    for broker in &crew.brokers {
        kills.push(broker.kill().await);
        crew.clients_are_served(1).await;
        broker.start().await;
        crew.is_whole().await;
    }
    restart(&crew, &crew.brokers[0]).await;
    let account = crew.account(stack, &Terms::default()).await;
    assert!(account.struck() > 0, "no call was in flight to a broker that was killed: {account}");
    for at in kills {
        for client in CLIENTS {
            let noticed = account.had(client, 1, at).expect("it was noticed");
            assert!(noticed < AT_ONCE, "{client} has noticed after {noticed:?}");
        }
    }
}

pub(crate) async fn killed_client_costs_the_other_nothing(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let [client, other] = &crew.clients;
    let from = client.kill().await;
    other.has_replies().await;
    client.start().await;
    crew.is_whole().await;
    restart(&crew, client).await;
    let until = micros_now();
    let account = crew.account(stack, &Terms::default().undisturbed().killed("client-1")).await;
    assert_nobody_was_missed(&account, &BROKERS, from..until);
}

/// Asks somebody to leave, and starts it again.
async fn restart(crew: &Crew, container: &Container) {
    container.stop().await;
    container.start().await;
    crew.is_whole().await;
}

/// Within what time a process that was killed is missed: its connection ends with it. The rest is Docker's.
const AT_ONCE: Duration = Duration::from_secs(2);
