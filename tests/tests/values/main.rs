//! Honest values over the wire, and values that a codec cannot carry: as arguments, as replies, as errors and as partial
//! replies, between a client and a worker over TCP.
//!
//! The shapes that were tried, beside those that are generated (`xero/src/codec/tests/shapes.rs`, and `fuzz/`):
//!
//! | shape | what happens | test |
//! |---|---|---|
//! | lists of structs, arrays, enums, options, units, one-byte texts, empty lists, of 1,026 to 100,000 elements | carried by every codec, in each place | `carried::long_lists_are_carried_in_every_place` |
//! | maps and sets of 20,000 entries, also with empty values | carried by every codec | `codec::tests::nesting::honest_lists_of_every_kind_are_carried` |
//! | a list of 2^40 elements of no size, in a few bytes | refused at once, in every place | `refused::list_of_2_to_the_40th_units_costs_its_sender_an_error` |
//! | `#[serde(skip_serializing_if)]`, field left out | bincode, postcard: refused by the writer, which names type and field; MessagePack, JSON: carried | `refused::skipped_field_is_refused_by_its_writer` |
//! | `#[serde(skip)]` on a variant in the middle | bincode, postcard: refused by the writer, which names type and variant; MessagePack, JSON: carried | `refused::variant_after_a_skipped_one_is_refused_by_its_writer` |
//! | `#[serde(skip_serializing)]`, `#[serde(skip_deserializing)]`, one without the other | bincode, postcard: refused by the writer, which names the type | `codec::tests::halves::struct_whose_halves_skip_different_fields_is_refused` |
//! | the same of a field with `default`, and without | MessagePack, JSON: the default arrives; refused by the writer | the same |
//! | a skipped variant or field, where only the writer is known (dynamic calls, partial replies) | bincode, postcard: another value arrives | `codec::tests::halves::variant_after_a_skipped_one_arrives_as_another_if_only_the_writer_is_known` |
//! | `rename` to two names, one for each side | bincode, postcard: carried; MessagePack, JSON: refused by the writer | `codec::tests::halves::field_with_two_names_is_carried_in_codecs_without_names` |
//! | two names exchanged between fields or variants | bincode, postcard: refused by the writer; MessagePack, JSON: the other one arrives | `codec::tests::guide::exchanged_names_are_refused_without_names_and_arrive_exchanged_with_them` |
//! | fields left out of tuple structs and tuple variants | refused by the writer in every codec | `codec::tests::numbers::fields_left_out_of_a_tuple_struct_are_refused_in_every_codec`, `refused::left_out_fields_of_tuples_are_refused_by_their_writer` |
//! | `from` with a compatible type, `deserialize_with`, readers of an outer type, in one place of several | bincode, postcard: refused by the writer where the halves differ; MessagePack, JSON: carried | `codec::tests::places`, `codec::tests::readers`, `refused::second_reader_of_a_known_type_is_refused_by_its_writer` |
//! | `skip_serializing` on one field, `skip_deserializing` on another | bincode, postcard: refused by the writer; MessagePack, JSON: the defaults arrive | `codec::tests::crossed::field_skipped_by_one_half_does_not_arrive_as_another_one_skipped_by_the_other` |
//! | values that their own `Deserialize` refuses (`try_from`) | refused by the writer, or else by the reader, in the type's words | `codec::tests::crossed::value_that_its_own_reader_refuses_is_blamed_on_the_value` |
//! | structs of 64 KiB and more in memory | refused: no stack overflows | `codec::tests::crossed::large_flat_values_are_carried_or_refused_and_never_overflow_the_stack` |
//! | numbers for variants, in one half | refused by the writer, unless the number is the variant's own | `codec::tests::numbers::number_does_not_arrive_as_another_variant` |
//! | values whose `Serialize` picks its kind by value | bincode, postcard: refused by the writer where the kinds differ; MessagePack, JSON: carried | `codec::tests::places::kind_of_a_number_that_depends_on_its_value` |
//! | halves with different names of structs | bincode, postcard: compared by place | `codec::tests::numbers::halves_with_different_names_are_compared_by_place` |
//! | arguments of a call without types, by name or in a list | bincode, postcard: refused by the writer; MessagePack, JSON: carried | `codec::tests::numbers::arguments_by_name_are_refused_in_codecs_without_names`, `refused::arguments_by_name_need_a_codec_with_names` |
//! | skipped variants at the end, `alias`, `rename`, `skip` on both sides, `default` | carried by every codec | `codec::tests::halves` |
//! | readers that change what they read (`from`, hand-written) | carried by every codec | `codec::tests::halves::readers_that_change_the_value_are_carried` |
//! | `untagged`, `tag`, `flatten`, `serde_json::Value` | bincode, postcard: refused when first written, with the type's name and the codec to choose; MessagePack, JSON: carried | `refused::types_that_need_names_are_refused_when_first_written` |
//! | the same, where only the reader sees it (dynamic calls, partial replies) | refused by the reader, with the same words | `refused::types_that_need_names_are_refused_by_their_reader_too` |
//! | `tag` with `content` | bincode, postcard: refused by the writer; MessagePack, JSON: carried | `codec::tests::halves::adjacently_tagged_variants_are_refused_in_codecs_without_names` |
//! | `Some(None)`, `Some(())`, `Some` of a unit struct | MessagePack, JSON: refused by the writer; bincode, postcard: carried | `refused::some_of_none_is_refused_by_its_writer` |
//! | maps whose keys are tuples, structs or lists | JSON: refused by the writer; the others: carried | `codec::tests::options::keys_that_json_lacks_are_refused` |
//! | NaN and infinity | JSON: refused by the writer; the others: carried | `codec::tests::options::numbers_that_json_lacks_are_refused` |
//! | a value nested 100,000 deep | refused by the writer; the worker goes on | `refused::endless_reply_costs_its_call_and_no_worker` |
//! | a value nested as deep as allowed, and one level deeper | carried, and refused, alike by every codec in both directions | `codec::tests::nesting::depth_limit_is_the_same_in_every_codec_and_on_each_side` |
//! | halves that disagree behind long lists, options and recursion, in tuples, beside hand-written halves, in the second value of a type, under another name | bincode, postcard: refused by the writer | `codec::tests::hidden` |
//! | bytes after a value, and one argument too many, however deep; large structs on every level | an error | `codec::tests::nesting` |
//! | addresses within `flatten` | bincode, postcard, MessagePack: refused by the writer; JSON: carried | `codec::tests::hidden::in_codecs_with_names_too` |
//! | lists whose length is announced wrongly | refused by the writer | `codec::tests::halves::wrong_announced_lengths_are_refused` |
//! | floats, 128-bit integers, characters, texts of every script, times, addresses, paths, UUIDs | carried by every codec, bit by bit | `codec::tests::halves::standard_types_are_carried`, `codec::tests::shapes` |
//! | bytes: `Vec<u8>`, `&[u8]`, `[u8; N]`, `Bytes`, and options, results, lists and tuples of them | carried as bytes | `bytes.rs` |
//! | arguments by position and by name, too few, too many, unknown | an error that names the argument | `codec::tests::arguments`, `macros.rs` |

