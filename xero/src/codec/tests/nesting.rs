//! The cost of a few bytes, or of an endless value.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    next: Option<Box<Self>>,
}

fn chain(nodes: usize) -> Node {
    (1..nodes).fold(Node { next: None }, |node, _| Node { next: Some(Box::new(node)) })
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List(Vec<Self>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Boxed(Box<Self>),
    Pair(Box<Self>, u8),
    Named { inner: Box<Self> },
}

fn tree(depth: usize, wrap: fn(Box<Tree>) -> Tree) -> Tree {
    (0..depth).fold(Tree::Leaf, |tree, _| wrap(Box::new(tree)))
}

/// Each codec writes and reads the value at the limit, and refuses it one level beyond, on each side.
#[track_caller]
fn ends_at_the_limit<T>(name: &str, make: impl Fn(usize) -> T, levels_each: usize)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
{
    let most = DEPTH_MAX / levels_each;
    for codec in built(Codec::ALL) {
        assert_eq!(roundtrip(codec, &make(most)).expect(name), make(most), "{codec}");
        let error = encode(codec, &make(most + 1)).expect_err(name).to_string();
        assert!(error.ends_with(&format!("nested more than {DEPTH_MAX} deep")), "{codec} {name}: {error}");
        let unchecked = payload(codec, write_unchecked(codec, &make(most + 1)));
        let error = decode::<T>(&unchecked).expect_err(name).to_string();
        assert!(error.ends_with(&format!("nested more than {DEPTH_MAX} deep")), "{codec} {name}: {error}");
    }
}

/// The bytes of a peer without our limits.
fn write_unchecked<T: Serialize>(codec: Codec, value: &T) -> Vec<u8> {
    with_format!(codec, F => F::write(value, Vec::new()).map_err(Fault::library)).expect("writes")
}

#[test]
fn depth_limit_is_the_same_in_every_codec_and_on_each_side() {
    ends_at_the_limit("structs and options", chain, 1);
    let list = |depth| (1..depth).fold(List(Vec::new()), |list, _| List(vec![list]));
    ends_at_the_limit("newtypes and lists", list, 1);
    ends_at_the_limit("newtype variants", |depth| tree(depth, Tree::Boxed), 1);
    ends_at_the_limit("tuple variants", |depth| tree(depth, |inner| Tree::Pair(inner, 7)), 1);
    ends_at_the_limit("struct variants", |depth| tree(depth, |inner| Tree::Named { inner }), 1);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Map(BTreeMap<String, Self>);
    let map = |depth| (1..depth).fold(Map(BTreeMap::new()), |map, _| Map(BTreeMap::from([("k".to_owned(), map)])));
    ends_at_the_limit("maps", map, 1);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Pair {
        One,
        Two(Box<(Self, u8)>),
    }
    let pair = |depth| (0..depth).fold(Pair::One, |pair, _| Pair::Two(Box::new((pair, 7))));
    ends_at_the_limit("variants and tuples", pair, 2);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Wrapped {
        Last,
        Next(Wrapper),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapper(Inner);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner(Box<Wrapped>);
    let wrapped = |depth| (0..depth).fold(Wrapped::Last, |inner, _| Wrapped::Next(Wrapper(Inner(Box::new(inner)))));
    ends_at_the_limit("two newtypes for each variant", wrapped, 2);
}

#[test]
fn endless_values_are_refused_when_they_are_written() {
    // Dropped piece by piece: the compiler's own drop would overflow the stack too.
    let mut deep = chain(100_000);
    for codec in built(Codec::ALL) {
        assert!(encode(codec, &deep).is_err(), "{codec}");
    }
    while let Some(next) = deep.next.take() {
        deep = *next;
    }
}

#[test]
fn endless_bytes_are_refused_when_they_are_read() {
    for (codec, level) in [(Codec::Bincode, 1), (Codec::Postcard, 1), (Codec::MessagePack, 0x91), (Codec::Json, b'[')] {
        if codec.is_available() {
            let bytes = payload(codec, vec![level; 1_000_000]);
            assert!(decode::<Node>(&bytes).is_err(), "{codec}");
            assert!(decode::<List>(&bytes).is_err(), "{codec}");
            assert!(!codec.is_self_describing() || decode::<serde_json::Value>(&bytes).is_err(), "{codec}");
        }
    }
}

#[test]
fn threads_with_a_small_stack_read_and_write_the_deepest_values() {
    // Tokio's threads have 2 MiB, of which procedures need a part.
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(|| {
        for codec in built(Codec::ALL) {
            roundtrip(codec, &chain(DEPTH_MAX)).expect("is within the limit");
            roundtrip(codec, &tree(DEPTH_MAX, |inner| Tree::Named { inner })).expect("is within the limit");
        }
    });
    thread.expect("a thread").join().expect("the stack is large enough");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pixel {
    r: u8,
    g: u8,
    b: u8,
}

#[test]
fn honest_lists_of_every_kind_are_carried() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Marked {
        mark: (),
        unit: Unit,
        none: [u8; 0],
        number: u8,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;
    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    enum Bit {
        Zero,
        One,
    }
    let marked = Marked { mark: (), unit: Unit, none: [], number: 1 };
    for codec in built(Codec::ALL) {
        survives(codec, vec![Pixel { r: 1, g: 2, b: 3 }; 100_000]);
        survives(codec, vec![[1_u8; 32]; 5_000]);
        survives(codec, vec![Vec::<u8>::new(); 50_000]);
        survives(codec, vec![vec![Vec::<Vec<u8>>::new(); 3]; 20_000]);
        survives(codec, [Bit::Zero, Bit::One].repeat(20_000));
        survives(codec, vec![None::<u64>; 50_000]);
        survives(codec, vec![marked.clone(); 20_000]);
        survives(codec, vec!["x".to_owned(); 50_000]);
        survives(codec, vec![(1_u8, true, 'x'); 50_000]);
        survives(codec, (0..20_000_u32).map(|n| (n, ())).collect::<HashMap<_, _>>());
        survives(codec, (0..20_000_u32).map(|n| (n, Vec::<u8>::new())).collect::<BTreeMap<_, _>>());
        survives(codec, (0..20_000_u32).collect::<HashSet<_>>());
        survives(codec, vec![(); 200_000]);
        survives(codec, vec![Unit; 200_000]);
        survives(codec, vec![[(); 3]; 100_000]);
        survives(codec, vec![BTreeMap::<u8, ()>::new(); 20_000]);
    }
}

#[track_caller]
fn survives<T: Serialize + DeserializeOwned + PartialEq + 'static>(codec: Codec, value: T) {
    let name = type_name::<T>();
    let read = roundtrip(codec, &value).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(read == value, "{codec} {name}");
}

#[test]
fn elements_of_no_size_cannot_keep_a_thread_busy() {
    #[derive(Debug, Deserialize)]
    struct Nothing {}
    #[derive(Debug, Deserialize)]
    struct Wrapped(#[allow(dead_code)] ((), [u64; 0]));
    let bincode = [&[253][..], &(1_u64 << 40).to_le_bytes()].concat();
    let postcard = vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
    for (codec, bytes) in [(Codec::Bincode, bincode), (Codec::Postcard, postcard)] {
        if codec.is_available() {
            let bytes = payload(codec, bytes);
            let error = decode::<Vec<()>>(&bytes).expect_err("is refused").to_string();
            assert!(error.contains("take no bytes at all"), "{error}");
            assert!(decode::<Vec<[u64; 0]>>(&bytes).is_err(), "{codec}");
            assert!(decode::<Vec<Nothing>>(&bytes).is_err(), "{codec}");
            assert!(decode::<Vec<Wrapped>>(&bytes).is_err(), "{codec}");
            assert!(decode::<HashMap<(), ()>>(&bytes).is_err(), "{codec}");
            assert!(decode::<HashSet<()>>(&bytes).is_err(), "{codec}");
        }
    }
}

#[test]
fn elements_of_no_size_beyond_the_readers_limit_are_not_written() {
    for codec in built(BARE) {
        assert!(encode(codec, &vec![(); EMPTY_PARTS_MAX]).is_ok(), "{codec}");
        let error = encode(codec, &vec![(); EMPTY_PARTS_MAX + 1]).expect_err("is refused").to_string();
        assert!(error.contains("take no bytes at all"), "{error}");
    }
    for codec in built(NAMED) {
        survives(codec, vec![(); EMPTY_PARTS_MAX + 1]);
    }
}

#[test]
fn bytes_after_a_value_are_not_read_at_any_depth() {
    for (codec, level) in [(Codec::MessagePack, 0x91), (Codec::Json, b'['), (Codec::Bincode, 1), (Codec::Postcard, 1)] {
        if codec.is_available() {
            let value = encode(codec, &1_u8).expect("is written").bytes;
            let bytes = payload(codec, [&value[..], &[level; 200_000]].concat());
            assert!(decode::<u8>(&bytes).is_err(), "{codec}");
            #[derive(Debug, Deserialize)]
            struct One {
                _one: u8,
            }
            // One argument, and another one.
            let list = if codec == Codec::Json { b"[1,".to_vec() } else { vec![0x92, 1] };
            let bytes = payload(codec, [list, vec![level; 200_000]].concat());
            assert!(decode_arguments::<One>(&bytes, None).is_err(), "{codec}");
        }
    }
}

#[test]
fn large_values_on_every_level_are_refused_before_the_stack_overflows() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Fat {
        inline: [[[u8; 16]; 32]; 8],
        next: Option<Box<Self>>,
    }
    let fat = |levels| {
        (1..levels).fold(Fat { inline: [[[7; 16]; 32]; 8], next: None }, |fat, _| Fat {
            inline: [[[7; 16]; 32]; 8],
            next: Some(Box::new(fat)),
        })
    };
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(move || {
        for codec in built(Codec::ALL) {
            for levels in [1, 8, 60, 120] {
                // Carried or refused on each side, but the process survives.
                if let Ok(written) = encode(codec, &fat(levels)) {
                    let _ = decode::<Fat>(&written);
                }
            }
            assert!(encode(codec, &fat(3)).is_ok_and(|written| decode::<Fat>(&written).is_ok()), "{codec}");
        }
    });
    thread.expect("a thread").join().expect("the stack is large enough");
}

#[test]
fn elements_of_no_size_count_for_their_parts_and_their_memory() {
    #[derive(Debug, Default, Deserialize)]
    #[allow(dead_code)]
    struct Skipped {
        #[serde(skip)]
        one: [[u64; 32]; 4],
    }
    let many = |codec| match codec {
        Codec::Bincode => vec![252, 0, 0, 15, 0],
        _ => vec![0x80, 0x80, 0x3c],
    };
    for codec in built(BARE) {
        // There are 983,040 of them: as `()` they are carried.
        let bytes = payload(codec, many(codec));
        assert!(decode::<Vec<()>>(&bytes).is_ok(), "{codec}");
        assert!(decode::<Vec<Skipped>>(&bytes).is_err(), "{codec}");
        assert!(decode::<Vec<[(); 32]>>(&bytes).is_err(), "{codec}");
        assert!(decode::<Vec<[[[(); 32]; 32]; 32]>>(&bytes).is_err(), "{codec}");
    }
}

/// Reserves room for the declared number of elements.
#[derive(Debug)]
struct Trusting;

impl<'de> de::Visitor<'de> for Trusting {
    type Value = Self;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut access: A) -> Result<Self, A::Error> {
        let mut room = Vec::<u64>::with_capacity(access.size_hint().unwrap_or(0));
        while let Some(element) = access.next_element()? {
            room.push(element);
        }
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Trusting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Self)
    }
}

