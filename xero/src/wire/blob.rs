//! Bytes as bytes: MessagePack's `bin`, length and content in bincode, base64 in JSON (`PROTOCOL.md` §7).

use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::{Bytes, BytesMut};
use serde::{
    Deserializer, Serializer,
    de::{Error, SeqAccess, Unexpected, Visitor},
};

use super::{Form, Own, Ref, Wire, WireOwned, frame, shapes::wrapped};

/// Bytes: `Vec<u8>`, `[u8]`, `[u8; N]`, `Box<[u8]>`, `Arc<[u8]>`, `Cow<'static, [u8]>`, `Bytes` and `BytesMut`.
#[derive(Debug)]
pub struct Blob;

wrapped!(impl[] Form for Blob);

impl<T: AsRef<[u8]> + ?Sized> Wire<T> for Blob {
    fn write<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&BASE64.encode(value)),
            false => serializer.serialize_bytes(value.as_ref()),
        }
    }
}

impl<T: BlobValue> WireOwned<T> for Blob {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let is_human_readable = deserializer.is_human_readable();
        let visitor = BlobVisitor { is_human_readable, value: PhantomData };
        match (is_human_readable, T::IS_COPIED) {
            (true, _) => deserializer.deserialize_any(visitor),
            (false, true) => deserializer.deserialize_byte_buf(visitor),
            (false, false) => deserializer.deserialize_bytes(visitor),
        }
    }
}

/// A type that owns bytes.
pub trait BlobValue: AsRef<[u8]> + Sized {
    /// Whether it copies the received bytes, so that a deserializer may make that copy.
    const IS_COPIED: bool;

    /// The bytes as this type.
    ///
    /// # Errors
    /// When they are too few or too many.
    fn from_vec<E: Error>(bytes: Vec<u8>) -> Result<Self, E>;

    /// The bytes, possibly in a received frame, as this type.
    ///
    /// # Errors
    /// When they are too few or too many.
    fn from_slice<E: Error>(bytes: &[u8]) -> Result<Self, E> {
        Self::from_vec(bytes.to_vec())
    }
}

impl BlobValue for Vec<u8> {
    const IS_COPIED: bool = true;

    fn from_vec<E: Error>(bytes: Vec<u8>) -> Result<Self, E> {
        Ok(bytes)
    }
}

macro_rules! copied {
    ($($type:ty),*) => {
        $(impl BlobValue for $type {
            const IS_COPIED: bool = true;

            fn from_vec<E: Error>(bytes: Vec<u8>) -> Result<Self, E> {
                Ok(bytes.into())
            }
        })*
    };
}

