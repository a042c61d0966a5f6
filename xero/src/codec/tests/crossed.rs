//! Halves with as many fields and not the same ones, values that their own reader refuses, and values that are large
//! or deep for their reader alone.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serializer};

use super::*;

/// A password that only arrives and a time that only leaves, as in types of the web.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    id: u32,
    #[serde(skip_serializing, default)]
    password: String,
    #[serde(skip_deserializing)]
    created_at: String,
}

fn account(password: &str, created_at: &str) -> Account {
    Account { id: 1, password: password.to_owned(), created_at: created_at.to_owned() }
}

#[test]
fn field_skipped_by_one_half_does_not_arrive_as_another_one_skipped_by_the_other() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Event {
        Made {
            #[serde(skip_serializing, default)]
            by: u8,
            at: u8,
            #[serde(skip_deserializing)]
            from: u8,
        },
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Aliased {
        #[serde(alias = "ID")]
        id: u32,
        #[serde(skip_serializing, default)]
        password: String,
        #[serde(skip_deserializing)]
        created_at: String,
    }
    for codec in built(BARE) {
        // Nothing would be lost, so this teaches nothing about the type.
        assert_eq!(roundtrip(codec, &account("", "")).expect("is the same for both"), account("", ""), "{codec}");
        let error = refused(codec, &account("secret", "2026"));
        assert!(
            error.contains("a field would arrive as another one") && error.contains("MessagePack or JSON"),
            "{error}"
        );
        let error = refused(codec, &vec![account("", ""), account("", "2026")]);
        assert!(error.contains("a field would arrive as another one"), "{error}");
        // Here both halves share a field, at different places.
        assert!(encode_as::<Event, _>(codec, &Event::Made { by: 1, at: 2, from: 3 }).is_err(), "{codec}");
        // An alias makes the reader's list of names longer.
        let error = refused(codec, &Aliased { id: 1, password: "secret".to_owned(), created_at: "2026".to_owned() });
        assert!(error.contains("a field would arrive as another one"), "{error}");
        // Beside unordered parts, whose order tells nothing.
        let crowd: HashMap<_, _> = (0..20).map(|id| (id, account("secret", "2026"))).collect();
        assert!(encode_as::<HashMap<i32, Account>, _>(codec, &crowd).is_err(), "{codec}");
    }
    for codec in built(NAMED) {
        assert_eq!(roundtrip(codec, &account("secret", "2026")).expect("is carried"), account("", ""), "{codec}");
    }
}

#[test]
fn field_that_is_renamed_for_one_half_is_carried_beside_unordered_parts() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Renamed {
        #[serde(rename(serialize = "number"))]
        id: u8,
        parts: HashMap<u32, u32>,
    }
    let value = |parts| Renamed { id: 7, parts: (0..parts).map(|part| (part, part)).collect() };
    for codec in built(BARE) {
        for parts in [0, 1, 2, 3, 50].repeat(10) {
            assert_eq!(roundtrip(codec, &value(parts)).expect("is carried"), value(parts), "{codec}, {parts}");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Even(u8);

impl TryFrom<u8> for Even {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        if number.is_multiple_of(2) { Ok(Self(number)) } else { Err(format!("{number} is odd")) }
    }
}

impl From<Even> for u8 {
    fn from(Even(number): Even) -> Self {
        number
    }
}

#[test]
fn value_that_its_own_reader_refuses_is_blamed_on_the_value() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        id: u8,
        amount: Even,
    }
    for codec in built(Codec::ALL) {
        let error = refused(codec, &Order { id: 1, amount: Even(3) });
        assert!(
            error.contains("the `Deserialize` of `xero::Even` refuses what its `Serialize` writes (3 is odd)"),
            "{error}"
        );
        assert!(error.contains("no codec of this build carries it") && !error.contains("skip_serializing"), "{error}");
        // Where the form is known, the reader refuses it.
        let sent = encode_as::<Even, _>(codec, &Even(2)).and_then(|_| encode_as::<Even, _>(codec, &Even(3)));
        let error = decode::<Even>(&sent.expect("looks like the other one")).expect_err("is odd").to_string();
        assert!(error.contains("3 is odd") && !error.contains("both sides"), "{error}");
    }
}

#[test]
fn errors_of_later_arguments_blame_the_argument_and_its_type() {
    #[derive(Debug, Serialize, Deserialize)]
    struct __MoveArguments<A, B> {
        first: A,
        second: B,
    }
    /// Writes one kind of number, and reads another.
    #[derive(Debug)]
    struct Mixed(u32);
    impl Serialize for Mixed {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_f64(self.0.into())
        }
    }
    impl<'de> Deserialize<'de> for Mixed {
        fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            u32::deserialize(deserializer).map(Self)
        }
    }
    for codec in built(BARE) {
        let odd = __MoveArguments { first: Even(2), second: Even(3) };
        let error =
            encode_arguments::<__MoveArguments<Even, Even>, _>(codec, &odd).expect_err("is refused").to_string();
        assert!(error.contains("the argument `second`") && error.contains("`xero::Even`"), "{error}");
        assert!(!error.contains("__"), "{error}");
        let mixed = __MoveArguments { first: 1_u8, second: Mixed(3) };
        let error =
            encode_arguments::<__MoveArguments<u8, Mixed>, _>(codec, &mixed).expect_err("is refused").to_string();
        assert!(error.contains("the argument `second`") && !error.contains("__"), "{error}");
    }
}

#[test]
fn wide_integers_in_a_buffer_are_refused_with_their_reason() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wide {
        number: u128,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Around {
        #[serde(flatten)]
        wide: Wide,
    }
    for codec in built(NAMED) {
        let error = refused(codec, &Around { wide: Wide { number: u128::MAX } });
        assert!(error.contains("has a 128-bit integer within") && error.contains("no codec of this build"), "{error}");
    }
}

