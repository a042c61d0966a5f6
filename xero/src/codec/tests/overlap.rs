//! Types whose names overlap: variants named like structs, structs and enums of one name in different modules.

use proptest::prelude::*;
use serde::{Deserialize, Deserializer};

use super::*;

mod inner {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct User {
        pub(super) id: u32,
        pub(super) name: String,
        pub(super) age: u8,
    }
}

fn user() -> inner::User {
    inner::User { id: 1, name: "n".to_owned(), age: 3 }
}

#[test]
fn variant_may_be_named_like_the_struct_in_its_first_field() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Event {
        User { user: inner::User, at: u64 },
        Gone,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Pair {
        User(inner::User, u64),
        Gone,
    }
    let event = || Event::User { user: user(), at: 9 };
    let pair = || Pair::User(user(), 9);
    assert_roundtrips([vec![event(), event()], vec![event(), Event::Gone, event()]]);
    assert_roundtrips([vec![pair(), pair()], vec![pair(), Pair::Gone, pair()]]);
}

#[test]
fn struct_may_be_read_as_a_tuple_that_begins_with_one_of_its_name() {
    #[derive(Debug, PartialEq, Serialize)]
    struct User {
        user: inner::User,
        at: u64,
    }
    impl<'de> Deserialize<'de> for User {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            <(inner::User, u64)>::deserialize(deserializer).map(|(user, at)| Self { user, at })
        }
    }
    let whole = || User { user: user(), at: 9 };
    assert_roundtrips_in(built(BARE), [vec![whole(), whole()]]);
    assert_roundtrips_in(built(BARE), [(user(), vec![whole(), whole()])]);
}

/// A value made from bytes.
pub(super) trait Made: Sized {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self;
}

impl Made for u8 {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        seed.next().unwrap_or_default()
    }
}

impl<A: Made, B: Made, C: Made> Made for (A, B, C) {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        (A::make(seed), B::make(seed), C::make(seed))
    }
}

impl<A: Made, B: Made> Made for (A, B) {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        (A::make(seed), B::make(seed))
    }
}

impl Made for () {
    fn make(_: &mut dyn Iterator<Item = u8>) -> Self {}
}

impl<T: Made> Made for Vec<T> {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        (0..u8::make(seed) % 4).map(|_| T::make(seed)).collect()
    }
}

impl<T: Made> Made for Option<T> {
    fn make(seed: &mut dyn Iterator<Item = u8>) -> Self {
        (u8::make(seed) % 3 > 0).then(|| T::make(seed))
    }
}

/// Structs and enums in modules of their own; each of them, and each variant, is called `Alpha` or `Beta`.
macro_rules! overlapping {
    ($($module:ident: $kind:ident $name:ident { $($body:tt)* } made by $seed:ident: $make:expr;)*) => {
        $(mod $module {
            use super::*;
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[allow(clippy::enum_variant_names)]
            pub(super) $kind $name<T> { $($body)* }
            impl<T: Made> Made for $name<T> {
                fn make($seed: &mut dyn Iterator<Item = u8>) -> Self {
                    $make
                }
            }
        })*
    };
}

overlapping! {
    wide: struct Alpha { x: T, y: u8, z: T } made by seed: Alpha { x: T::make(seed), y: u8::make(seed), z: T::make(seed) };
    slim: struct Alpha { x: T } made by seed: Alpha { x: T::make(seed) };
    other: struct Beta { x: T, y: Option<T> } made by seed: Beta { x: T::make(seed), y: Option::make(seed) };
    own: enum Alpha { Alpha { x: T, y: u8 }, Beta(T, u8), Gamma(T), Delta } made by seed: match u8::make(seed) % 4 {
        0 => Alpha::Alpha { x: T::make(seed), y: u8::make(seed) },
        1 => Alpha::Beta(T::make(seed), u8::make(seed)),
        2 => Alpha::Gamma(T::make(seed)),
        _ => Alpha::Delta,
    };
    crossed: enum Beta { Delta, Beta { x: T }, Alpha(T, T) } made by seed: match u8::make(seed) % 3 {
        0 => Beta::Delta,
        1 => Beta::Beta { x: T::make(seed) },
        _ => Beta::Alpha(T::make(seed), T::make(seed)),
    };
}

/// Reads values of the type back, each as if it were the first.
fn is_carried<T: Made + Serialize + DeserializeOwned + 'static>(seed: &[u8]) {
    let value: Vec<T> = Made::make(&mut seed.iter().copied());
    #[cfg(feature = "bincode")]
    twin::read_back::<bincode::Bincode, Vec<T>, _>(&value, What::Value).expect("is honest");
    #[cfg(feature = "postcard")]
    twin::read_back::<postcard::Postcard, Vec<T>, _>(&value, What::Value).expect("is honest");
    let _ = value;
}

macro_rules! nested {
    ($seed:expr; $($outer:ident::$name:ident),*; $inner:tt) => {
        $(nested!($seed; $outer::$name of $inner);)*
    };
    ($seed:expr; $outer:ident::$name:ident of [$($inner:ty),*]) => {
        $(is_carried::<$outer::$name<$inner>>($seed);)*
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn types_whose_names_overlap_are_carried(seed in prop::collection::vec(any::<u8>(), 4..120)) {
        nested!(&seed; wide::Alpha, slim::Alpha, other::Beta, own::Alpha, crossed::Beta; [
            (), wide::Alpha<u8>, slim::Alpha<wide::Alpha<u8>>, Vec<own::Alpha<()>>, own::Alpha<crossed::Beta<u8>>,
            crossed::Beta<wide::Alpha<own::Alpha<()>>>, (slim::Alpha<()>, other::Beta<own::Alpha<u8>>)
        ]);
    }
}