copied!(Box<[u8]>, Arc<[u8]>, Cow<'_, [u8]>);

impl BlobValue for BytesMut {
    const IS_COPIED: bool = true;

    fn from_vec<E: Error>(bytes: Vec<u8>) -> Result<Self, E> {
        Ok(Bytes::from(bytes).into())
    }
}

impl BlobValue for Bytes {
    const IS_COPIED: bool = false;

    fn from_vec<E: Error>(bytes: Vec<u8>) -> Result<Self, E> {
        Ok(bytes.into())
    }

    fn from_slice<E: Error>(bytes: &[u8]) -> Result<Self, E> {
        Ok(frame::piece(bytes))
    }
}

impl<const N: usize> BlobValue for [u8; N] {
    const IS_COPIED: bool = false;

    fn from_vec<E: Error>(bytes: Vec<u8>) -> Result<Self, E> {
        Self::from_slice(&bytes)
    }

    fn from_slice<E: Error>(bytes: &[u8]) -> Result<Self, E> {
        Self::try_from(bytes).map_err(|_| E::invalid_length(bytes.len(), &ByteCount(N)))
    }
}

struct ByteCount(usize);

impl serde::de::Expected for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

/// Accepts bytes in each form that a peer may write: [`Blob`]'s, and serde's sequence of numbers for a `Vec<u8>`.
struct BlobVisitor<T> {
    is_human_readable: bool,
    value: PhantomData<T>,
}

impl<'de, T: BlobValue> Visitor<'de> for BlobVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_human_readable { "bytes in base64" } else { "bytes" })
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
        T::from_slice(bytes)
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<T, E> {
        T::from_vec(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        if !self.is_human_readable {
            return Err(E::invalid_type(Unexpected::Str(text), &self));
        }
        match BASE64.decode(text) {
            Ok(bytes) => T::from_vec(bytes),
            Err(error) => Err(E::custom(format_args!("the text is not bytes in base64: {error}"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<T, A::Error> {
        let mut bytes = Vec::with_capacity(numbers.size_hint().unwrap_or(0).min(RESERVED_BYTES_MAX));
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        T::from_vec(bytes)
    }
}

/// The most bytes to reserve for a sequence whose length is only declared.
const RESERVED_BYTES_MAX: usize = 4096;

/// RFC 4648 §4: the standard alphabet, written with padding and read with or without it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec,
        proto::message::{Codec, Payload},
        wire,
    };

    fn encode<T: Wire<[u8]>>(codec: Codec, bytes: &[u8]) -> Payload {
        codec::encode(codec, &Ref::<T, [u8]>::new(bytes)).expect("encodes")
    }

    fn decode<T: BlobValue + 'static>(codec: Codec, bytes: impl Into<Bytes>) -> Result<T, String> {
        let payload = Payload { codec, bytes: bytes.into() };
        wire::decode::<Blob, T>(&payload).map_err(|error| error.reason().to_owned())
    }

    #[test]
    fn each_codec_has_its_form_of_bytes() {
        let forms: [(Codec, &[u8]); 3] =
            [(Codec::Bincode, b"\x03abc"), (Codec::MessagePack, b"\xc4\x03abc"), (Codec::Json, b"\"YWJj\"")];
        for (codec, form) in forms {
            assert_eq!(encode::<Blob>(codec, b"abc").bytes, form, "{codec}");
        }
        assert_eq!(encode::<Blob>(Codec::Json, b"a").bytes, &b"\"YQ==\""[..], "padding is written");
        assert_eq!(encode::<Blob>(Codec::Json, b"\xfb\xff").bytes, &b"\"+/8=\""[..], "the standard alphabet");
    }

    #[test]
    fn each_type_reads_what_was_written() {
        for codec in Codec::available() {
            for bytes in [&b""[..], b"abc", &[255; 70_000]] {
                let written = encode::<Blob>(codec, bytes).bytes;
                assert_eq!(decode::<Vec<u8>>(codec, written.clone()).expect("a vector"), bytes);
                assert_eq!(decode::<Box<[u8]>>(codec, written.clone()).expect("a box"), bytes.into());
                assert_eq!(decode::<Cow<'static, [u8]>>(codec, written.clone()).expect("a cow"), bytes);
                assert_eq!(decode::<Arc<[u8]>>(codec, written.clone()).expect("an arc"), bytes.into());
                assert_eq!(decode::<BytesMut>(codec, written.clone()).expect("mutable bytes"), bytes);
                assert_eq!(decode::<Bytes>(codec, written).expect("bytes"), bytes);
            }
            assert_eq!(decode(codec, encode::<Blob>(codec, b"abc").bytes), Ok(*b"abc"), "{codec}");
        }
    }

    #[test]
    fn numbers_and_base64_without_padding_are_read_as_well() {
        for bytes in [&b"[97]"[..], b"\"YQ\"", b"\"YQ==\""] {
            assert_eq!(decode(Codec::Json, bytes), Ok(b"a".to_vec()));
        }
        assert_eq!(decode(Codec::MessagePack, &b"\x92\x61\xcc\xff"[..]), Ok(b"a\xff".to_vec()));
        let declared = [0xdd, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(decode::<Vec<u8>>(Codec::MessagePack, declared.to_vec()).is_err(), "a length that is only declared");
    }

    #[test]
    fn other_values_than_bytes_are_an_error() {
        let cases: [(Codec, &[u8], &str); 6] = [
            (Codec::Json, b"\"a b\"", "the text is not bytes in base64: "),
            (Codec::Json, b"null", "expected bytes in base64"),
            (Codec::Json, b"[256]", "expected u8"),
            (Codec::Json, b"{}", "expected bytes in base64"),
            (Codec::MessagePack, b"\xa3abc", "expected bytes"),
            (Codec::Bincode, b"\xfb\xff\xffabc", ""),
        ];
        for (codec, bytes, message) in cases {
            let error = decode::<Vec<u8>>(codec, bytes).expect_err("no bytes");
            assert!(error.contains(message), "{codec} {bytes:?}: {error}");
        }
    }

    #[test]
    fn an_array_of_another_length_is_an_error_with_both_lengths() {
        for codec in Codec::available() {
            let error = decode::<[u8; 16]>(codec, encode::<Blob>(codec, b"abc").bytes).expect_err("too short");
            assert!(error.contains("invalid length 3, expected 16 bytes"), "{codec}: {error}");
        }
    }

    #[test]
    fn bytes_are_taken_from_the_frame_without_a_copy() {
        let content = vec![7; 100_000];
        let frame = encode::<Blob>(Codec::Bincode, &content).bytes;
        let value: Bytes = decode(Codec::Bincode, frame.clone()).expect("bytes");
        assert_eq!(value, content);
        assert!(frame.as_ptr_range().contains(&value.as_ptr()));
    }
}
