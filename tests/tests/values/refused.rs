//! Values that a codec cannot carry: an error when they are written, or at the latest when they are read, and nothing
//! else is affected.

use super::*;

#[test]
fn skipped_field_is_refused_by_its_writer() {
    with_each_codec(&BARE, async |_client, codec, values| {
        let job = Job { priority: 0, path: vec![1, 9] };
        let reason = invalid_arguments(values.job(job).await.expect_err("is refused"));
        assert!(reason.contains("the argument `job`: the field `priority` of `Job` is left out"), "{codec}: {reason}");
        assert!(reason.contains("use MessagePack or JSON"), "{codec}: {reason}");
        for reason in [
            invalid_reply(values.skipped_job().await.expect_err("is refused")),
            invalid_reply(values.refuse_job().await.expect_err("is refused")),
        ] {
            assert!(reason.contains("the field `priority` of `Job` is left out"), "{codec}: {reason}");
        }
        let whole = Job { priority: 2, path: vec![9] };
        assert_eq!(values.job(whole.clone()).await.expect("is whole"), whole, "{codec}");
    });
}

#[test]
fn variant_after_a_skipped_one_is_refused_by_its_writer() {
    with_each_codec(&BARE, async |_client, codec, values| {
        assert_eq!(values.command(Command::Start).await.expect("a reply"), Command::Start, "{codec}");
        let reason = invalid_arguments(values.command(Command::Stop).await.expect_err("is refused"));
        assert!(reason.contains("the variant `Stop` of `Command` would arrive as another one"), "{codec}: {reason}");
        assert!(reason.contains("use MessagePack or JSON"), "{codec}: {reason}");
        assert!(values.command(Command::Erase).await.is_err(), "{codec}");
        let reason = invalid_reply(values.stop().await.expect_err("is refused"));
        assert!(reason.contains("the variant `Stop` of `Command`"), "{codec}: {reason}");
    });
}

#[test]
fn types_that_need_names_are_refused_when_first_written() {
    with_each_codec(&BARE, async |_client, codec, values| {
        for reason in [
            invalid_arguments(values.key(Key::Number(7)).await.expect_err("is refused")),
            invalid_reply(values.any_key().await.expect_err("is refused")),
        ] {
            assert!(reason.contains("Key` needs a self-describing codec"), "{codec}: {reason}");
            assert!(reason.contains("use MessagePack or JSON"), "{codec}: {reason}");
            assert!(!reason.contains("both sides"), "{codec}: {reason}");
        }
        let reason = invalid_arguments(values.value(serde_json::json!([1])).await.expect_err("is refused"));
        assert!(reason.contains("`serde_json::Value` needs a self-describing codec"), "{codec}: {reason}");
    });
}

#[test]
fn types_that_need_names_are_refused_by_their_reader_too() {
    with_each_codec(&BARE, async |client, codec, values| {
        // A dynamic call does not know the types that read its arguments.
        let call = client.call("Values.key").codec(codec).arguments(&(7_u64,));
        let reason = invalid_arguments(call.await.expect_err("is refused"));
        assert!(reason.contains("cannot read the argument `key`: "), "{codec}: {reason}");
        assert!(
            reason.contains("Key` needs a self-describing codec") && !reason.contains("both sides"),
            "{codec}: {reason}"
        );
        // Nor does a partial reply.
        let mut call = values.partial_value().start();
        let partial = call.partial().await.expect("a partial reply");
        let error = partial.decode::<Key>().expect_err("is refused").to_string();
        assert!(error.contains("use MessagePack or JSON") && !error.contains("both sides"), "{codec}: {error}");
    });
}

#[test]
fn some_of_none_is_refused_by_its_writer() {
    with_each_codec(&NAMED, async |_client, codec, values| {
        let reason = invalid_arguments(values.maybe(Some(None)).await.expect_err("is refused"));
        assert!(reason.contains("the argument `value`: `Some(None)` would arrive as `None`"), "{codec}: {reason}");
        let reason = invalid_reply(values.none().await.expect_err("is refused"));
        assert!(reason.contains("`Option<Option<u8>>`: `Some(None)` would arrive as `None`"), "{codec}: {reason}");
        assert!(!values.maybe(Some(Some(1))).await.expect("a reply"), "{codec}");
        assert!(!values.maybe(None).await.expect("a reply"), "{codec}");
    });
}

