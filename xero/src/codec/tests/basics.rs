//! Values survive, mistakes are errors, and no declared length is trusted.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Arguments {
    str1: String,
    count: u64,
    tags: Option<BTreeMap<String, Vec<i32>>>,
}

fn arguments() -> Arguments {
    let tags = BTreeMap::from([("a".to_owned(), vec![1, -2, 300_000])]);
    Arguments { str1: "äpple".to_owned(), count: u64::MAX, tags: Some(tags) }
}

#[test]
fn values_survive_each_codec() {
    for codec in built(Codec::ALL) {
        let payload = encode(codec, &arguments()).expect("encodes");
        assert_eq!(decode::<Arguments>(&payload).expect("decodes"), arguments(), "{codec}");
    }
}

#[test]
fn trailing_bytes_are_an_error_in_each_codec() {
    for codec in built(Codec::ALL) {
        let mut bytes = encode(codec, &arguments()).expect("encodes").bytes.to_vec();
        bytes.push(7);
        let error = decode::<Arguments>(&Payload { codec, bytes: bytes.into() }).expect_err("is refused");
        assert!(error.to_string().contains("Arguments"), "{error}");
    }
}

#[test]
fn every_truncation_is_an_error_in_each_codec() {
    for codec in built(Codec::ALL) {
        let bytes = encode(codec, &arguments()).expect("encodes").bytes;
        for length in 0..bytes.len() {
            let payload = Payload { codec, bytes: bytes.slice(..length) };
            assert!(decode::<Arguments>(&payload).is_err(), "{codec} at {length}");
        }
    }
}

#[test]
fn declared_length_of_a_petabyte_is_an_error_and_no_allocation() {
    // A bincode varint of 2^50: marker 253, then eight bytes.
    let mut bytes = vec![253];
    bytes.extend_from_slice(&(1_u64 << 50).to_le_bytes());
    let payload = Payload { codec: Codec::Bincode, bytes: bytes.into() };
    assert!(decode::<String>(&payload).is_err());
    assert!(decode::<Vec<u8>>(&payload).is_err());
    assert!(decode::<Vec<u64>>(&payload).is_err());
}

#[test]
fn self_describing_codecs_take_arguments_by_position_and_by_name() {
    let positional = serde_json::json!(["a", 1, null]);
    let named = serde_json::json!({"count": 1, "tags": null, "str1": "a"});
    let expected = Arguments { str1: "a".to_owned(), count: 1, tags: None };
    for codec in [Codec::MessagePack, Codec::Json] {
        for value in [&positional, &named] {
            let payload = encode(codec, value).expect("encodes");
            assert_eq!(decode::<Arguments>(&payload).expect("decodes"), expected, "{codec} {value}");
        }
    }
}

#[test]
fn large_payloads_are_within_the_limit_of_every_step() {
    for size in [100, 5_000, 70_000, 2_000_000, 20_000_000] {
        let value = vec![u64::from(u8::MAX); size / 8];
        let payload = encode(Codec::Bincode, &value).expect("encodes");
        assert_eq!(decode::<Vec<u64>>(&payload).expect("decodes"), value);
    }
}

#[test]
fn bare_codecs_write_arrays_characters_and_wide_integers_as_the_protocol_says() {
    fn written<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static>(
        value: &T,
        bincode: &[u8],
        postcard: &[u8],
    ) {
        for (codec, expected) in [(Codec::Bincode, bincode), (Codec::Postcard, postcard)] {
            if codec.is_available() {
                let payload = encode(codec, value).expect("encodes");
                assert_eq!(payload.bytes, expected, "{codec} of {value:?}");
                assert_eq!(&decode::<T>(&payload).expect("decodes"), value, "{codec}");
            }
        }
    }
    let wide = |first: u8| [&[first][..], &[0xff; 16]].concat();
    let groups = [&[0xff; 18][..], &[3]].concat();
    written(&[1_u16, 2, 300], &[1, 2, 251, 44, 1], &[1, 2, 0xac, 2]);
    written(&[7_u8; 2], &[7, 7], &[7, 7]);
    written(&[(); 2], &[], &[]);
    written(&'a', b"a", b"\x01a");
    written(&'é', "é".as_bytes(), "\x02é".as_bytes());
    written(&'😀', "😀".as_bytes(), "\x04😀".as_bytes());
    written(&250_u128, &[250], &[0xfa, 1]);
    written(&251_u128, &[251, 251, 0], &[0xfb, 1]);
    written(&u128::MAX, &wide(254), &groups);
    written(&-1_i128, &[1], &[1]);
    written(&i128::MIN, &wide(254), &groups);
    written(&-1_i8, &[0xff], &[0xff]);
}
