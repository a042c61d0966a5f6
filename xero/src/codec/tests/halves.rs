//! Types whose two halves of serde disagree, and types that only a self-describing codec carries.

use std::collections::HashMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Job {
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: u8,
    path: Vec<u8>,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[test]
fn sometimes_skipped_field_is_refused_in_codecs_without_names() {
    let job = Job { priority: 0, path: vec![1, 9] };
    for codec in built(BARE) {
        assert_eq!(roundtrip(codec, &Job { priority: 1, path: vec![] }).expect("is whole").priority, 1, "{codec}");
        let error = refused(codec, &job);
        assert!(error.contains("`priority` of `Job`") && error.contains("MessagePack or JSON"), "{error}");
        // Also if only the writer's half is known.
        assert!(encode(codec, &vec![&job]).is_err(), "{codec}");
    }
    for codec in built(NAMED) {
        assert_eq!(roundtrip(codec, &job).expect("is carried"), job, "{codec}");
    }
}

#[test]
fn skipped_field_without_a_default_is_refused_with_the_remedy() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Tagged {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
        path: String,
    }
    for codec in built(Codec::ALL) {
        let error = refused(codec, &Tagged { tags: vec![], path: "/".to_owned() });
        assert!(error.contains("the field `tags`") && error.contains("`#[serde(default)]`"), "{error}");
        assert!(!error.contains("another codec"), "{error}");
    }
}

#[test]
fn variant_after_a_skipped_one_is_refused_in_codecs_without_names() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Command {
        Start,
        #[serde(skip)]
        #[allow(dead_code)]
        Pause,
        Stop,
        Erase,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        commands: Vec<Command>,
    }
    for codec in built(BARE) {
        assert_eq!(roundtrip(codec, &Command::Start).expect("is the same for both"), Command::Start, "{codec}");
        let error = refused(codec, &Command::Stop);
        assert!(error.contains("`Stop` of `Command`") && error.contains("MessagePack or JSON"), "{error}");
        let error = refused(codec, &Command::Erase);
        assert!(error.contains("`xero::Command`") && error.contains("MessagePack or JSON"), "{error}");
        assert!(encode_as::<Order, _>(codec, &Order { commands: vec![Command::Start] }).is_ok(), "{codec}");
        let error = refused(codec, &Order { commands: vec![Command::Start, Command::Stop] });
        assert!(error.contains("`Stop` of `Command`"), "{error}");
    }
    assert_roundtrips_in(built(NAMED), [Command::Start, Command::Stop, Command::Erase]);
}

#[test]
fn variant_with_content_after_a_skipped_one_is_refused() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Event {
        #[serde(skip)]
        #[allow(dead_code)]
        Internal,
        Moved {
            by: u8,
        },
        Named(String),
        Paired(u8, u8),
        Gone,
    }
    let events = [Event::Moved { by: 7 }, Event::Named("x".to_owned()), Event::Paired(1, 2), Event::Gone];
    for codec in built(BARE) {
        for event in &events {
            let error = refused(codec, event);
            assert!(error.contains("Event") && error.contains("MessagePack or JSON"), "{error}");
        }
    }
    assert_roundtrips_in(built(NAMED), events);
}

#[test]
fn skipped_variants_at_the_end_aliases_and_renames_are_carried() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum State {
        #[serde(alias = "Ready", alias = "Waiting")]
        Idle,
        #[serde(rename = "working")]
        Busy(u8),
        Done {
            #[serde(rename = "n", alias = "count")]
            number: u8,
            #[serde(alias = "z", alias = "a")]
            name: String,
        },
        #[serde(skip)]
        #[allow(dead_code)]
        Broken,
    }
    assert_roundtrips([State::Idle, State::Busy(3), State::Done { number: 1, name: "x".to_owned() }]);
}

#[test]
fn struct_whose_halves_skip_different_fields_is_refused() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct User {
        #[serde(skip_deserializing)]
        id: u8,
        name: u8,
        #[serde(skip_serializing)]
        password: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct OneWay {
        #[serde(skip_serializing, default)]
        secret: u8,
        names: Vec<u8>,
    }
    for codec in built(BARE) {
        let error = refused(codec, &User { id: 1, name: 2, password: 3 });
        assert!(error.contains("`User`") && error.contains("no codec of this build"), "{error}");
        let error = refused(codec, &OneWay { secret: 1, names: vec![2, 3] });
        assert!(error.contains("OneWay") && error.contains("MessagePack or JSON"), "{error}");
    }
    for codec in built(NAMED) {
        let error = roundtrip(codec, &User { id: 1, name: 2, password: 3 }).expect_err("is refused").to_string();
        assert!(error.contains("the field `password` is missing"), "{error}");
        let read = roundtrip(codec, &OneWay { secret: 1, names: vec![2, 3] }).expect("is read");
        assert_eq!(read, OneWay { secret: 0, names: vec![2, 3] }, "{codec}");
    }
}

