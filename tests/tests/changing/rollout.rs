//! Old and new workers side by side, as during a roll-out.

use xero::{Broker, Client, Codec, Worker};
use xero_tests::scene::{self, run};

use super::{
    Expected::*,
    outcome,
    page::{NEW_FIRST, OLD_FIRST, Row},
};

mod old {
    #[xero::service]
    pub(super) trait Service {
        async fn run(&self, a: u8) -> u64;
    }

    pub(super) struct Here;

    #[xero::worker]
    impl Service for Here {
        async fn run(&self, a: u8) -> u64 {
            u64::from(a)
        }
    }
}

mod new {
    #[xero::service(version = 2)]
    pub(super) trait Service {
        async fn run(&self, a: u8) -> u64;
        async fn more(&self) -> u64;
    }

    pub(super) struct Here;

    #[xero::worker]
    impl Service for Here {
        async fn run(&self, a: u8) -> u64 {
            1000 + u64::from(a)
        }

        async fn more(&self) -> u64 {
            1
        }
    }
}

/// Enough calls for each worker to get some.
const CALLS: u8 = 20;

/// Calls of both clients; in codecs with fingerprints, a worker of the same version answers each.
async fn each_finds_its_worker(row: &mut Row, client: &Client) {
    for codec in Codec::ALL {
        let old_client = old::ServiceClient::new(client).with_codec(codec);
        let new_client = new::ServiceClient::new(client).with_codec(codec);
        let (mut old_answers, mut new_answers) = (0, 0);
        for number in 0..CALLS {
            for (direction, result) in
                [(OLD_FIRST, old_client.run(number).await), (NEW_FIRST, new_client.run(number).await)]
            {
                let is_new = result.as_ref().is_ok_and(|value| *value >= 1000);
                *(if is_new { &mut new_answers } else { &mut old_answers }) += 1;
                if !codec.is_self_describing() {
                    assert_eq!(is_new, direction == NEW_FIRST, "{codec}");
                }
                assert!(result.is_ok(), "{codec}: {result:?}");
                row.see(direction, codec, "works");
            }
        }
        assert!(old_answers > 0 && new_answers > 0, "{codec}: {old_answers}, {new_answers}");
    }
}

#[test]
fn callers_find_workers_of_their_signature() {
    run(async {
        let mut row = Row::of("rollout::version_raised");
        let client = scene::client().await;
        let workers = workers(client.endpoint());
        for worker in &workers {
            scene::joined(&client, worker).await;
        }
        each_finds_its_worker(&mut row, &client).await;
        row.check();
    });
}

#[test]
fn callers_find_workers_of_their_signature_through_a_broker() {
    run(async {
        let mut row = Row::of("rollout::version_raised_behind_a_broker");
        let broker = scene::broker().await;
        let client = scene::client_of(&broker).await;
        let workers = workers(worker_endpoint(&broker));
        for worker in &workers {
            scene::eventually("the broker has it", async || scene::broker_has(&broker, worker)).await;
        }
        old::ServiceClient::new(&client).wait_for_worker(scene::PATIENCE).await.expect("offered");
        each_finds_its_worker(&mut row, &client).await;
        row.check();
    });
}

#[test]
fn calls_of_a_new_method_go_to_a_worker_that_has_it() {
    run(async {
        let mut row = Row::of("rollout::method_added");
        let client = scene::client().await;
        let workers = workers(client.endpoint());
        for worker in &workers {
            scene::joined(&client, worker).await;
        }
        for codec in Codec::ALL {
            for _ in 0..CALLS {
                let result = new::ServiceClient::new(&client).with_codec(codec).more().await;
                row.see(NEW_FIRST, codec, outcome("new client", Works("1"), result));
                let result = old::ServiceClient::new(&client).with_codec(codec).run(1).await;
                assert!(result.is_ok(), "{result:?}");
                row.see(OLD_FIRST, codec, "works");
            }
        }
        row.check();
    });
}

fn workers(endpoint: impl AsRef<str>) -> [Worker; 2] {
    let connect = || Worker::connect(endpoint.as_ref());
    let start = |worker: xero::WorkerBuilder| worker.start().expect("starts");
    [start(connect().serve(old::Here)), start(connect().serve(new::Here))]
}

fn worker_endpoint(broker: &Broker) -> String {
    broker.backend().to_owned()
}
