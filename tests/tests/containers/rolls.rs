//! Workers and brokers that are restarted in turn: no call fails.

use xero_tests::{
    containers::stack::Stack,
    load::{record::micros_now, terms::Terms},
};

use crate::crew::{Crew, left};

pub(crate) async fn rolling_restart_at_1000_calls_a_second_fails_no_call(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut terms = Terms::default();
    for container in crew.brokers.iter().chain(&crew.workers) {
        terms = terms.disturbed(crew.restart(container).await);
    }
    let account = crew.account(stack, terms).await;
    assert!(account.rate() >= 1_000.0, "{account}");
}

pub(crate) async fn workers_come_and_go_under_load_and_no_call_fails(stack: &mut Stack) {
    let first = ["broker-1", "broker-2", "worker-1", "client-1", "client-2"];
    stack.up(&first).await;
    let alone = Crew::of(stack, &["worker-1"]).await;
    alone.is_whole().await;
    stack.scale("worker-1", 10).await;
    let many = Crew::of(stack, &["worker-1"]).await;
    assert_eq!(many.workers.len(), 10);
    many.is_whole().await;
    for worker in many.workers.iter().skip(1) {
        stack.keep_log(worker).await;
    }
    let from = micros_now();
    stack.scale("worker-1", 1).await;
    let alone = Crew::of(stack, &["worker-1"]).await;
    alone.is_whole().await;
    let terms = Terms::default().disturbed(left("worker-1", from..micros_now()));
    let account = alone.account(stack, terms).await;
    assert!(account.rate() > 270.0, "of 300 calls a second: {account}");
    assert!(account.workers_that_ran() == 10, "not all workers were given calls: {account}");
}
