//! Values that a format would write as a different value.

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Patch {
    /// Absent, cleared or set.
    note: Option<Option<String>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(Option<u8>);

#[test]
fn some_of_none_is_refused_where_it_would_arrive_as_none() {
    for codec in built(NAMED) {
        let error = encode(codec, &Patch { note: Some(None) }).expect_err("is refused").to_string();
        assert!(error.contains("`note` of `xero::Patch`") && error.contains("would arrive as `None`"), "{error}");
        assert!(encode(codec, &Some(())).is_err(), "{codec}");
        assert!(encode(codec, &vec![Some(1), None].into_iter().map(Some).collect::<Vec<_>>()).is_err(), "{codec}");
        assert!(encode(codec, &Some(Wrapped(None))).is_err(), "{codec}");
        assert!(encode(codec, &Some(Some(None::<u8>))).is_err(), "{codec}");
        let error = encode(codec, &Some(serde_json::Value::Null)).expect_err("is refused").to_string();
        assert!(error.contains("so would `Some` of a null `serde_json::Value`"), "{error}");
        assert_eq!(encode(codec, &Some(Unit)).is_err(), codec == Codec::Json, "{codec}");
    }
    assert_roundtrips_in(built([Codec::Bincode, Codec::Postcard, Codec::MessagePack]), [Some(Unit), None]);
    assert_roundtrips_in(built(BARE), [Some(None), Some(Some(1)), None]);
    assert_roundtrips_in(built(BARE), [Some(()), None]);
}

#[test]
fn distinguishable_options_are_carried() {
    assert_roundtrips([Patch { note: None }, Patch { note: Some(Some("x".to_owned())) }]);
    assert_roundtrips([Some(Some(1)), None]);
    assert_roundtrips([Some(vec![None::<()>]), Some(vec![]), None]);
    assert_roundtrips([Some((None::<u8>, ())), None]);
    assert_roundtrips([Some(Ok::<(), ()>(())), Some(Err(())), None]);
    assert_roundtrips([Some(std::collections::BTreeMap::from([(1, None::<u8>)])), None]);
    assert_roundtrips([Some(String::new()), None]);
    // An earlier value proves nothing about a later one.
    assert_roundtrips([(Some(1), (), None::<u8>)]);
}

#[test]
fn keys_that_json_lacks_are_refused() {
    use std::collections::BTreeMap;
    let pairs = BTreeMap::from([((1, 2), 3)]);
    assert_roundtrips_in(built([Codec::Bincode, Codec::Postcard, Codec::MessagePack]), [pairs.clone()]);
    let lists = BTreeMap::from([(vec![1], Wrapped(None))]);
    assert_roundtrips_in(built([Codec::Bincode, Codec::Postcard, Codec::MessagePack]), [lists]);
    for codec in built([Codec::Json]) {
        assert!(encode(codec, &pairs).expect_err("is refused").to_string().contains("neither a text nor a number"));
    }
    assert_roundtrips([BTreeMap::from([(1, 2)])]);
    assert_roundtrips([BTreeMap::from([('x', true)])]);
}

#[test]
fn numbers_that_json_lacks_are_refused() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for codec in built([Codec::Json]) {
            assert!(encode(codec, &number).expect_err("is refused").to_string().contains("NaN or infinity"));
            assert!(encode(codec, &[Some(number as f32)]).is_err());
        }
        for codec in built([Codec::Bincode, Codec::Postcard, Codec::MessagePack]) {
            assert_eq!(roundtrip(codec, &number).expect("is carried").to_bits(), number.to_bits(), "{codec}");
        }
    }
}

#[test]
fn value_that_no_codec_carries_is_refused_with_the_reason_of_one_that_writes_names() {
    if !Codec::Json.is_available() {
        return;
    }
    for codec in built(BARE) {
        let error = encode_as::<Option<serde_json::Value>, _>(codec, &Some(serde_json::Value::Null));
        let error = error.expect_err("is refused").to_string();
        let ends = error.ends_with("needs no `Option`: use an enum that names the cases)");
        assert!(error.contains("no codec of this build carries it (") && ends, "{error}");
    }
}