#[test]
fn floats_in_a_buffer_arrive_as_they_were() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        number: f32,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Around {
        #[serde(flatten)]
        inner: Inner,
    }
    // The shortest text of the first, read as an `f64`, lies on the other side of the middle between two `f32`s.
    for bits in [0x15ae_43fd, 0x15ae_43fe, 1, 0x0080_0000, 0x7f7f_ffff, 0x3dcc_cccd] {
        let number = f32::from_bits(bits);
        assert_roundtrips_in(built(NAMED), [Around { inner: Inner { number } }]);
        assert_roundtrips_in(built(Codec::ALL), [number]);
    }
    assert_eq!(&encode(Codec::Json, &0.1_f32).expect("is a number").bytes[..], b"0.1");
    assert_roundtrips_in(built(NAMED), [Around { inner: Inner { number: 7.038531e-26 } }]);
}

#[test]
fn keys_that_json_lacks_are_refused_with_the_codecs_that_carry_them() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Number(u8),
        Text(String),
    }
    let plain = BTreeMap::from([((1_u8, 2_u8), 3_u8)]);
    let error = refused(Codec::Json, &plain);
    assert!(error.contains("use such a key, or use bincode or MessagePack"), "{error}");
    let untagged = BTreeMap::from([((1_u8, 2_u8), Any::Number(3))]);
    let error = refused(Codec::Json, &untagged);
    assert!(error.contains("use such a key, or use MessagePack for it"), "{error}");
    let error = refused(Codec::Json, &(f64::NAN, Any::Number(3)));
    assert!(error.contains("use `None`, or use MessagePack for it"), "{error}");
}

/// Bytes without an allocation, written one by one.
struct Flat<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Flat<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(N)?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

impl<'de, const N: usize> Deserialize<'de> for Flat<N> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const N: usize>;
        impl<'de, const N: usize> de::Visitor<'de> for Bytes<N> {
            type Value = Flat<N>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{N} bytes")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Flat<N>, A::Error> {
                let mut bytes = [0; N];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = access.next_element()?.ok_or_else(|| de::Error::invalid_length(index, &self))?;
                }
                Ok(Flat(bytes))
            }
        }
        deserializer.deserialize_tuple(N, Bytes)
    }
}

#[derive(Serialize, Deserialize)]
struct Image<const N: usize> {
    pixels: Flat<N>,
}

/// Writes and reads a boxed image in a thread with the stack of Tokio's.
fn carry<const N: usize>(codec: Codec) -> Result<(), CodecError> {
    let carry = move || {
        let image: Box<Image<N>> = Box::new(Image { pixels: Flat([7; N]) });
        let payload = encode_as::<Box<Image<N>>, _>(codec, &image)?;
        let read: Box<Image<N>> = decode(&payload)?;
        assert!(read.pixels.0 == image.pixels.0, "{N} bytes");
        Ok(())
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(carry).expect("a thread");
    thread.join().expect("no panic")
}

/// Carries an image of one size.
type Carry = fn(Codec) -> Result<(), CodecError>;

/// Without optimizations, larger ones overflow such a stack before any code of theirs runs.
const TOO_LARGE: &[Carry] = match cfg!(debug_assertions) {
    true => &[carry::<65_536>, carry::<80_000>],
    false => &[carry::<131_072>, carry::<200_000>, carry::<300_000>, carry::<400_000>],
};

#[test]
fn large_flat_values_are_carried_or_refused_and_never_overflow_the_stack() {
    for codec in built(Codec::ALL) {
        carry::<4_096>(codec).expect("is small enough");
        carry::<16_384>(codec).expect("is small enough");
        for refused in TOO_LARGE {
            let error = refused(codec).expect_err("is too large").to_string();
            assert!(error.contains("too many to be read on the stack") && error.contains("`Vec`"), "{error}");
        }
    }
}

#[test]
fn levels_that_only_the_reader_counts_are_refused_by_the_writer() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Tree {
        Node(Link),
        Leaf(u8),
    }
    #[derive(Debug, Serialize, Deserialize)]
    enum Link {
        N { a: u8, next: Box<Tree> },
    }
    type Deep<T> = Vec<Vec<Vec<T>>>;
    #[derive(Debug, Serialize, Deserialize)]
    struct Document {
        list: Deep<Deep<u8>>,
        tree: Tree,
    }
    let tree =
        |depth: usize| (0..depth).fold(Tree::Leaf(1), |next, _| Tree::Node(Link::N { a: 1, next: Box::new(next) }));
    for codec in built(NAMED) {
        for depth in [1, 2, 20, 40, 60, 63, 64, 65, 66, 80, 100, 127] {
            let read = encode_as::<Tree, _>(codec, &tree(depth)).map(|payload| decode::<Tree>(&payload).map(drop));
            assert!(!matches!(read, Ok(Err(_))), "{codec}: {depth} levels are written, and not read: {read:?}");
        }
        assert!(encode_as::<Tree, _>(codec, &tree(20)).is_ok(), "{codec}");
        // Beside a list that is as deep for the writer as the tree is for the reader.
        let document = |depth| Document { list: vec![vec![vec![vec![vec![vec![1]]]]]], tree: tree(depth) };
        for depth in [3, 20, 60, 64, 66, 80, 100] {
            let read =
                encode_as::<Document, _>(codec, &document(depth)).map(|payload| decode::<Document>(&payload).map(drop));
            assert!(!matches!(read, Ok(Err(_))), "{codec}: {depth} levels are written, and not read: {read:?}");
        }
    }
}
