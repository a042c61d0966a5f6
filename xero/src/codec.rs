//! Values to payloads and back (`PROTOCOL.md` §7); knows no frames.

mod guard;

use std::marker::PhantomData;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use self::guard::{Budget, DEPTH_MAX, Guarded};
use crate::proto::message::{Codec, Payload};

/// A value that could not be written, or bytes that are not such a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{codec} cannot {action} `{type_name}`: {reason}")]
pub struct CodecError {
    codec: Codec,
    action: &'static str,
    type_name: &'static str,
    reason: String,
}

impl CodecError {
    fn new<T: ?Sized>(codec: Codec, action: &'static str, reason: impl ToString) -> Self {
        Self { codec, action, type_name: short_type_name::<T>(), reason: reason.to_string() }
    }

    /// Arguments are there already, in another codec.
    pub(crate) fn too_late(codec: Codec) -> Self {
        let reason = "the codec was chosen after the arguments: choose it first".to_owned();
        Self { codec, action: "write", type_name: "arguments", reason }
    }

    /// The codec that failed.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What is wrong, as the codec's library says it.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Writes a value.
///
/// # Errors
/// When the value's `Serialize` fails, or asks for what the codec does not have (a sequence of unknown length in
/// bincode, a map whose keys are not strings in JSON).
pub(crate) fn encode<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<Payload, CodecError> {
    let bytes = match codec {
        Codec::Bincode => {
            bincode::serde::encode_to_vec(value, BINCODE).map_err(|error| CodecError::new::<T>(codec, "write", error))
        }
        Codec::MessagePack => {
            rmp_serde::to_vec_named(value).map_err(|error| CodecError::new::<T>(codec, "write", error))
        }
        Codec::Json => serde_json::to_vec(value).map_err(|error| CodecError::new::<T>(codec, "write", error)),
    };
    Ok(Payload { codec, bytes: Bytes::from(bytes?) })
}

/// Reads a value. All bytes must belong to it.
///
/// # Errors
/// When the bytes are not such a value, or are followed by others.
pub(crate) fn decode<T: DeserializeOwned>(payload: &Payload) -> Result<T, CodecError> {
    let codec = payload.codec;
    let bytes = &payload.bytes[..];
    let failed = |reason: String| CodecError::new::<T>(codec, "read", reason);
    match codec {
        // The bytes do not say what they are, so all that shows is that they do not fit.
        Codec::Bincode => decode_bincode(bytes)
            .map_err(|reason| failed(format!("{reason} (are both sides built from the same types?)"))),
        Codec::MessagePack => {
            let mut reader = bytes;
            let mut deserializer = rmp_serde::Deserializer::new(&mut reader);
            deserializer.set_max_depth(DEPTH_MAX);
            let value = T::deserialize(&mut deserializer);
            match (value, reader.len()) {
                (Ok(value), 0) => Ok(value),
                (Ok(_), rest) => Err(failed(format!("{rest} bytes are left over"))),
                (Err(error), _) => Err(failed(error.to_string())),
            }
        }
        Codec::Json => serde_json::from_slice(bytes).map_err(|error| failed(error.to_string())),
    }
}

const BINCODE: bincode::config::Configuration = bincode::config::standard();

/// bincode believes a declared length and allocates for it unless it has a limit, which is part of its type. A value
/// never claims more than 16 bytes for each byte it was written in (a `u128` in one byte), so the limit is the next
/// step above that.
fn decode_bincode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    macro_rules! within {
        ($($limit:literal)*) => {
            match bytes.len().saturating_mul(16) {
                $(0..=$limit => decode_bincode_within(bytes, BINCODE.with_limit::<$limit>()),)*
                _ => decode_bincode_within(bytes, BINCODE.with_limit::<{ usize::MAX }>()),
            }
        };
    }
    within!(0x1000 0x1_0000 0x10_0000 0x100_0000 0x1000_0000 0x7FFF_FFFF)
}

fn decode_bincode_within<T: DeserializeOwned>(bytes: &[u8], config: impl bincode::config::Config) -> Result<T, String> {
    let mut budget = Budget::new(bytes.len());
    let seed = Guarded { inner: PhantomData::<T>, budget: &mut budget };
    let (value, length) =
        bincode::serde::seed_decode_from_slice(seed, bytes, config).map_err(|error| error.to_string())?;
    match bytes.len() - length {
        0 => Ok(value),
        rest => Err(format!("{rest} bytes are left over")),
    }
}

/// The type's name without the modules it is in. The struct of a method's arguments, which users have never seen, goes
/// without the prefix and the parameters that generated code gives it.
fn short_type_name<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    let generated = name.split('<').next().and_then(|path| path.rsplit_once("::__"));
    if let Some((_, name)) = generated {
        return name;
    }
    match name.contains('<') {
        true => name,
        false => name.rsplit("::").next().unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
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
        for codec in Codec::ALL {
            let payload = encode(codec, &arguments()).expect("encodes");
            assert_eq!(decode::<Arguments>(&payload).expect("decodes"), arguments(), "{codec}");
        }
    }

    #[test]
    fn arguments_of_a_generated_struct_have_the_name_of_their_method() {
        #[derive(Deserialize)]
        struct __CompareArguments<T> {
            _str1: T,
        }
        let payload = encode(Codec::Json, &1).expect("encodes");
        let Err(error) = decode::<__CompareArguments<Vec<String>>>(&payload) else { panic!("1 is no struct") };
        assert!(error.to_string().starts_with("JSON cannot read `CompareArguments`: "), "{error}");
    }

    #[test]
    fn trailing_bytes_are_an_error_in_each_codec() {
        for codec in Codec::ALL {
            let mut bytes = encode(codec, &arguments()).expect("encodes").bytes.to_vec();
            bytes.push(7);
            let error = decode::<Arguments>(&Payload { codec, bytes: bytes.into() }).expect_err("is refused");
            assert!(error.to_string().contains("Arguments"), "{error}");
        }
    }

    #[test]
    fn every_truncation_is_an_error_in_each_codec() {
        for codec in Codec::ALL {
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
    fn elements_of_no_size_cannot_keep_a_thread_busy() {
        let mut bytes = vec![253];
        bytes.extend_from_slice(&(1_u64 << 40).to_le_bytes());
        let payload = Payload { codec: Codec::Bincode, bytes: bytes.into() };
        let error = decode::<Vec<()>>(&payload).expect_err("is refused");
        assert!(error.reason().contains("more elements than bytes"), "{error}");
        assert!(decode::<Vec<[u64; 0]>>(&payload).is_err());
    }

    #[test]
    fn nested_values_cannot_use_up_the_stack() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Node {
            next: Option<Box<Self>>,
        }
        for codec in [Codec::Bincode, Codec::MessagePack] {
            let bytes = match codec {
                Codec::Bincode => vec![1; 1_000_000],
                _ => vec![0x91; 1_000_000],
            };
            assert!(decode::<Node>(&Payload { codec, bytes: bytes.into() }).is_err(), "{codec}");
        }
        let chain = (0..50).fold(Node { next: None }, |node, _| Node { next: Some(Box::new(node)) });
        let payload = encode(Codec::Bincode, &chain).expect("encodes");
        assert!(decode::<Node>(&payload).is_ok());
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
}