#[test]
fn readers_get_no_hint_of_missing_elements() {
    for (codec, bytes) in [
        (Codec::Bincode, [&[253][..], &(1_u64 << 40).to_le_bytes(), &[1]].concat()),
        (Codec::Postcard, vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 1]),
        (Codec::MessagePack, vec![0xdd, 0xff, 0xff, 0xff, 0xff, 1]),
    ] {
        if codec.is_available() {
            assert!(decode::<Trusting>(&payload(codec, bytes)).is_err(), "{codec}");
        }
    }
}

#[test]
fn largest_recursive_values_are_refused_before_the_stack_overflows() {
    #[derive(Debug, Serialize, Deserialize)]
    #[allow(dead_code)]
    struct Huge {
        next: Option<Box<Self>>,
        #[serde(skip, default = "zeros")]
        pad: [[u64; 32]; 96],
    }
    fn zeros() -> [[u64; 32]; 96] {
        [[0; 32]; 96]
    }
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(move || {
        for (codec, before, last, after) in [
            (Codec::Bincode, &b"\x01"[..], &b"\x00"[..], &b""[..]),
            (Codec::Postcard, b"\x01", b"\x00", b""),
            (Codec::MessagePack, b"\x81\xa4next", b"\x81\xa4next\xc0", b""),
            (Codec::Json, b"{\"next\":", b"{\"next\":null}", b"}"),
        ] {
            for levels in [1, 2, 3, 60].into_iter().filter(|_| codec.is_available()) {
                let bytes = [before.repeat(levels), last.to_vec(), after.repeat(levels)].concat();
                // Carried or refused, but the process survives.
                let _ = decode::<Huge>(&payload(codec, bytes));
            }
            if codec.is_available() {
                assert!(decode::<Huge>(&payload(codec, last)).is_ok(), "{codec}");
            }
        }
    });
    thread.expect("a thread").join().expect("the stack is large enough");
}

