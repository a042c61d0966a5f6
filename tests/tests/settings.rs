//! What calls begin with: settings of a client, of a typed client, of a call.

use std::time::{Duration, Instant};

use xero::{CallError, Client, Codec, RpcError};
use xero_tests::{
    scene::{PATIENCE, client, has_workers, probe, run, worker},
    service::{ProbeClient, Seen},
};

async fn seen(probe: &ProbeClient) -> Seen {
    probe.context().await.expect("a reply")
}

/// The time limit of a call that takes too long.
async fn limit(probe: &ProbeClient) -> Duration {
    match probe.hurried(60_000).await {
        Err(CallError::Rpc(RpcError::DeadlineExceeded { timeout, .. })) => timeout,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nearest_time_limit_counts() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let millis = Duration::from_millis;
        assert_eq!(limit(&probe(&client)).await, millis(150), "the method's");
        let client = client.with_timeout(millis(90));
        assert_eq!(limit(&probe(&client)).await, millis(90), "the client's, which is no default of a builder");
        let probe = probe(&client);
        let hasty = probe.clone().with_timeout(millis(40));
        assert_eq!(limit(&hasty).await, millis(40), "the typed client's");
        assert_eq!(limit(&probe).await, millis(90), "a clone has its own");
        assert_eq!(hasty.hurried(60).timeout(PATIENCE).await, Ok(60), "the call's");
        let call = client.call("Probe.hurried").arguments(&(60_000,));
        let error = call.await.unwrap_err();
        assert!(matches!(&error, CallError::Rpc(RpcError::DeadlineExceeded { timeout, .. }) if *timeout == millis(90)));
    });
}

#[test]
fn metadata_of_all_calls_is_sent_unless_a_call_has_its_own() {
    run(async {
        let client = client().await.with_timeout(PATIENCE);
        let _worker = worker(&client).await;
        let client = client.with_metadata("tenant", "north").with_metadata("origin", "test");
        let probe = probe(&client).with_metadata("tenant", "south");
        let values = |seen: Seen| {
            seen.metadata.into_iter().map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect::<Vec<_>>()
        };
        let expected =
            |tenant: &str| [("origin", "test"), ("tenant", tenant)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(values(seen(&probe).await), expected("south"));
        assert_eq!(values(probe.context().metadata("tenant", "west").await.unwrap()), expected("west"));
        assert_eq!(values(seen(&probe).await), expected("south"), "the call's own is gone with it");
        assert_eq!(values(seen(&ProbeClient::new(&client)).await), expected("north"));
        let dynamic = client.call("Probe.context").await.unwrap();
        assert_eq!(values(dynamic.decode().unwrap()), expected("north"));
    });
}

#[test]
fn codec_of_a_client_is_that_of_typed_calls_and_of_calls_without_types() {
    run(async {
        let client = client().await.with_timeout(PATIENCE);
        let _worker = worker(&client).await;
        assert_eq!(seen(&probe(&client)).await.codec, Codec::default().to_string());
        let client = client.with_codec(Codec::Json);
        assert_eq!(seen(&probe(&client)).await.codec, "JSON");
        assert_eq!(seen(&probe(&client).with_codec(Codec::MessagePack)).await.codec, "MessagePack");
        let call = |client: &Client| client.call("Probe.context");
        assert_eq!(call(&client).await.unwrap().decode::<Seen>().unwrap().codec, "JSON");
        let message_pack = call(&client).codec(Codec::MessagePack).await.unwrap();
        assert_eq!(message_pack.decode::<Seen>().unwrap().codec, "MessagePack");
    });
}

#[test]
fn calls_of_a_hasty_client_wait_for_no_worker() {
    run(async {
        let client = client().await;
        let begun = Instant::now();
        for probe in [probe(&client.clone().with_fail_fast()), probe(&client).with_fail_fast()] {
            let error = probe.ping().timeout(PATIENCE).await.unwrap_err();
            assert!(matches!(error, CallError::Rpc(RpcError::NoWorker { .. })), "{error}");
        }
        assert!(begun.elapsed() < PATIENCE / 10, "{:?}", begun.elapsed());
        let waiting = probe(&client).ping().timeout(PATIENCE).start();
        let _worker = worker(&client).await;
        has_workers(&client, 1).await;
        assert_eq!(waiting.await.unwrap(), "pong");
    });
}
