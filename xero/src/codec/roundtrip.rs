//! Assertions for users' own tests: do their types survive the codecs?

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

use super::{decode, encode_as};
use crate::proto::message::Codec;

/// Asserts that values survive each codec of this build: written and read back, they are equal.
///
/// For the tests of your own types. It finds attributes of serde that fail in a codec without names (bincode,
/// postcard), such as `#[serde(skip_serializing_if)]`, `#[serde(untagged)]`, and `#[serde(skip)]` on a variant that is
/// not the last one. It also finds `Some(None)`, which MessagePack and JSON do not have. Give it a value of each
/// variant. For a type that is meant for some codecs only, use [`assert_roundtrips_in`]. (`PROTOCOL.md` §7)
///
/// ```
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum Command {
///     Start { at: u64 },
///     Stop,
/// }
///
/// xero::assert_roundtrips::<Command>([Command::Start { at: 7 }, Command::Stop]);
/// ```
///
/// # Panics
/// When a value does not survive; the message names the codec, the place in the value, and the remedy.
#[track_caller]
pub fn assert_roundtrips<T>(values: impl IntoIterator<Item = T>)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    assert_roundtrips_in(Codec::available(), values);
}

/// Asserts that values survive these codecs; see [`assert_roundtrips`].
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use xero::Codec;
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Job {
///     #[serde(default, skip_serializing_if = "Vec::is_empty")] // only for codecs that name the fields
///     tags: Vec<String>,
///     path: String,
/// }
///
/// let job = Job { tags: Vec::new(), path: "/".to_owned() };
/// xero::assert_roundtrips_in([Codec::MessagePack, Codec::Json], [job]);
/// ```
///
/// # Panics
/// When a value does not survive; the message names the codec, the place in the value, and the remedy.
#[track_caller]
pub fn assert_roundtrips_in<T>(codecs: impl IntoIterator<Item = Codec>, values: impl IntoIterator<Item = T>)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    let codecs: Vec<_> = codecs.into_iter().collect();
    for value in values {
        for codec in &codecs {
            if let Err(reason) = roundtrip(*codec, &value) {
                panic!("{value:?} does not survive {codec}: {reason}");
            }
        }
    }
}

fn roundtrip<T>(codec: Codec, value: &T) -> Result<(), String>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    let payload = encode_as::<T, T>(codec, value).map_err(|error| error.to_string())?;
    let read: T = decode(&payload).map_err(|error| error.to_string())?;
    #[allow(clippy::eq_op)]
    let is_equal_to_itself = value == value;
    match read == *value {
        true => Ok(()),
        false if is_equal_to_itself => Err(format!("it arrives as {read:?}")),
        false => Err("it is not equal to itself, like NaN, so it cannot be compared".to_owned()),
    }
}
