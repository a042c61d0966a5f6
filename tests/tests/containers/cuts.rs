//! Hosts that are cut off, both ways or one way only: connections stay, and nothing comes.

use std::{ops::RangeInclusive, time::Duration};

use xero_tests::{
    containers::{
        container::{Container, Way},
        stack::Stack,
    },
    load::{account::Terms, record::micros_now},
};

use crate::crew::{BROKERS, Crew, NOTICED, assert_nobody_was_missed, assert_struck};

pub(crate) async fn worker_that_is_cut_off_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let zone = stack.network("zone-1");
    let (cut, mend) =
        (async |it: &Container| it.disconnect(&zone).await, async |it: &Container| it.connect(&zone).await);
    let cut = crew.worker_endures(0, cut, mend).await;
    let account = crew.account(stack, &Terms::default()).await;
    assert_struck(&account);
    cut.assert_noticed(&account, &NOTICED);
}

pub(crate) async fn broker_that_is_cut_off_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let networks = ["front", "zone-1", "zone-2", "zone-3"].map(|name| stack.network(name));
    let cut = async |broker: &Container| {
        let mut at = u64::MAX;
        for network in &networks {
            at = at.min(broker.disconnect(network).await);
        }
        at
    };
    let mend = async |broker: &Container| {
        broker.has_workers(0).await;
        let mut at = 0;
        for network in &networks {
            at = at.max(broker.connect(network).await);
        }
        at
    };
    let cut = crew.broker_endures(0, cut, mend).await;
    let account = crew.account(stack, &Terms::default()).await;
    assert_struck(&account);
    cut.assert_noticed(&account, &NOTICED);
}

pub(crate) async fn client_that_is_cut_off_finds_its_brokers_again(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let front = stack.network("front");
    let (cut, mend) =
        (async |it: &Container| it.disconnect(&front).await, async |it: &Container| it.connect(&front).await);
    let cut = crew.client_endures(cut, mend).await;
    let lonely = cut.at..micros_now();
    let account = crew.account(stack, &Terms::default().unreachable("client-1", lonely.clone())).await;
    assert_nobody_was_missed(&account, &BROKERS, lonely);
    cut.assert_noticed(&account, &NOTICED);
}

pub(crate) async fn worker_that_only_hears_or_is_only_heard_is_noticed(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut cuts = Vec::new();
    for way in [Way::In, Way::Out] {
        cuts.push(crew.worker_endures(0, async |it: &Container| it.lose(100, way).await, heal).await);
    }
    let account = crew.account(stack, &Terms::default()).await;
    assert_struck(&account);
    cuts.iter().for_each(|cut| cut.assert_noticed(&account, &ONE_SIDED));
}

pub(crate) async fn broker_that_only_hears_or_is_only_heard_is_noticed(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut cuts = Vec::new();
    for way in [Way::In, Way::Out] {
        cuts.push(crew.broker_endures(0, async |it: &Container| it.lose(100, way).await, heal).await);
    }
    let account = crew.account(stack, &Terms::default()).await;
    assert_struck(&account);
    cuts.iter().for_each(|cut| cut.assert_noticed(&account, &ONE_SIDED));
}

pub(crate) async fn client_that_only_hears_or_is_only_heard_ends_its_calls(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut cuts = Vec::new();
    for way in [Way::In, Way::Out] {
        cuts.push(crew.client_endures(async |it: &Container| it.lose(100, way).await, heal).await);
    }
    let lonely = cuts[0].at..micros_now();
    let account = crew.account(stack, &Terms::default().unreachable("client-1", lonely.clone())).await;
    assert_nobody_was_missed(&account, &BROKERS, lonely);
    cuts.iter().for_each(|cut| cut.assert_noticed(&account, &ONE_SIDED));
}

/// Lets packets pass again; some must have been dropped.
async fn heal(container: &Container) -> u64 {
    let dropped = container.lose_no_more().await;
    assert!(dropped > 0, "no packet of {} was dropped", container.name);
    micros_now()
}

/// Within what time a cut one way is noticed: whoever is still heard may say at once that it hears nobody.
const ONE_SIDED: RangeInclusive<Duration> = Duration::ZERO..=*NOTICED.end();
