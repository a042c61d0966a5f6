//! Arguments by position and by name, optional arguments left out, and errors that name arguments.

use serde::{Deserialize, Deserializer};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct __StoreArguments<A, B, C> {
    key: A,
    jobs: B,
    note: C,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct __ClearArguments {}

type Store = __StoreArguments<String, Vec<Job>, Option<String>>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    name: String,
    size: u32,
}

fn store(note: Option<&str>) -> Store {
    let jobs = vec![Job { name: "a".to_owned(), size: 1 }, Job { name: "b".to_owned(), size: 2 }];
    __StoreArguments { key: "k".to_owned(), jobs, note: note.map(str::to_owned) }
}

#[test]
fn arguments_survive_each_codec() {
    for codec in built(Codec::ALL) {
        for note in [Some("n"), None] {
            let written = encode_arguments::<Store, _>(codec, &store(note)).expect("is written");
            assert_eq!(decode_arguments::<Store>(&written, None).expect("is read"), store(note), "{codec}");
        }
    }
}

#[test]
fn last_arguments_may_be_left_out_if_they_are_optional() {
    for codec in built(Codec::ALL) {
        let written = encode(codec, &("k", Vec::<Job>::new())).expect("is written");
        let read: Store = decode_arguments(&written, None).expect("is read");
        assert_eq!(read, __StoreArguments { key: "k".to_owned(), jobs: vec![], note: None }, "{codec}");
        let written = encode(codec, &("k",)).expect("is written");
        let error = decode_arguments::<Store>(&written, None).expect_err("is refused").to_string();
        assert_eq!(error, format!("{codec} cannot read the arguments: the argument `jobs` is missing"));
        let written = encode::<[u8; 0]>(codec, &[]).expect("is written");
        let error = decode_arguments::<Store>(&written, None).expect_err("is refused").to_string();
        assert_eq!(error, format!("{codec} cannot read the arguments: the argument `key` is missing"));
    }
}

#[test]
fn missing_argument_with_a_default_takes_it_instead_of_none() {
    #[derive(Debug, Default, PartialEq)]
    enum Defaulted<T> {
        #[default]
        Missing,
        Given(T),
    }
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Defaulted<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Inner<T>(PhantomData<T>);
            impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Inner<T> {
                type Value = T;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a value")
                }
                fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
                    T::deserialize(deserializer)
                }
            }
            deserializer.deserialize_newtype_struct(DEFAULTED, Inner(PhantomData)).map(Self::Given)
        }
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct __SearchArguments<A, B: Default, C: Default> {
        text: A,
        #[serde(default)]
        limit: B,
        #[serde(default)]
        after: C,
    }
    type Search = __SearchArguments<String, Defaulted<u32>, Defaulted<Option<u32>>>;
    let search = |limit, after| __SearchArguments { text: "x".to_owned(), limit, after };
    for codec in built(Codec::ALL) {
        let read = |bytes: Payload| decode_arguments::<Search>(&bytes, None).expect("is read");
        let one = encode(codec, &("x",)).expect("is written");
        assert_eq!(read(one), search(Defaulted::Missing, Defaulted::Missing), "{codec}");
        let two = encode(codec, &("x", 7_u32)).expect("is written");
        assert_eq!(read(two), search(Defaulted::Given(7), Defaulted::Missing), "{codec}");
        let three = encode(codec, &("x", 7_u32, None::<u32>)).expect("is written");
        assert_eq!(read(three), search(Defaulted::Given(7), Defaulted::Given(None)), "{codec}");
    }
    for codec in built(NAMED) {
        let named = encode(codec, &serde_json::json!({"after": 3, "text": "x"})).expect("is written");
        let read: Search = decode_arguments(&named, None).expect("is read");
        assert_eq!(read, search(Defaulted::Missing, Defaulted::Given(Some(3))), "{codec}");
    }
}

#[test]
fn arguments_of_no_size_may_be_missing() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct __PingArguments<A> {
        nothing: A,
    }
    for codec in built(BARE) {
        let empty = payload(codec, Bytes::new());
        assert!(decode_arguments::<__PingArguments<((), [u8; 0])>>(&empty, None).is_ok(), "{codec}");
        assert!(decode_arguments::<__PingArguments<[u8; 1]>>(&empty, None).is_err(), "{codec}");
    }
}