mod carried;
mod refused;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xero::{CallError, Client, Codec, Context, RpcError, Worker};
use xero_tests::scene;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pixel {
    r: u8,
    g: u8,
    b: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Job {
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: u8,
    path: Vec<u8>,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Command {
    Start,
    #[serde(skip)]
    #[allow(dead_code)]
    Pause,
    Stop,
    Erase,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Number(u64),
    Name(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    next: Option<Box<Self>>,
}

/// Taken apart piece by piece: dropping a long chain recursively overflows the stack.
impl Drop for Node {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}

fn chain(nodes: usize) -> Node {
    (1..nodes).fold(Node { next: None }, |node, _| Node { next: Some(Box::new(node)) })
}

/// Every place where a value can be.
#[xero::service]
trait Values {
    async fn pixels(&self, cx: &Context, pixels: Vec<Pixel>) -> Vec<Pixel>;
    async fn refuse_pixels(&self, pixels: Vec<Pixel>) -> Result<(), Vec<Pixel>>;
    async fn lists(&self, lists: Lists) -> Lists;
    async fn job(&self, job: Job) -> Job;
    async fn skipped_job(&self) -> Job;
    async fn refuse_job(&self) -> Result<(), Job>;
    async fn command(&self, command: Command) -> Command;
    async fn stop(&self) -> Command;
    async fn key(&self, key: Key) -> u8;
    async fn any_key(&self) -> Option<Key>;
    async fn value(&self, value: serde_json::Value) -> serde_json::Value;
    async fn partial_value(&self, cx: &Context) -> u8;
    async fn maybe(&self, value: Option<Option<u8>>) -> bool;
    async fn none(&self) -> Option<Option<u8>>;
    async fn chain(&self, chain: Node) -> u8;
    #[xero(idempotent)]
    async fn long_chain(&self, nodes: usize) -> Node;
    async fn nothing(&self, units: Vec<()>) -> usize;
    async fn sparse(&self, sparse: Sparse) -> Sparse;
    async fn sizes(&self, sizes: Sizes) -> Sizes;
    async fn sum(&self, left: u8, right: u8) -> u8;
}

/// A tuple whose fields may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sparse(
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<u8>,
);

/// Two places of one type, one of them with another reader.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "OldSizes")]
struct Sizes {
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct OldSizes {
    width: Option<u32>,
    height: Option<i64>,
}

impl From<OldSizes> for Sizes {
    fn from(OldSizes { width, height }: OldSizes) -> Self {
        Self { width, height: height.and_then(|height| u32::try_from(height).ok()) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Lists {
    arrays: Vec<[u8; 3]>,
    commands: Vec<Bit>,
    options: Vec<Option<Pixel>>,
    units: Vec<Marked>,
    texts: Vec<String>,
    empty: Vec<Vec<u8>>,
    maps: BTreeMap<u32, ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Bit {
    Zero,
    One,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Marked {
    mark: (),
    bit: Bit,
}

struct Here;

#[xero::worker]
impl Values for Here {
    async fn pixels(&self, cx: &Context, pixels: Vec<Pixel>) -> Vec<Pixel> {
        cx.partial(&pixels).await.expect("is wanted");
        pixels
    }

    async fn refuse_pixels(&self, pixels: Vec<Pixel>) -> Result<(), Vec<Pixel>> {
        Err(pixels)
    }

    async fn lists(&self, lists: Lists) -> Lists {
        lists
    }

    async fn job(&self, job: Job) -> Job {
        job
    }

    async fn skipped_job(&self) -> Job {
        Job { priority: 0, path: vec![1, 9] }
    }

    async fn refuse_job(&self) -> Result<(), Job> {
        Err(Job { priority: 0, path: vec![1, 9] })
    }

    async fn command(&self, command: Command) -> Command {
        command
    }

    async fn stop(&self) -> Command {
        Command::Stop
    }

    async fn key(&self, key: Key) -> u8 {
        u8::from(key == Key::Number(7))
    }

    async fn any_key(&self) -> Option<Key> {
        Some(Key::Name("x".to_owned()))
    }

    async fn value(&self, value: serde_json::Value) -> serde_json::Value {
        value
    }

    async fn partial_value(&self, cx: &Context) -> u8 {
        cx.partial(&Key::Number(7)).await.map_or(0, |()| 1)
    }

    async fn maybe(&self, value: Option<Option<u8>>) -> bool {
        value == Some(None)
    }

    async fn none(&self) -> Option<Option<u8>> {
        Some(None)
    }

    async fn chain(&self, _chain: Node) -> u8 {
        1
    }

    async fn long_chain(&self, nodes: usize) -> Node {
        chain(nodes)
    }

    async fn nothing(&self, units: Vec<()>) -> usize {
        units.len()
    }

    async fn sparse(&self, sparse: Sparse) -> Sparse {
        sparse
    }

    async fn sizes(&self, sizes: Sizes) -> Sizes {
        sizes
    }

    async fn sum(&self, left: u8, right: u8) -> u8 {
        left + right
    }
}

/// Runs a test with a client, for each codec.
fn with_each_codec(codecs: &[Codec], test: impl AsyncFn(Client, Codec, ValuesClient)) {
    scene::run(async {
        for codec in codecs {
            let client = scene::client().await;
            let worker = Worker::connect(client.endpoint()).serve(Here).start().expect("starts");
            let values = ValuesClient::new(&client).with_codec(*codec);
            test(client.clone(), *codec, values).await;
            worker.drain().await;
        }
    });
}

const NAMED: [Codec; 2] = [Codec::MessagePack, Codec::Json];
const BARE: [Codec; 2] = [Codec::Bincode, Codec::Postcard];

/// The reason of arguments that were refused before anything ran.
#[track_caller]
fn invalid_arguments<E: std::fmt::Debug>(error: CallError<E>) -> String {
    match error {
        CallError::Rpc(RpcError::InvalidArguments { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// The reason of a reply that was refused.
#[track_caller]
fn invalid_reply<E: std::fmt::Debug>(error: CallError<E>) -> String {
    match error {
        CallError::Rpc(RpcError::InvalidReply { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}