/// As the guide says about partial replies and dynamic calls.
#[test]
fn variant_after_a_skipped_one_arrives_as_another_if_only_the_writer_is_known() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Command {
        #[serde(skip)]
        #[allow(dead_code)]
        Pause,
        Stop,
        Erase,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct OneWay {
        #[serde(skip_serializing, default)]
        secret: u8,
        names: Vec<u8>,
    }
    for codec in built(BARE) {
        let written = encode(codec, &Command::Stop).expect("is written");
        assert_eq!(decode::<Command>(&written).expect("is read"), Command::Erase, "{codec}");
        let written = encode(codec, &OneWay { secret: 1, names: vec![0] }).expect("is written");
        assert_eq!(decode::<OneWay>(&written).expect("is read"), OneWay { secret: 1, names: vec![] }, "{codec}");
    }
}

#[test]
fn field_with_two_names_is_carried_in_codecs_without_names() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Job {
        #[serde(rename(serialize = "jobId", deserialize = "id"))]
        id: u8,
    }
    assert_roundtrips_in(built(BARE), [Job { id: 7 }]);
    for codec in built(NAMED) {
        let error = roundtrip(codec, &Job { id: 7 }).expect_err("is refused").to_string();
        assert!(error.contains("the field `id` is missing"), "{error}");
    }
}

/// As the guide says about codecs with names, which carry whatever their reader accepts.
#[test]
fn options_and_defaults_of_one_half_arrive_as_none_in_codecs_with_names() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Renamed {
        #[serde(rename(serialize = "jobId", deserialize = "id"))]
        id: Option<u8>,
        #[serde(default, rename(serialize = "aCount", deserialize = "count"))]
        count: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Skipped {
        #[serde(skip_serializing)]
        id: Option<u8>,
        #[serde(skip_deserializing)]
        count: u8,
    }
    for codec in built(NAMED) {
        let read = roundtrip(codec, &Renamed { id: Some(7), count: 3 }).expect("is carried");
        assert_eq!(read, Renamed { id: None, count: 0 }, "{codec}");
        let read = roundtrip(codec, &Skipped { id: Some(7), count: 3 }).expect("is carried");
        assert_eq!(read, Skipped { id: None, count: 0 }, "{codec}");
    }
    for codec in built(BARE) {
        assert!(roundtrip(codec, &Renamed { id: Some(7), count: 3 }).is_ok_and(|read| read.id == Some(7)), "{codec}");
        refused(codec, &Skipped { id: Some(7), count: 3 });
    }
}

