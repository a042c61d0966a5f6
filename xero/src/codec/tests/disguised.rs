//! Halves that disagree but look alike: two enums with one name, halves with different names or primitives, catch-alls.

use serde::{Deserialize, Serializer};

use super::*;

mod job {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) enum Status {
        New,
        #[serde(skip)]
        #[allow(dead_code)]
        Local,
        Running,
        Failed,
    }
}

mod task {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) enum Status {
        New,
        Running,
        Failed,
    }
}

#[test]
fn two_enums_with_one_name_do_not_hide_each_other() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Report {
        job: job::Status,
        tasks: Vec<task::Status>,
    }
    for codec in built(BARE) {
        for tasks in [vec![task::Status::New, task::Status::Running, task::Status::Failed], vec![]] {
            let error = refused(codec, &Report { job: job::Status::Running, tasks });
            assert!(error.contains("`Running` of `Status`") && error.contains("MessagePack or JSON"), "{error}");
        }
    }
    assert_roundtrips([vec![task::Status::New, task::Status::Running, task::Status::Failed]]);
    assert_roundtrips_in(built(NAMED), [vec![job::Status::New, job::Status::Running, job::Status::Failed]]);
}

mod out {
    #[derive(Clone, Debug, PartialEq, serde::Serialize)]
    #[serde(rename = "Kind")]
    pub(super) enum Same {
        Stop,
        Start,
    }
    #[derive(Clone, Debug, PartialEq, serde::Serialize)]
    pub(super) enum Other {
        Stop,
        Start,
    }
}

mod back {
    #[derive(Clone, Debug, PartialEq, serde::Deserialize)]
    #[serde(rename = "Kind")]
    pub(super) enum Same {
        Start,
        Stop,
    }
}

macro_rules! permuted {
    ($name:ident, $into:literal, $out:ident) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(into = $into, from = "back::Same")]
        enum $name {
            Start,
            Stop,
        }
        impl From<$name> for out::$out {
            fn from(kind: $name) -> Self {
                match kind {
                    $name::Start => Self::Start,
                    $name::Stop => Self::Stop,
                }
            }
        }
        impl From<back::Same> for $name {
            fn from(kind: back::Same) -> Self {
                match kind {
                    back::Same::Start => Self::Start,
                    back::Same::Stop => Self::Stop,
                }
            }
        }
    };
}

permuted!(Permuted, "out::Same", Same);
permuted!(PermutedAndRenamed, "out::Other", Other);

#[test]
fn halves_that_permute_variants_are_refused() {
    for codec in built(BARE) {
        refused(codec, &vec![Permuted::Start, Permuted::Stop]);
        refused(codec, &Permuted::Stop);
        refused(codec, &vec![PermutedAndRenamed::Start, PermutedAndRenamed::Stop]);
        refused(codec, &PermutedAndRenamed::Start);
    }
    assert_roundtrips_in(built(NAMED), [vec![Permuted::Start, Permuted::Stop]]);
}

#[test]
fn enum_whose_halves_have_different_names_is_compared() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename(serialize = "EventOut", deserialize = "EventIn"))]
    enum Event {
        A,
        #[serde(skip)]
        #[allow(dead_code)]
        X,
        B,
        C,
    }
    for codec in built(BARE) {
        assert_eq!(roundtrip(codec, &Event::A).expect("is sound"), Event::A, "{codec}");
        refused(codec, &Event::B);
        refused(codec, &Event::C);
    }
    assert_roundtrips_in(built(NAMED), [Event::A, Event::B, Event::C]);
}

