//! Links that are slow, lossy or narrow for half a minute: no peer is declared dead, and no call fails.

use std::time::Duration;

use tokio::time::sleep;
use xero_tests::{
    containers::{container::Way, stack::Stack},
    load::{account::Account, terms::Terms},
};

use crate::crew::Crew;

pub(crate) async fn late_packets_expire_no_peer(stack: &mut Stack) {
    let account = through_a_link(stack).await;
    // Four times over the link, which takes 200 ms ± 100 ms each time; the fastest of thousands approaches the minimum.
    let fastest = account.ledger().latencies.min();
    assert!(fastest >= Duration::from_millis(400), "the link is not slow: {account}");
    assert!(account.rate() > 180.0, "of 200 calls a second: {account}");
}

pub(crate) async fn narrow_link_expires_no_peer(stack: &mut Stack) {
    let account = through_a_link(stack).await;
    // The largest texts take a second each time.
    let slowest = account.ledger().latencies.max();
    assert!(slowest >= Duration::from_secs(1), "the link is not narrow: {account}");
    assert!(account.rate() > 18.0, "of 20 calls a second: {account}");
}

pub(crate) async fn lost_packets_expire_no_peer(stack: &mut Stack) {
    let crew = Crew::start(stack).await;
    let lossy: Vec<_> = crew.workers.iter().chain(&crew.clients).cloned().collect();
    for container in &lossy {
        container.lose(5, Way::In).await;
        container.lose(5, Way::Out).await;
    }
    sleep(TIME).await;
    for container in &lossy {
        let dropped = container.lose_no_more().await;
        assert!(dropped > 20, "{dropped} packets of {} were dropped", container.name);
    }
    let account = crew.account(stack, Terms::default()).await;
    assert!(account.rate() > 270.0, "of 300 calls a second: {account}");
}

/// Half a minute of calls, with a link between any two peers.
async fn through_a_link(stack: &mut Stack) -> Account {
    stack.up(&["link"]).await;
    let crew = Crew::start(stack).await;
    sleep(TIME).await;
    crew.account(stack, Terms::default()).await
}

/// The time of the bad link.
const TIME: Duration = Duration::from_secs(30);

/// The brokers' addresses behind the link, for workers.
pub(crate) const BACKENDS: &str = "tcp://link:5561 tcp://link:5571";

/// Their addresses for clients.
pub(crate) const FRONTENDS: &str = "tcp://link:5560 tcp://link:5570";

/// Four intervals to an expiry instead of three: TCP repeats a packet that was lost four times in a row after 3.0 s,
/// when the default expiry ends.
pub(crate) const PATIENT_BROKER: &str = "crew broker --interval 1000";

/// The same for workers.
pub(crate) const PATIENT_WORKER: &str = "crew worker --interval 1000";

/// The same for clients.
pub(crate) const PATIENT_FRONTENDS: &str = "--interval 1000 tcp://broker-1:5560 tcp://broker-2:5560";
