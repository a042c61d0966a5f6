//! A value in its encoded form.

use std::{error::Error, fmt};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::{self, CodecError},
    proto::message::{Codec, Payload},
    wire::{self, Blob, Opt},
};

use super::method::Method;

/// An encoded value with its codec: a partial reply, or the outcome of a dynamic call.
///
/// Only the caller knows its type.
#[derive(Clone)]
pub struct Value {
    pub(super) payload: Payload,
    /// The reply that it is, for errors: such as "a reply", and its method.
    pub(super) origin: Option<(&'static str, Method)>,
}

impl Value {
    /// Encodes a value, for tests or for sending later.
    ///
    /// ```
    /// use xero::{Codec, Value};
    ///
    /// # fn main() -> Result<(), xero::CodecError> {
    /// let value = Value::encode(Codec::Json, &("apple", 1))?;
    /// assert_eq!(value.to_string(), r#"["apple",1]"#);
    /// assert_eq!(value.decode::<(String, u8)>()?, ("apple".to_owned(), 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the value's `Serialize` fails, or the codec cannot carry it.
    pub fn encode<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Result<Self, CodecError> {
        Ok(Self { payload: codec::encode(codec, value)?, origin: None })
    }

    /// Wraps encoded bytes without checking them; [`Self::decode`] does.
    pub fn from_bytes(codec: Codec, bytes: impl Into<Bytes>) -> Self {
        Self { payload: Payload { codec, bytes: bytes.into() }, origin: None }
    }

    /// Reads the value as serde does.
    ///
    /// Bytes that a method returns, such as a `Vec<u8>`, are a text in JSON, and bytes in MessagePack. Read them with
    /// [`Self::decode_bytes`].
    ///
    /// # Errors
    /// When it is not a `T`; the error names the place, and the method whose reply it is.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        self.read(codec::decode(&self.payload))
    }

    /// Reads the bytes that a method returns or fails with, whichever of the types `Vec<u8>`, `[u8; N]`, `Bytes` and the
    /// like it declares.
    ///
    /// ```
    /// use xero::{Client, Codec, Worker};
    ///
    /// #[xero::service]
    /// trait Images {
    ///     async fn pixel(&self, rgb: Vec<u8>) -> Vec<u8>;
    /// }
    ///
    /// struct Studio;
    ///
    /// #[xero::worker]
    /// impl Images for Studio {
    ///     async fn pixel(&self, rgb: Vec<u8>) -> Vec<u8> {
    ///         rgb
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::bind("inproc://decode-bytes-example").await?;
    /// # let worker = Worker::connect("inproc://decode-bytes-example").serve(Studio).start()?;
    /// let pixel = client.call("Images.pixel").codec(Codec::Json).arguments(&([1, 200, 3],)).await?;
    /// assert_eq!(pixel.decode_bytes()?, [1, 200, 3][..]);
    /// assert_eq!(pixel.decode::<String>()?, "AcgD"); // in base64
    /// # worker.drain().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the value is not bytes.
    pub fn decode_bytes(&self) -> Result<Bytes, CodecError> {
        self.read(wire::decode::<Blob, Bytes>(&self.payload))
    }

    /// The same for an `Option` of bytes.
    ///
    /// # Errors
    /// When the value is neither bytes nor `None`.
    pub fn decode_optional_bytes(&self) -> Result<Option<Bytes>, CodecError> {
        self.read(wire::decode::<Opt<Blob>, Option<Bytes>>(&self.payload))
    }

    fn read<T>(&self, read: Result<T, CodecError>) -> Result<T, CodecError> {
        read.map_err(|error| match &self.origin {
            Some((reply, method)) => error.within(reply, method),
            None => error,
        })
    }

    /// The codec that the value is written in.
    pub fn codec(&self) -> Codec {
        self.payload.codec
    }

    /// The encoded value.
    pub fn bytes(&self) -> &Bytes {
        &self.payload.bytes
    }
}

/// Values are equal if they have the same bytes and the same codec, whatever their origin.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.payload == other.payload
    }
}

impl Eq for Value {}

/// A call without types gives the method's own error as a value too.
impl Error for Value {}

/// The value as JSON if it has such a form.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Payload { codec, bytes } = &self.payload;
        match (codec, std::str::from_utf8(bytes)) {
            (Codec::Json, Ok(text)) => return f.write_str(text),
            #[cfg(feature = "json")]
            (Codec::MessagePack, _) => {
                if let Ok(value) = self.decode::<serde_json::Value>() {
                    return value.fmt(f);
                }
            }
            _ => {}
        }
        match bytes.len() {
            1 => write!(f, "1 byte of {codec}"),
            count => write!(f, "{count} bytes of {codec}"),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Value").field(&format_args!("{self}")).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_shown_as_json_if_possible() {
        let shown = |codec| Value::encode(codec, &("apple", 1)).expect("encodes").to_string();
        assert_eq!(shown(Codec::Json), r#"["apple",1]"#);
        assert_eq!(shown(Codec::MessagePack), r#"["apple",1]"#);
        assert_eq!(shown(Codec::Bincode), "7 bytes of bincode");
        assert_eq!(format!("{:?}", Value::from_bytes(Codec::Bincode, [0].as_slice())), "Value(1 byte of bincode)");
    }
}
