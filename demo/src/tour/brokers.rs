//! The tour's step with two brokers: one is lost, and no call is.

use std::time::Duration;

use tokio::time::Instant;
use xero::{Broker, Client, Worker};

use super::{
    Outcome,
    story::{Story, time},
};
use crate::{DemoClient, Here};

/// A client and a worker know two brokers. One closes in the middle of the calls.
pub(super) async fn lose_one(story: Story) -> Outcome {
    let first = Broker::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0").await?;
    let second = Broker::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0").await?;
    story.say(format_args!("two brokers: {} and {} for clients", first.frontend(), second.frontend()));
    let worker = Worker::connect([first.backend(), second.backend()]).serve(Here).start()?;
    let client = Client::connect([first.frontend(), second.frontend()])?;
    let both = async {
        while client.workers().iter().filter(|broker| !broker.services.is_empty()).count() < 2 {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(CONNECT_MAX, both).await.map_err(|_| "the client does not reach both brokers")?;
    story.say("a worker and a client connect to both");
    let (demo, began) = (DemoClient::new(&client), Instant::now());
    let calls = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        for _ in 0..CALLS {
            let began = Instant::now();
            demo.ping().await?;
            longest = longest.max(began.elapsed());
        }
        Ok::<_, xero::CallError<xero::Never>>(longest)
    });
    // Each broker gets half of the calls.
    while first.counters().await.requests < CALLS / 8 && !calls.is_finished() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    first.close().await;
    story.say("the first broker closes in the middle of the calls");
    let longest = calls.await??;
    let took = time(began.elapsed());
    story.say(format_args!("all {CALLS} pings were answered in {took}, the slowest in {}", time(longest)));
    worker.drain().await;
    client.close().await;
    second.close().await;
    Ok(())
}

const CALLS: u64 = 400;

/// Often enough to be in the middle of the calls.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Peers connect within milliseconds; this is for a machine that is busy with something else.
const CONNECT_MAX: Duration = Duration::from_secs(10);
