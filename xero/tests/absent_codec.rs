//! A codec whose feature is off: each way to choose it fails before anything is sent, and names the feature.
//!
//! Compiled where postcard is absent: `cargo test -p xero --no-default-features --features json --test absent_codec`.

#![cfg(all(feature = "json", not(feature = "postcard")))]

use xero::{CallError, Client, Codec, ConnectError, RpcError};

#[xero::service]
trait Library {
    async fn shelf(&self, title: &str) -> u32;
}

fn assert_names_the_feature(error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(text.contains("postcard") && text.contains("feature"), "{text}");
}

fn assert_refused<E: std::fmt::Display + std::fmt::Debug>(result: Result<u32, CallError<E>>) {
    match result {
        Err(error @ CallError::Rpc(RpcError::InvalidArguments { .. })) => {
            assert!(!error.maybe_executed());
            assert_names_the_feature(&error.to_string());
        }
        other => panic!("InvalidArguments was expected: {other:?}"),
    }
}

#[tokio::test]
async fn builder_refuses_it() {
    let error = Client::builder().codec(Codec::Postcard).bind("inproc://absent-bind").await.expect_err("is refused");
    assert_names_the_feature(&error);
    let error: ConnectError =
        Client::builder().codec(Codec::Postcard).connect("inproc://absent").expect_err("is refused");
    assert_names_the_feature(&error);
}

#[tokio::test]
async fn calls_refuse_it() {
    let client = Client::bind("inproc://absent-calls").await.expect("binds");
    assert_refused(LibraryClient::new(&client).with_codec(Codec::Postcard).shelf("Moby-Dick").await);
    assert_refused(client.call("Library.shelf").codec(Codec::Postcard).arguments(&("Moby-Dick",)).await.map(|_| 0));
}
