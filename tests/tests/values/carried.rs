//! Values that every codec carries.

use super::*;

#[test]
fn long_lists_are_carried_in_every_place() {
    with_each_codec(&Codec::ALL, async |_client, codec, values| {
        for length in [1_026, 20_000] {
            let pixels = vec![Pixel { r: 1, g: 2, b: 3 }; length];
            let mut call = values.pixels(pixels.clone()).start();
            let partial = call.partial().await.expect("a partial reply");
            assert_eq!(partial.decode::<Vec<Pixel>>().expect("is read"), pixels, "{codec}");
            assert_eq!(call.await.expect("a reply"), pixels, "{codec}");
            let error = values.refuse_pixels(pixels.clone()).await.expect_err("refuses");
            assert_eq!(error, CallError::Application(pixels), "{codec}");
        }
        let marked = Marked { mark: (), bit: Bit::One };
        let lists = Lists {
            arrays: vec![[1, 2, 3]; 10_000],
            commands: [Bit::Zero, Bit::One].repeat(10_000),
            options: [None, Some(Pixel { r: 1, g: 2, b: 3 })].repeat(5_000),
            units: vec![marked; 10_000],
            texts: vec!["x".to_owned(); 10_000],
            empty: vec![Vec::new(); 10_000],
            maps: (0..10_000).map(|n| (n, ())).collect(),
        };
        assert_eq!(values.lists(lists.clone()).await.expect("a reply"), lists, "{codec}");
    });
}

#[test]
fn skipped_field_arrives_in_codecs_with_names() {
    with_each_codec(&NAMED, async |_client, codec, values| {
        let job = Job { priority: 0, path: vec![1, 9] };
        assert_eq!(values.job(job.clone()).await.expect("a reply"), job, "{codec}");
        for command in [Command::Start, Command::Stop, Command::Erase] {
            assert_eq!(values.command(command.clone()).await.expect("a reply"), command, "{codec}");
        }
        assert_eq!(values.key(Key::Number(7)).await.expect("a reply"), 1, "{codec}");
        let value = serde_json::json!({"list": [1, -2, 2.5, "x", null, {"a": true}]});
        assert_eq!(values.value(value.clone()).await.expect("a reply"), value, "{codec}");
    });
}

#[test]
fn some_of_none_arrives_in_codecs_that_distinguish_it() {
    with_each_codec(&BARE, async |_client, codec, values| {
        assert!(values.maybe(Some(None)).await.expect("a reply"), "{codec}");
        assert_eq!(values.none().await.expect("a reply"), Some(None), "{codec}");
    });
}

#[test]
fn deepest_chain_is_carried_in_both_directions() {
    with_each_codec(&Codec::ALL, async |_client, codec, values| {
        assert_eq!(values.chain(chain(128)).await.expect("a reply"), 1, "{codec}");
        assert_eq!(values.long_chain(128).await.expect("a reply"), chain(128), "{codec}");
    });
}