#[test]
fn extra_arguments_are_refused() {
    for codec in built(Codec::ALL) {
        let written = encode(codec, &("k", Vec::<Job>::new(), None::<u8>, 7_u8)).expect("is written");
        let error = decode_arguments::<Store>(&written, None).expect_err("is refused").to_string();
        let expected = match codec.is_self_describing() {
            true => "the method takes 3 arguments, but more were given",
            false => {
                "bytes are left over: the method takes 3 arguments, but more were given, or one has another type (are both \
                 sides built from the same types?)"
            }
        };
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn errors_name_the_argument_and_the_place_in_it() {
    for codec in built(NAMED) {
        let read = |value: serde_json::Value| {
            let written = encode(codec, &value).expect("is written");
            decode_arguments::<Store>(&written, None).expect_err("is refused").to_string()
        };
        let error =
            read(serde_json::json!({"key": "k", "jobs": [{"name": "a", "size": 1}, {"name": "b", "size": "x"}]}));
        assert!(error.starts_with(&format!("{codec} cannot read `jobs[1].size` of the argument `jobs`: ")), "{error}");
        let error = read(serde_json::json!([7, []]));
        assert!(error.starts_with(&format!("{codec} cannot read the argument `key`: invalid type")), "{error}");
        let error = read(serde_json::json!({"key": "k", "jobs": [], "nope": 1}));
        assert!(error.ends_with("there is no argument `nope`; there are `key`, `jobs`, `note`"), "{error}");
        let written = encode(codec, &serde_json::json!({"nope": 1})).expect("is written");
        let error = decode_arguments::<__ClearArguments>(&written, None).expect_err("is refused").to_string();
        assert!(error.ends_with("the method takes no arguments, but some were given"), "{error}");
        let error = read(serde_json::json!({"jobs": []}));
        assert!(error.ends_with("the argument `key` is missing"), "{error}");
        let error = read(serde_json::json!({"key": "k", "jobs": [{"name": "a"}]}));
        assert!(error.ends_with("`jobs[0]` of the argument `jobs`: the field `size` is missing"), "{error}");
    }
    for codec in built(BARE) {
        let bytes = encode(codec, &("k", vec![("a", 1_u32)])).expect("is written").bytes;
        let cut = payload(codec, bytes.slice(..bytes.len() - 1));
        let error = decode_arguments::<Store>(&cut, None).expect_err("is refused").to_string();
        assert!(error.starts_with(&format!("{codec} cannot read `jobs[0].size` of the argument `jobs`: ")), "{error}");
        assert!(error.contains("the bytes end within the value"), "{error}");
    }
}

#[test]
fn errors_show_no_names_of_generated_code() {
    for codec in built(Codec::ALL) {
        let nonsense = payload(codec, vec![0xc1; 3]);
        let error = decode_arguments::<Store>(&nonsense, None).expect_err("is refused").to_string();
        assert!(!error.contains("StoreArguments") && !error.contains("__"), "{error}");
        #[derive(Serialize, Deserialize)]
        struct __RunArguments<A> {
            task: A,
        }
        let note = Some(None::<u8>);
        if let Err(error) =
            encode_arguments::<__RunArguments<Option<Option<u8>>>, _>(codec, &__RunArguments { task: note })
        {
            assert!(error.to_string().contains("cannot write the argument `task`: "), "{error}");
        }
    }
}

#[test]
fn codecs_without_names_need_all_arguments_of_a_known_signature() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct __PutArguments<A> {
        size: A,
        note: Option<u8>,
        mark: Option<u8>,
    }
    type Put = __PutArguments<u16>;
    for codec in built(BARE) {
        let read = |value: &[u8], count| {
            let bytes = payload(codec, value.to_vec());
            decode_arguments::<Put>(&bytes, count).map_err(|error| error.to_string())
        };
        assert_eq!(read(&[7, 0, 0], Some(3)), Ok(__PutArguments { size: 7, note: None, mark: None }), "{codec}");
        assert_eq!(read(&[7, 0], Some(2)), Ok(__PutArguments { size: 7, note: None, mark: None }), "{codec}");
        let error = read(&[7, 0], Some(3)).expect_err("one is missing");
        assert!(error.contains("the argument `mark`: the bytes end within the value"), "{error}");
        let error = read(&[7, 0, 0], Some(2)).expect_err("one is too many");
        assert!(error.contains("bytes are left over: an argument has another type (are both sides"), "{error}");
        assert!(read(&[7, 0], None).is_ok(), "{codec}: a dynamic call");
        let read = |names: &'static [&'static str]| bare::left_over(names, Some(names.len())).to_string();
        assert_eq!(read(&[]), "the method takes no arguments, but some were given");
        assert_eq!(read(&["size"]), "bytes are left over: the argument `size` has another type");
    }
}

#[test]
fn wrong_length_within_an_argument_is_not_a_missing_argument() {
    #[derive(Debug, Serialize, Deserialize)]
    struct __NeedArguments<A, B> {
        a: A,
        b: B,
    }
    for codec in built(NAMED) {
        let written = encode(codec, &serde_json::json!([[1], 2])).expect("is written");
        let error =
            decode_arguments::<__NeedArguments<(u8, u8), u8>>(&written, None).expect_err("is refused").to_string();
        assert!(error.contains("the argument `a`") && error.contains("invalid length 1"), "{error}");
    }
}

#[test]
fn unit_stands_for_no_arguments() {
    #[derive(Debug, Serialize, Deserialize)]
    struct __PingArguments {}
    for codec in built(Codec::ALL) {
        let nothing = encode(codec, &()).expect("is written");
        assert!(decode_arguments::<__PingArguments>(&nothing, None).is_ok(), "{codec}");
        let error = decode_arguments::<Store>(&nothing, None).expect_err("is refused").to_string();
        assert!(error.ends_with("the argument `key` is missing"), "{error}");
    }
}

#[test]
fn missing_required_argument_of_options_is_an_error() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct __SearchArguments<A, B> {
        text: A,
        limits: B,
    }
    type Search = __SearchArguments<u8, (Option<u8>, Option<u8>)>;
    for codec in built(Codec::ALL) {
        let written = encode(codec, &(1_u8,)).expect("is written");
        let error = decode_arguments::<Search>(&written, None).expect_err("is refused").to_string();
        assert!(error.ends_with("the argument `limits` is missing"), "{error}");
    }
}
