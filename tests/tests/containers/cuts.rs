//! Hosts that are cut off, in both directions or in one: connections stay, but nothing arrives.

use std::{
    ops::{Range, RangeInclusive},
    time::Duration,
};

use xero_tests::{
    containers::{
        container::{Container, Way},
        stack::Stack,
    },
    load::{record::micros_now, terms::Fault},
};

use crate::crew::{Crew, NOTICED, assert_struck, terms_of};

pub(crate) async fn worker_that_is_cut_off_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let zone = stack.network("zone-1");
    let (cut, mend) =
        (async |it: &Container| it.disconnect(&zone).await, async |it: &Container| it.connect(&zone).await);
    let cut = [crew.worker_endures(0, Fault::CutOff, cut, mend).await];
    let account = crew.account(stack, terms_of(&cut)).await;
    assert_struck(&account);
    cut[0].assert_noticed(&account, &NOTICED);
}

pub(crate) async fn broker_that_is_cut_off_is_noticed_and_comes_back(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let networks = ["front", "zone-1", "zone-2", "zone-3"].map(|name| stack.network(name));
    let cut = async |broker: &Container| {
        let from = micros_now();
        for network in &networks {
            broker.disconnect(network).await;
        }
        from..micros_now()
    };
    let mend = async |broker: &Container| {
        broker.has_workers(0).await;
        let from = micros_now();
        for network in &networks {
            broker.connect(network).await;
        }
        from..micros_now()
    };
    let cut = [crew.broker_endures(0, Fault::CutOff, cut, mend).await];
    let account = crew.account(stack, terms_of(&cut)).await;
    assert_struck(&account);
    cut[0].assert_noticed(&account, &NOTICED);
}

pub(crate) async fn client_that_is_cut_off_finds_its_brokers_again(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let front = stack.network("front");
    let (cut, mend) =
        (async |it: &Container| it.disconnect(&front).await, async |it: &Container| it.connect(&front).await);
    let cut = [crew.client_is_cut_off(cut, mend).await];
    let account = crew.account(stack, terms_of(&cut)).await;
    cut[0].assert_noticed(&account, &NOTICED);
}

pub(crate) async fn worker_cut_off_one_way_is_noticed(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut cuts = Vec::new();
    for way in [Way::In, Way::Out] {
        cuts.push(crew.worker_endures(0, Fault::CutOff, async |it: &Container| it.lose(100, way).await, heal).await);
    }
    let account = crew.account(stack, terms_of(&cuts)).await;
    assert_struck(&account);
    cuts.iter().for_each(|cut| cut.assert_noticed(&account, &ONE_SIDED));
}

pub(crate) async fn broker_cut_off_one_way_is_noticed(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut cuts = Vec::new();
    for way in [Way::In, Way::Out] {
        cuts.push(crew.broker_endures(0, Fault::CutOff, async |it: &Container| it.lose(100, way).await, heal).await);
    }
    let account = crew.account(stack, terms_of(&cuts)).await;
    assert_struck(&account);
    cuts.iter().for_each(|cut| cut.assert_noticed(&account, &ONE_SIDED));
}

pub(crate) async fn client_cut_off_one_way_ends_its_calls(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let mut cuts = Vec::new();
    for way in [Way::In, Way::Out] {
        cuts.push(crew.client_is_cut_off(async |it: &Container| it.lose(100, way).await, heal).await);
    }
    let account = crew.account(stack, terms_of(&cuts)).await;
    cuts.iter().for_each(|cut| cut.assert_noticed(&account, &ONE_SIDED));
}

/// Lets packets pass again; some must have been dropped.
async fn heal(container: &Container) -> Range<u64> {
    let from = micros_now();
    let dropped = container.lose_no_more().await;
    assert!(dropped > 0, "no packet of {} was dropped", container.name);
    from..micros_now()
}

/// The time in which a one-way cut is noticed: a peer that is still heard may report the silence at once.
const ONE_SIDED: RangeInclusive<Duration> = Duration::ZERO..=*NOTICED.end();