#[test]
fn variant_that_its_reader_confuses_is_refused_in_every_codec() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum OneWay {
        A,
        #[serde(skip_deserializing)]
        B,
        #[serde(other)]
        C,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Renamed {
        #[serde(rename(serialize = "a", deserialize = "b"))]
        A,
        #[serde(alias = "D")]
        C,
        #[serde(other)]
        O,
    }
    assert_roundtrips([OneWay::A, OneWay::C]);
    assert_roundtrips([Renamed::C, Renamed::O]);
    for codec in built(Codec::ALL) {
        for error in [refused(codec, &vec![OneWay::B]), refused(codec, &Renamed::A)] {
            assert!(error.contains("one name for both sides"), "{error}");
        }
    }
    // A reader of another program's bytes accepts it.
    for codec in built(NAMED) {
        let written = encode(codec, &OneWay::B).expect("is written");
        assert_eq!(decode::<OneWay>(&written).expect("is read"), OneWay::C, "{codec}");
    }
}

#[test]
fn variant_after_bytes_that_are_read_one_by_one_is_found() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Letter {
        #[serde(serialize_with = "serde_bytes::serialize")]
        body: Vec<u8>,
        status: job::Status,
    }
    for codec in built(BARE) {
        let error = refused(codec, &Letter { body: vec![1, 2], status: job::Status::Running });
        assert!(error.contains("`Running` of `Status`"), "{error}");
    }
}

#[test]
fn halves_with_different_primitives_are_refused_without_self_description() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(into = "u32", try_from = "i32")]
    struct Sign(u32);
    impl From<Sign> for u32 {
        fn from(sign: Sign) -> Self {
            sign.0
        }
    }
    impl TryFrom<i32> for Sign {
        type Error = std::num::TryFromIntError;
        fn try_from(number: i32) -> Result<Self, Self::Error> {
            Ok(Self(number as u32))
        }
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Timed {
        #[serde(serialize_with = "in_seconds")]
        time: std::time::Duration,
        tags: Vec<u8>,
    }
    fn in_seconds<S: Serializer>(time: &std::time::Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.as_secs())
    }
    for codec in built(BARE) {
        let error = refused(codec, &Sign(1));
        assert!(error.contains("MessagePack or JSON"), "{error}");
        let timed = |tags: &[u8]| Timed { time: std::time::Duration::from_secs(5), tags: tags.to_vec() };
        let error = refused(codec, &timed(&[0]));
        assert!(error.contains("Timed`") && error.contains("no codec"), "{error}");
        refused(codec, &timed(&[9, 7]));
    }
    assert_roundtrips_in(built(NAMED), [Sign(1)]);
}

#[test]
fn derived_halves_with_fields_in_different_orders_are_refused() {
    #[derive(Clone, Serialize)]
    #[serde(rename = "Pair")]
    struct Out {
        low: u8,
        high: u8,
    }
    #[derive(Deserialize)]
    #[serde(rename = "Pair")]
    struct In {
        high: u8,
        low: u8,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(into = "Out", from = "In")]
    struct Pair(u8, u8);
    impl From<Pair> for Out {
        fn from(Pair(low, high): Pair) -> Self {
            Self { low, high }
        }
    }
    impl From<In> for Pair {
        fn from(In { high, low }: In) -> Self {
            Self(low, high)
        }
    }
    for codec in built(BARE) {
        let error = refused(codec, &Pair(1, 2));
        assert!(error.contains("`Pair`") && error.contains("MessagePack or JSON"), "{error}");
    }
    assert_roundtrips_in(built(NAMED), [Pair(1, 2)]);
}

#[test]
fn two_types_with_one_name_for_the_compiler_are_two_types() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both<A, B> {
        a: Option<A>,
        b: Option<B>,
    }
    fn both<A, B>(_: &A, b: Option<B>) -> Both<A, B> {
        Both { a: None, b }
    }
    fn first<A, B>(a: Option<A>, _: &B) -> Both<A, B> {
        Both { a, b: None }
    }
    for codec in built(BARE) {
        let sound = {
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            enum Twin {
                A,
                B,
            }
            let _ = Twin::A;
            Twin::B
        };
        let unsound = {
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            enum Twin {
                A,
                #[serde(skip)]
                #[allow(dead_code)]
                X,
                B,
            }
            let _ = Twin::A;
            Twin::B
        };
        roundtrip(codec, &first(Some(sound.clone()), &unsound)).expect("is sound");
        refused(codec, &both(&sound, Some(unsound)));
    }
}