#[test]
fn large_buffered_values_do_not_overflow_the_stack() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "t")]
    #[allow(clippy::large_enum_variant)]
    enum Fat {
        A { inner: Box<Self>, p: [[u64; 32]; 16], q: [[u64; 32]; 16], r: [[u64; 32]; 16], s: [[u64; 32]; 16] },
        B,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t")]
    enum Thin {
        A { inner: Box<Self>, name: String },
        B,
    }
    const ZEROS: [[u64; 32]; 16] = [[0; 32]; 16];
    let fat = |levels| {
        (0..levels).fold(Fat::B, |fat, _| Fat::A { inner: Box::new(fat), p: ZEROS, q: ZEROS, r: ZEROS, s: ZEROS })
    };
    let thin = |levels| (0..levels).fold(Thin::B, |thin, _| Thin::A { inner: Box::new(thin), name: "n".to_owned() });
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(move || {
        for codec in built(NAMED) {
            for levels in [1, 8, 40, 60] {
                // As a peer with another stack may send it.
                if let Ok(written) = encode(codec, &fat(levels)) {
                    let _ = decode::<Fat>(&written);
                }
            }
            let written = encode(codec, &fat(1)).expect("is written");
            assert!(decode::<Fat>(&written).is_ok(), "{codec}");
            assert_eq!(roundtrip(codec, &thin(120)).expect("is carried"), thin(120), "{codec}");
        }
    });
    thread.expect("a thread").join().expect("the stack is large enough");
}