#[test]
fn endless_reply_costs_its_call_and_no_worker() {
    with_each_codec(&Codec::ALL, async |client, codec, values| {
        values.wait_for_worker(scene::PATIENCE).await.expect("a worker");
        let workers = client.workers();
        for nodes in [129, 5_000, 100_000] {
            // Idempotent: if it killed this worker, it would be tried on the next one.
            let reason = invalid_reply(values.long_chain(nodes).await.expect_err("is refused"));
            assert!(reason.ends_with("values are nested more than 128 deep"), "{codec}: {reason}");
            let reason = invalid_arguments(values.chain(chain(nodes)).await.expect_err("is refused"));
            assert!(reason.ends_with("values are nested more than 128 deep"), "{codec}: {reason}");
        }
        assert_eq!(client.workers(), workers, "{codec}");
    });
}

#[test]
fn list_of_2_to_the_40th_units_costs_its_sender_an_error() {
    with_each_codec(&BARE, async |client, codec, values| {
        let length = match codec {
            Codec::Bincode => [&[253][..], &(1_u64 << 40).to_le_bytes()].concat(),
            _ => vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x20],
        };
        // A tuple of bytes is written as the bytes themselves.
        let call = client.call("Values.nothing").codec(codec);
        let (reply, time) = scene::timed(send_bytes(call, &length)).await;
        let reason = invalid_arguments(reply.expect_err("is refused"));
        assert!(
            reason.contains("the argument `units`") && reason.contains("take no bytes at all"),
            "{codec}: {reason}"
        );
        assert!(time < scene::PATIENCE, "{codec}: {time:?}");
        assert_eq!(values.nothing(vec![(); 100_000]).await.expect("a reply"), 100_000, "{codec}");
    });
}

/// Sends arguments that are these bytes and nothing else.
async fn send_bytes(call: xero::Call<xero::Value, xero::Value>, bytes: &[u8]) -> Result<(), CallError<xero::Value>> {
    struct Raw<'a>(&'a [u8]);
    impl Serialize for Raw<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = serializer.serialize_tuple(self.0.len())?;
            self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
            tuple.end()
        }
    }
    call.arguments(&Raw(bytes)).await.map(drop)
}

#[test]
fn left_out_fields_of_tuples_are_refused_by_their_writer() {
    with_each_codec(&Codec::ALL, async |_client, codec, values| {
        let whole = Sparse(Some(1), Some(2));
        assert_eq!(values.sparse(whole.clone()).await.expect("is whole"), whole, "{codec}");
        let reason = invalid_arguments(values.sparse(Sparse(None, Some(5))).await.expect_err("is refused"));
        assert!(reason.contains("`Sparse`") && !reason.contains("use MessagePack"), "{codec}: {reason}");
    });
}

#[test]
fn second_reader_of_a_known_type_is_refused_by_its_writer() {
    with_each_codec(&Codec::ALL, async |_client, codec, values| {
        let sound = Sizes { width: Some(1), height: None };
        assert_eq!(values.sizes(sound).await.expect("is sound"), sound, "{codec}");
        let unsound = Sizes { width: Some(1), height: Some(6) };
        match codec.is_self_describing() {
            true => assert_eq!(values.sizes(unsound).await.expect("is carried"), unsound, "{codec}"),
            false => {
                let reason = invalid_arguments(values.sizes(unsound).await.expect_err("is refused"));
                assert!(reason.contains("use MessagePack or JSON"), "{codec}: {reason}");
            }
        }
    });
}

#[test]
fn arguments_by_name_need_a_codec_with_names() {
    with_each_codec(&Codec::ALL, async |client, codec, _values| {
        let call = || client.call("Values.sum").codec(codec);
        let sum = call().arguments(&(1_u8, 2_u8)).await.expect("a tuple is carried");
        assert_eq!(sum.decode::<u8>().expect("is a number"), 3, "{codec}");
        let by_name = BTreeMap::from([("left", 1_u8), ("right", 2)]);
        for called in [call().arguments(&by_name), call().arguments(&vec![1_u8, 2])] {
            match codec.is_self_describing() {
                true => {
                    assert_eq!(called.await.expect("is carried").decode::<u8>().expect("is a number"), 3, "{codec}")
                }
                false => {
                    let reason = invalid_arguments(called.await.expect_err("is refused"));
                    assert!(reason.contains("tuple") && reason.contains("MessagePack or JSON"), "{codec}: {reason}");
                }
            }
        }
    });
}