#[test]
fn types_that_serde_cannot_buffer_are_refused_in_tagged_types_at_the_first_value() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Wide {
        Text(String),
        Number(u128),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t")]
    enum Keyed {
        Map { map: std::collections::BTreeMap<u64, u8> },
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Content {
        wide: u128,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Optional {
        #[serde(flatten)]
        content: Option<Content>,
    }
    let keyed = Keyed::Map { map: [(1, 2)].into() };
    for codec in built(NAMED) {
        assert!(roundtrip(codec, &Wide::Text("x".to_owned())).is_ok(), "{codec}");
        refused(codec, &Wide::Number(7));
        let read = roundtrip(codec, &Optional { content: Some(Content { wide: 5 }) }).expect("is carried");
        assert_eq!(read, Optional { content: None }, "{codec}");
    }
    assert!(built([Codec::Json]).all(|codec| encode_as::<Keyed, _>(codec, &keyed).is_err()));
    assert_roundtrips_in(built([Codec::MessagePack]), [keyed]);
}

#[test]
fn struct_whose_halves_skip_the_same_fields_is_carried() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Cached {
        name: String,
        #[serde(skip)]
        cache: HashMap<String, String>,
        #[serde(skip_serializing, skip_deserializing)]
        hits: u64,
        #[serde(default)]
        size: u32,
    }
    assert_roundtrips([Cached { name: "x".to_owned(), cache: HashMap::new(), hits: 0, size: 7 }]);
}

#[test]
fn wrong_announced_lengths_are_refused() {
    struct Lying;
    impl Serialize for Lying {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeStruct;
            let mut fields = serializer.serialize_struct("Lying", 3)?;
            fields.serialize_field("only", &1_u8)?;
            fields.end()
        }
    }
    for codec in built([Codec::Bincode, Codec::Postcard, Codec::MessagePack]) {
        let error = encode(codec, &Lying).expect_err("is refused").to_string();
        assert!(error.contains("3 parts of `Lying` were announced and 1 are written"), "{error}");
    }
    assert!(built([Codec::Json]).all(|codec| encode(codec, &Lying).is_ok()), "JSON announces nothing");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Circle { radius: u8 },
    Point,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Base {
    id: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    base: Base,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Holder<T> {
    count: u8,
    held: Option<Vec<T>>,
}

#[track_caller]
fn needs_names<T>(value: T, name: &str)
where
    T: Clone + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
{
    for codec in built(BARE) {
        for error in [refused(codec, &value), refused(codec, &Holder { count: 1, held: Some(vec![value.clone()]) })] {
            assert!(error.contains(name) && error.contains("MessagePack or JSON"), "{error}");
            assert!(!error.contains("both sides"), "{error}");
        }
        // A value that does not contain it yet is honest.
        assert!(roundtrip(codec, &Holder::<T> { count: 1, held: None }).is_ok(), "{codec} {name}");
        assert!(roundtrip(codec, &Holder::<T> { count: 1, held: Some(vec![]) }).is_ok(), "{codec} {name}");
        // And refused afterwards.
        refused(codec, &Holder { count: 1, held: Some(vec![value.clone()]) });
        // If only the reader sees it.
        if let Ok(written) = encode(codec, &value) {
            let error = decode::<T>(&written).expect_err("is refused").to_string();
            assert!(error.contains(name) && error.contains("MessagePack or JSON"), "{error}");
            assert!(!error.contains("both sides"), "{error}");
        }
    }
    for codec in built(NAMED) {
        assert_eq!(roundtrip(codec, &value).expect("is carried"), value, "{codec}");
    }
}

#[test]
fn types_that_need_self_description_are_refused_by_name_in_codecs_without_it() {
    needs_names(Untagged::Text("x".to_owned()), "`xero::Untagged`");
    needs_names(Untagged::Number(7), "`xero::Untagged`");
    needs_names(Tagged::Circle { radius: 1 }, "`xero::Tagged`");
    needs_names(Tagged::Point, "`xero::Tagged`");
    needs_names(Flat { base: Base { id: 1 }, name: "x".to_owned() }, "xero::Flat`");
    needs_names(serde_json::json!({"a": [1, "x", 2.5]}), "`serde_json::Value`");
    needs_names(serde_json::json!(7), "`serde_json::Value`");
}

#[test]
fn adjacently_tagged_variants_are_refused_in_codecs_without_names() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t", content = "c")]
    enum Adjacent {
        Unit,
        Number(u8),
        Pair(u8, u8),
        Named { x: u8 },
    }
    let values = [Adjacent::Unit, Adjacent::Number(1), Adjacent::Pair(1, 2), Adjacent::Named { x: 3 }];
    for codec in built(BARE) {
        for value in &values {
            let error = refused(codec, value);
            assert!(error.contains("xero::Adjacent`") && error.contains("MessagePack or JSON"), "{error}");
        }
    }
    assert_roundtrips_in(built(NAMED), values);
}

#[test]
fn readers_that_change_the_value_are_carried() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(from = "String")]
    struct Lower(String);
    impl From<String> for Lower {
        fn from(text: String) -> Self {
            Self(text.to_lowercase())
        }
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Level {
        Low,
        High,
    }
    #[derive(Debug, PartialEq, Serialize)]
    struct Clamped(Level);
    impl<'de> Deserialize<'de> for Clamped {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Level::deserialize(deserializer).map(|_| Self(Level::Low))
        }
    }
    for codec in built(Codec::ALL) {
        assert_eq!(roundtrip(codec, &Lower("ABC".to_owned())).expect("is read"), Lower("abc".to_owned()));
        let clamped = encode_as::<Clamped, _>(codec, &Level::High).expect("is written");
        assert_eq!(decode::<Clamped>(&clamped).expect("is read"), Clamped(Level::Low));
    }
}

#[test]
fn standard_types_are_carried() {
    use std::{
        cell::{Cell, RefCell},
        collections::{BTreeSet, VecDeque},
        net::{IpAddr, Ipv4Addr, SocketAddr},
        num::NonZeroU8,
        ops::{Bound, Range, RangeInclusive},
        path::PathBuf,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };
    assert_roundtrips([Duration::new(1, 999)]);
    assert_roundtrips::<SystemTime>([UNIX_EPOCH + Duration::from_secs(7)]);
    assert_roundtrips([IpAddr::V4(Ipv4Addr::LOCALHOST), "::1".parse().expect("an address")]);
    assert_roundtrips::<SocketAddr>(["127.0.0.1:80".parse().expect("an address")]);
    assert_roundtrips([(NonZeroU8::MIN, Range { start: 1, end: 3 }, RangeInclusive::new(1, 3))]);
    assert_roundtrips([Bound::Included(1), Bound::Excluded(2), Bound::Unbounded]);
    assert_roundtrips([PathBuf::from("/tmp/ä")]);
    assert_roundtrips([(Cell::new(1), RefCell::new(2))]);
    assert_roundtrips([BTreeSet::from([1, 2]).into_iter().collect::<VecDeque<_>>()]);
    assert_roundtrips([Ok::<_, String>(vec![1_u8]), Err("no".to_owned())]);
    assert_roundtrips::<Box<str>>(["boxed".into()]);
    assert_roundtrips([(u128::MAX, i128::MIN, f32::MIN_POSITIVE, f64::MAX, 'ß', (), [(); 0])]);
    assert_roundtrips([uuid::Uuid::from_u128(7)]);
    assert_roundtrips([Bytes::from_static(b"bytes")]);
}
