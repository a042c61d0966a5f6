//! Procedures with a context, tested as the functions that they are.

use std::time::Duration;

use futures_util::FutureExt;
use xero::{Codec, Context, PartialError};
use xero_tests::{
    scene::run,
    service::{Probe, Prober, Seen},
};

#[test]
fn made_up_context_says_what_it_was_told() {
    run(async {
        let (cx, _call) = Context::builder().build();
        let seen = Prober::default().context(&cx).await;
        let Seen { method, codec, attempt, remaining, metadata } = seen;
        assert_eq!((&method[..], attempt, metadata.len()), ("Test.test", 1, 0));
        assert_eq!(codec, Codec::default().to_string());
        assert!(remaining > Duration::from_secs(4) && remaining <= Duration::from_secs(5), "{remaining:?}");

        let told = Context::builder().service("Library").method("find").attempt(3).codec(Codec::Json);
        let (cx, _call) = told.timeout(Duration::ZERO).metadata("tenant", "north").build();
        let seen = Prober::default().context(&cx).await;
        assert_eq!((&seen.method[..], &seen.codec[..], seen.attempt), ("Library.find", "JSON", 3));
        assert_eq!((seen.remaining, &seen.metadata["tenant"][..]), (Duration::ZERO, &b"north"[..]));
    });
}

#[test]
fn partial_replies_of_a_made_up_call_are_kept_and_never_wait() {
    run(async {
        for codec in Codec::available() {
            let (cx, mut call) = Context::builder().codec(codec).build();
            assert_eq!(Prober::default().progress(&cx, 1_000).await, 1_000);
            assert_eq!(call.partials::<u32>().unwrap(), (0..1_000).collect::<Vec<_>>(), "{codec}");
            assert!(call.partials::<u32>().unwrap().is_empty());
        }
        let (cx, mut call) = Context::builder().payload_bytes_max(10).build();
        let error = cx.partial(&"more than ten bytes").await.unwrap_err();
        assert!(matches!(error, PartialError::TooLarge(_)), "{error}");
        cx.partial(&"few").await.unwrap();
        cx.partial(&7_u64).await.unwrap();
        assert!(call.partial::<u64>().is_some_and(|value| value.is_err()), "it is no number");
        assert_eq!(call.partial::<u64>().map(Result::unwrap), Some(7));
        assert!(call.partial::<u64>().is_none());
    });
}

#[test]
fn made_up_call_can_be_cancelled() {
    run(async {
        let (cx, call) = Context::builder().build();
        let waits = tokio::spawn({
            let cx = cx.clone();
            async move { cx.cancelled().await }
        });
        assert!(!cx.is_cancelled() && cx.cancelled().now_or_never().is_none());
        call.cancel();
        waits.await.unwrap();
        assert!(cx.is_cancelled());
        assert!(matches!(cx.partial(&1).await, Err(PartialError::Unwanted)));

        let (cx, call) = Context::builder().timeout(Duration::MAX).build();
        drop(call);
        assert!(cx.is_cancelled(), "a caller's drop cancels");
        assert!(matches!(cx.partial(&1).await, Err(PartialError::Unwanted)));
    });
}