/// The first value of a form is read back and compared with its notes.
#[test]
fn many_structs_at_one_place_are_read_back_quickly() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Empty {}
    let started = std::time::Instant::now();
    for codec in built(BARE) {
        let value = (1_u8, vec![Empty {}; 100_000]);
        assert!(roundtrip(codec, &value).is_ok(), "{codec}");
    }
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

/// Whatever the writer accepts, the reader of the same build can read, on threads with as much stack as Tokio's.
#[test]
fn deep_values_that_the_reader_would_refuse_are_refused_by_the_writer() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Ext {
        Bin { loc: (u32, u32), op: String, left: Box<Self>, right: Box<Self> },
        Call(Box<Self>, Vec<Self>),
        Number(f64),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wide {
        inline: [[u64; 25]; 3],
        inner: Vec<Self>,
    }
    fn agree<T>(make: impl Fn(usize) -> T)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
    {
        for codec in built(Codec::ALL) {
            // Known first.
            let _ = roundtrip(codec, &make(4));
            for depth in 1..=DEPTH_MAX {
                if let Ok(written) = encode_as::<T, _>(codec, &make(depth)) {
                    let read: T = decode(&written).unwrap_or_else(|error| panic!("{depth}: {error}"));
                    assert!(read == make(depth), "{codec}");
                }
            }
        }
    }
    let ext = |depth| {
        (1..depth).fold(Ext::Number(1.0), |inner, n| match n % 3 {
            0 => Ext::Call(Box::new(Ext::Number(2.0)), vec![inner]),
            _ => Ext::Bin { loc: (1, 2), op: "+".to_owned(), left: Box::new(inner), right: Box::new(Ext::Number(0.0)) },
        })
    };
    let wide = |depth| {
        (1..depth).fold(Wide { inline: [[1; 25]; 3], inner: vec![] }, |wide, _| Wide {
            inline: [[1; 25]; 3],
            inner: vec![wide],
        })
    };
    let value = |depth| (1..depth).fold(serde_json::json!([]), |value, _| serde_json::json!([value]));
    let object = |depth| (1..depth).fold(serde_json::json!(1), |value, _| serde_json::json!({ "a": value }));
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(move || {
        agree(ext);
        agree(wide);
        agree(value);
        agree(object);
    });
    thread.expect("a thread").join().expect("the stack is large enough");
}

/// The reader counts an element for its size, which its writer cannot see.
#[test]
fn elements_of_no_size_that_the_reader_would_refuse_are_refused_by_the_writer() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[allow(dead_code)]
    struct Big {
        #[serde(skip, default = "zeros")]
        zeros: [[u64; 32]; 2],
    }
    fn zeros() -> [[u64; 32]; 2] {
        [[0; 32]; 2]
    }
    for codec in built(BARE) {
        for length in [100, 140_000] {
            let written = encode_as::<Vec<Big>, _>(codec, &vec![Big { zeros: zeros() }; length]);
            assert_eq!(written.is_ok(), length == 100, "{codec}");
            assert!(written.is_err() || decode::<Vec<Big>>(&written.expect("is written")).is_ok(), "{codec}");
        }
    }
}
