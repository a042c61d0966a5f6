//! Variants that would arrive as different ones although the value contains all of them.

use serde::Deserialize;

use super::*;

mod job {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Status {
        Idle,
        #[serde(skip)]
        #[allow(dead_code)]
        Hidden,
        Busy,
        Done,
    }
}

mod task {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Status {
        Idle,
        Busy,
        Done,
    }
}

#[test]
fn beside_another_enum_of_the_same_name() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Report {
        job: job::Status,
        tasks: Vec<task::Status>,
    }
    for codec in built(BARE) {
        let error = refused(codec, &Report { job: job::Status::Busy, tasks: vec![task::Status::Done] });
        assert!(error.contains("`Busy` of `Status`") && error.contains("MessagePack or JSON"), "{error}");
        refused(codec, &Report { job: job::Status::Busy, tasks: vec![task::Status::Busy] });
        let sound = Report { job: job::Status::Idle, tasks: vec![task::Status::Busy, task::Status::Done] };
        assert_eq!(roundtrip(codec, &sound).expect("is sound"), sound, "{codec}");
    }
}

/// Halves with the same variants in different orders.
macro_rules! permuted {
    ($module:ident, $written:literal: $($variant:ident),*; read as $($other:ident),*) => {
        mod $module {
            use super::*;

            #[derive(Serialize, Deserialize)]
            #[serde(rename = $written)]
            pub(super) enum Out { $($variant),* }

            #[derive(Serialize, Deserialize)]
            pub(super) enum In { $($other),* }

            #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(into = "Out", from = "In")]
            pub(super) enum Whole { $($variant),* }

            impl From<Whole> for Out {
                fn from(whole: Whole) -> Self {
                    match whole { $(Whole::$variant => Self::$variant),* }
                }
            }

            impl From<In> for Whole {
                fn from(read: In) -> Self {
                    match read { $(In::$variant => Self::$variant),* }
                }
            }
        }
    };
}

permuted!(swapped, "In": Start, Stop, Wait; read as Stop, Start, Wait);
permuted!(turned, "In": A, B, C, D; read as B, C, D, A);
permuted!(renamed, "Out": Start, Stop, Wait; read as Stop, Start, Wait);
permuted!(same, "Out": Start, Stop; read as Start, Stop);

#[test]
fn by_halves_that_permute_them() {
    for codec in built(BARE) {
        use swapped::Whole::{Start, Stop, Wait};
        refused(codec, &vec![Start, Stop]);
        refused(codec, &vec![Wait, Stop, Start, Start, Stop]);
        refused(codec, &(Start, Stop));
        use turned::Whole::{A, B, C, D};
        refused(codec, &vec![A, B, C, D]);
        refused(codec, &(D, C, vec![B, A, A, B]));
        assert_eq!(roundtrip(codec, &vec![Wait]).expect("is the same for both"), [Wait], "{codec}");
    }
}

#[test]
fn by_halves_whose_enums_have_different_names() {
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
        assert_eq!(roundtrip(codec, &Event::A).expect("is the same for both"), Event::A, "{codec}");
        refused(codec, &Event::B);
        refused(codec, &vec![Event::A, Event::C]);
        refused(codec, &renamed::Whole::Start);
        refused(codec, &vec![renamed::Whole::Start, renamed::Whole::Stop]);
        let same = vec![same::Whole::Start, same::Whole::Stop];
        assert_eq!(roundtrip(codec, &same).expect("agrees"), same, "{codec}");
    }
}

/// Halves without a common name are not compared.
#[test]
fn halves_whose_variants_have_different_names_are_carried() {
    #[derive(Serialize, Deserialize)]
    enum Old {
        Begin,
        End,
    }
    #[derive(Serialize, Deserialize)]
    enum New {
        Start,
        Stop,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(into = "Old", from = "New")]
    enum Whole {
        Start,
        Stop,
    }
    impl From<Whole> for Old {
        fn from(whole: Whole) -> Self {
            match whole {
                Whole::Start => Self::Begin,
                Whole::Stop => Self::End,
            }
        }
    }
    impl From<New> for Whole {
        fn from(read: New) -> Self {
            match read {
                New::Start => Self::Start,
                New::Stop => Self::Stop,
            }
        }
    }
    assert_roundtrips_in(built(BARE), [vec![Whole::Start, Whole::Stop]]);
}

#[test]
fn hash_map_in_any_order_is_carried() {
    use std::collections::{HashMap, HashSet};
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    enum Status {
        Idle,
        Busy(u8),
        Done,
    }
    for _ in 0..20 {
        let all = [Status::Idle, Status::Busy(1), Status::Done, Status::Busy(2)];
        let map: HashMap<_, _> = all.into_iter().enumerate().collect();
        let set: HashSet<_> = all.into_iter().collect();
        for codec in built(BARE) {
            let value = (map.clone(), set.clone());
            assert_eq!(roundtrip(codec, &value).expect("is honest"), value, "{codec}");
        }
        #[cfg(feature = "bincode")]
        twin::read_back::<bincode::Bincode, (HashMap<usize, Status>, HashSet<Status>), _>(&(map, set), What::Value)
            .expect("is honest");
    }
}

/// Bytes may be read as a list of numbers; that does not shift what follows.
#[test]
fn behind_bytes_that_are_read_as_a_list() {
    #[derive(Clone, Debug, PartialEq)]
    struct Bytes(Vec<u8>);
    impl Serialize for Bytes {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&self.0)
        }
    }
    impl<'de> Deserialize<'de> for Bytes {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Vec::deserialize(deserializer).map(Self)
        }
    }
    let bytes = || Bytes(vec![1, 2, 3]);
    for codec in built(BARE) {
        let error = refused(codec, &(bytes(), job::Status::Busy));
        assert!(error.contains("`Busy` of `Status`"), "{error}");
        let sound = (bytes(), vec![task::Status::Busy, task::Status::Done], bytes(), task::Status::Idle);
        assert_eq!(roundtrip(codec, &sound).expect("is sound"), sound, "{codec}");
    }
}
