//! Hand-written halves.

use serde::Deserialize;

use super::*;

/// Like those of the crate `generic-array`.
#[test]
fn tuples_of_any_length_declare_it_before_they_are_read() {
    const LENGTH: usize = 2048;
    #[derive(Debug, PartialEq)]
    struct Long(Vec<u8>);
    impl Serialize for Long {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = serializer.serialize_tuple(LENGTH)?;
            self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
            tuple.end()
        }
    }
    impl<'de> Deserialize<'de> for Long {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Whole;
            impl<'de> de::Visitor<'de> for Whole {
                type Value = Long;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a long tuple")
                }
                fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Long, A::Error> {
                    if let Some(length) = access.size_hint().filter(|length| *length != LENGTH) {
                        return Err(de::Error::invalid_length(length, &self));
                    }
                    let bytes: Result<_, _> = std::iter::from_fn(|| access.next_element().transpose()).collect();
                    Ok(Long(bytes?))
                }
            }
            deserializer.deserialize_tuple(LENGTH, Whole)
        }
    }
    assert_roundtrips([Long(vec![7; LENGTH])]);
}

#[test]
fn hand_written_readers_may_name_fields_by_an_enum_or_a_newtype() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Name(String);
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Field {
        Secs,
        Nanos,
    }
    struct Keys<K>(PhantomData<K>);
    impl<'de, K: Deserialize<'de>> de::Visitor<'de> for Keys<K> {
        type Value = Vec<(K, u8)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("fields")
        }
        fn visit_map<A: de::MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            std::iter::from_fn(|| access.next_entry().transpose()).collect()
        }
    }
    #[derive(Debug, PartialEq)]
    struct Read<K>(Vec<(K, u8)>);
    impl<'de, K: Deserialize<'de>> Deserialize<'de> for Read<K> {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_struct("Time", &["secs", "nanos"], Keys(PhantomData)).map(Self)
        }
    }
    #[derive(Serialize)]
    struct Time {
        secs: u8,
        nanos: u8,
    }
    for codec in built(NAMED) {
        let written = encode(codec, &Time { secs: 1, nanos: 2 }).expect("is written");
        assert_eq!(
            decode::<Read<Field>>(&written).expect("is read").0,
            [(Field::Secs, 1), (Field::Nanos, 2)],
            "{codec}"
        );
        let names = decode::<Read<Name>>(&written).expect("is read").0;
        assert_eq!(names, [(Name("secs".to_owned()), 1), (Name("nanos".to_owned()), 2)], "{codec}");
    }
}

#[test]
fn panic_of_a_reader_does_not_panic_the_writer() {
    #[derive(Debug, Serialize)]
    struct Panics(u8);
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("is meant to");
        }
    }
    for codec in built(Codec::ALL) {
        let error = refused(codec, &Panics(1));
        assert!(error.contains("panicked"), "{error}");
    }
}

/// As the guide says about names that only one side has: no variant arrives as another one.
#[test]
fn names_that_only_one_side_knows_arrive_as_the_guide_says() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Renamed {
        #[serde(rename(serialize = "jobId", deserialize = "id"))]
        id: Option<u8>,
        #[serde(default, rename(serialize = "size"))]
        length: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Skipped {
        #[serde(skip_serializing)]
        id: Option<u8>,
        #[serde(skip_deserializing)]
        name: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Caught {
        A,
        #[serde(skip_deserializing)]
        B,
        #[serde(other)]
        Other,
    }
    for codec in built(NAMED) {
        let read = roundtrip(codec, &Renamed { id: Some(7), length: 8 }).expect("is read");
        assert_eq!(read, Renamed { id: None, length: 0 }, "{codec}");
        let read = roundtrip(codec, &Skipped { id: Some(7), name: 1 }).expect("is read");
        assert_eq!(read, Skipped { id: None, name: 0 }, "{codec}");
    }
    assert_roundtrips_in(built(BARE), [Renamed { id: Some(7), length: 8 }]);
    for codec in built(BARE) {
        refused(codec, &Skipped { id: Some(7), name: 1 });
    }
    for codec in built(Codec::ALL) {
        assert_eq!(roundtrip(codec, &Caught::A).expect("is read"), Caught::A, "{codec}");
        assert!(refused(codec, &Caught::B).contains("there is no variant `B`"), "{codec}");
    }
}

/// As the guide says about readers that try, and about hand-written halves.
#[test]
fn values_of_readers_that_try_arrive_as_the_guide_says() {
    use std::{collections::BTreeMap, net::IpAddr};
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Counts {
        counts: BTreeMap<u64, u8>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        counts: Option<Counts>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Host {
        Name(String),
        Address(IpAddr),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(into = "u32", from = "i32")]
    struct Signed(i64);
    impl From<Signed> for u32 {
        fn from(signed: Signed) -> Self {
            Self::try_from(signed.0).unwrap_or_default()
        }
    }
    impl From<i32> for Signed {
        fn from(number: i32) -> Self {
            Self(number.into())
        }
    }
    for codec in built([Codec::Json]) {
        let flat = Flat { counts: Some(Counts { counts: BTreeMap::from([(1, 2)]) }) };
        assert_eq!(roundtrip(codec, &flat).expect("is read"), Flat { counts: None }, "{codec}");
        let host = Host::Address("127.0.0.1".parse().expect("an address"));
        assert_eq!(roundtrip(codec, &host).expect("is read"), Host::Name("127.0.0.1".to_owned()), "{codec}");
    }
    for codec in built(BARE) {
        assert!(refused(codec, &Signed(1)).contains("read as a signed integer"), "{codec}");
    }
    assert_roundtrips_in(built(NAMED), [Signed(1)]);
}
