//! Bytes as arguments, replies, errors and parts of them travel as bytes, in each codec.
//!
//! | shape | test |
//! |---|---|
//! | `Vec<u8>`, `&[u8]`, `&Vec<u8>`, `[u8; N]`, `&[u8; N]`, `Bytes`, `&Bytes`, `Box<[u8]>`, `Arc<[u8]>`, aliases of them | `bytes_of_each_type_…` |
//! | options, results, lists and tuples of them | `bytes_inside_other_types_…` |
//! | sizes from nothing to 1 MiB | `bytes_of_each_size_…` |
//! | what callers in other languages send | `dynamic_callers_…` |
//! | what callers without types receive | `call_without_types_…` |

// The macro must know paths of every length, and references to vectors.
#![allow(unused_qualifications, clippy::ptr_arg)]

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xero::{CallError, Client, Codec, RpcError, Worker};

type Blob = Vec<u8>;
type Raw = [u8];
type Key = [u8; 4];

/// Types named like those that the macro knows.
mod own {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(crate) struct Option<T>(pub(crate) T);

    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(crate) struct Bytes(pub(crate) u32);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Letter {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
}

#[xero::service]
trait Types {
    async fn vector(&self, bytes: Vec<u8>) -> Vec<u8>;
    async fn slice(&self, bytes: &[u8]) -> Vec<u8>;
    async fn vector_reference(&self, bytes: &Vec<u8>) -> Blob;
    async fn array(&self, bytes: [u8; 4]) -> [u8; 4];
    async fn array_reference(&self, bytes: &[u8; 4]) -> Key;
    async fn shared(&self, bytes: Bytes) -> bytes::Bytes;
    async fn shared_reference(&self, bytes: &bytes::Bytes) -> Bytes;
    async fn boxed(&self, bytes: Box<[u8]>) -> Box<[u8]>;
    async fn cow(&self, bytes: Cow<'static, [u8]>) -> Cow<'static, [u8]>;
    async fn counted(&self, bytes: Arc<[u8]>, more: &Arc<[u8]>) -> Arc<[u8]>;
    async fn alias(&self, bytes: Blob, key: &Key) -> Result<Blob, Blob>;
    async fn unsized_alias(&self, bytes: &Raw) -> Blob;
    async fn failed(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Bytes>;
    async fn others(&self, bytes: own::Option<Vec<u8>>, more: &own::Bytes) -> (own::Option<Vec<u8>>, own::Bytes);
    async fn field(&self, letter: Letter) -> Letter;
}

type Tuple = (u8, Bytes, [u8; 4], Option<Vec<u8>>);
type Nested = Option<Result<(Bytes, Option<Blob>), String>>;

#[xero::service]
trait Shapes {
    async fn option(&self, bytes: Option<Vec<u8>>) -> Option<Bytes>;
    async fn result(&self, bytes: Result<Vec<u8>, String>) -> Option<Result<Bytes, String>>;
    async fn tuple(&self, bytes: (u8, Bytes, [u8; 4], Option<Vec<u8>>)) -> (u8, Bytes, [u8; 4], Option<Vec<u8>>);
    async fn lone(&self, bytes: (Vec<u8>,)) -> (Vec<u8>,);
    async fn nested(
        &self,
        bytes: Option<Result<(Bytes, Option<Blob>), String>>,
    ) -> std::option::Option<core::result::Result<(Bytes, Option<Blob>), String>>;
    async fn list(&self, bytes: Vec<Vec<u8>>, slice: &[Bytes]) -> Vec<Bytes>;
    async fn borrowed(&self, bytes: &Option<Blob>, pair: &(u8, Vec<u8>)) -> (Option<Vec<u8>>, (u8, Vec<u8>));
    async fn outcome(&self, bytes: Vec<u8>) -> Result<(Vec<u8>, u8), (u8, Option<Bytes>)>;
    async fn whole_alias(&self, bytes: Nested) -> Nested;
}

struct Studio;

#[xero::worker]
impl Types for Studio {
    async fn vector(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
    async fn slice(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }
    async fn vector_reference(&self, bytes: &Vec<u8>) -> Blob {
        bytes.clone()
    }
    async fn array(&self, bytes: [u8; 4]) -> [u8; 4] {
        bytes
    }
    async fn array_reference(&self, bytes: &[u8; 4]) -> Key {
        *bytes
    }
    async fn shared(&self, bytes: Bytes) -> Bytes {
        bytes
    }
    async fn shared_reference(&self, bytes: &Bytes) -> Bytes {
        bytes.clone()
    }
    async fn boxed(&self, bytes: Box<[u8]>) -> Box<[u8]> {
        bytes
    }
    async fn cow(&self, bytes: Cow<'static, [u8]>) -> Cow<'static, [u8]> {
        bytes
    }
    async fn counted(&self, bytes: Arc<[u8]>, _more: &Arc<[u8]>) -> Arc<[u8]> {
        bytes
    }
    async fn alias(&self, bytes: Blob, key: &Key) -> Result<Blob, Blob> {
        if bytes == key { Err(bytes) } else { Ok(bytes) }
    }
    async fn unsized_alias(&self, bytes: &Raw) -> Blob {
        bytes.to_owned()
    }
    async fn failed(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Bytes> {
        Err(bytes.into())
    }
    async fn others(&self, bytes: own::Option<Vec<u8>>, more: &own::Bytes) -> (own::Option<Vec<u8>>, own::Bytes) {
        (bytes, more.clone())
    }
    async fn field(&self, letter: Letter) -> Letter {
        letter
    }
}

#[xero::worker]
impl Shapes for Studio {
    async fn option(&self, bytes: Option<Vec<u8>>) -> Option<Bytes> {
        bytes.map(Bytes::from)
    }
    async fn result(&self, bytes: Result<Vec<u8>, String>) -> Option<Result<Bytes, String>> {
        Some(bytes.map(Bytes::from))
    }
    async fn tuple(&self, bytes: Tuple) -> Tuple {
        bytes
    }
    async fn lone(&self, bytes: (Vec<u8>,)) -> (Vec<u8>,) {
        bytes
    }
    async fn nested(&self, bytes: Nested) -> Nested {
        bytes
    }
    async fn list(&self, bytes: Vec<Vec<u8>>, slice: &[Bytes]) -> Vec<Bytes> {
        bytes.into_iter().map(Bytes::from).chain(slice.iter().cloned()).collect()
    }
    async fn borrowed(&self, bytes: &Option<Blob>, pair: &(u8, Vec<u8>)) -> (Option<Vec<u8>>, (u8, Vec<u8>)) {
        (bytes.clone(), pair.clone())
    }
    async fn outcome(&self, bytes: Vec<u8>) -> Result<(Vec<u8>, u8), (u8, Option<Bytes>)> {
        if bytes.is_empty() { Err((7, Some(b"none".as_slice().into()))) } else { Ok((bytes, 8)) }
    }
    async fn whole_alias(&self, bytes: Nested) -> Nested {
        bytes
    }
}

#[tokio::test]
async fn bytes_of_each_type_survive_each_codec() {
    let (client, worker) = pair("inproc://bytes-types").await;
    let (bytes, key) = (vec![0, 255, 7, 128], [0, 255, 7, 128]);
    let shared = Bytes::from(bytes.clone());
    for codec in Codec::ALL {
        let types = TypesClient::new(&client).with_codec(codec);
        assert_eq!(types.vector(bytes.clone()).await.expect("vector"), bytes, "{codec}");
        assert_eq!(types.slice(&bytes).await.expect("slice"), bytes, "{codec}");
        assert_eq!(types.vector_reference(&bytes).await.expect("vector reference"), bytes, "{codec}");
        assert_eq!(types.array(key).await.expect("array"), key, "{codec}");
        assert_eq!(types.array_reference(&key).await.expect("array reference"), key, "{codec}");
        assert_eq!(types.shared(shared.clone()).await.expect("shared"), bytes, "{codec}");
        assert_eq!(types.shared_reference(&shared).await.expect("shared reference"), bytes, "{codec}");
        assert_eq!(*types.boxed(bytes.clone().into()).await.expect("boxed"), bytes, "{codec}");
        assert_eq!(types.cow(bytes.clone().into()).await.expect("cow"), bytes, "{codec}");
        let counted: Arc<[u8]> = bytes.clone().into();
        assert_eq!(*types.counted(counted.clone(), &counted).await.expect("counted"), *bytes, "{codec}");
        assert_eq!(types.alias(bytes.clone(), &[0; 4]).await.expect("alias"), bytes, "{codec}");
        let error = types.alias(bytes.clone(), &key).await.expect_err("fails");
        assert_eq!(error, CallError::Application(bytes.clone()), "{codec}");
        assert_eq!(types.unsized_alias(&bytes).await.expect("unsized alias"), bytes, "{codec}");
        let error = types.failed(bytes.clone()).await.expect_err("fails");
        assert_eq!(error, CallError::Application(shared.clone()), "{codec}");
        let others = (own::Option(bytes.clone()), own::Bytes(7));
        assert_eq!(types.others(others.0.clone(), &others.1).await.expect("others"), others, "{codec}");
        let letter = Letter { body: bytes.clone() };
        assert_eq!(types.field(letter.clone()).await.expect("field"), letter, "{codec}");
    }
    worker.drain().await;
}

#[tokio::test]
async fn bytes_inside_other_types_survive_each_codec() {
    let (client, worker) = pair("inproc://bytes-shapes").await;
    let (bytes, key) = (vec![0, 255, 7, 128], [0, 255, 7, 128]);
    let shared = Bytes::from(bytes.clone());
    for codec in Codec::ALL {
        let shapes = ShapesClient::new(&client).with_codec(codec);
        for value in [None, Some(Vec::new()), Some(bytes.clone())] {
            assert_eq!(shapes.option(value.clone()).await.expect("option"), value.map(Bytes::from), "{codec}");
        }
        for value in [Err("none".to_owned()), Ok(bytes.clone())] {
            let expected = Some(value.clone().map(Bytes::from));
            assert_eq!(shapes.result(value).await.expect("result"), expected, "{codec}");
        }
        for option in [None, Some(bytes.clone())] {
            let value = (7, shared.clone(), key, option.clone());
            assert_eq!(shapes.tuple(value.clone()).await.expect("tuple"), value, "{codec}");
            let value = (option, (7, bytes.clone()));
            assert_eq!(shapes.borrowed(&value.0, &value.1).await.expect("borrowed"), value, "{codec}");
        }
        assert_eq!(shapes.lone((bytes.clone(),)).await.expect("lone"), (bytes.clone(),), "{codec}");
        for value in [None, Some(Err("none".to_owned())), Some(Ok((shared.clone(), Some(bytes.clone()))))] {
            assert_eq!(shapes.nested(value.clone()).await.expect("nested"), value, "{codec}");
            assert_eq!(shapes.whole_alias(value.clone()).await.expect("whole alias"), value, "{codec}");
        }
        let list = shapes.list(vec![bytes.clone(), Vec::new()], std::slice::from_ref(&shared)).await;
        assert_eq!(list.expect("list"), [shared.clone(), Bytes::new(), shared.clone()], "{codec}");
        assert_eq!(shapes.outcome(bytes.clone()).await.expect("outcome"), (bytes.clone(), 8), "{codec}");
        let error = shapes.outcome(Vec::new()).await.expect_err("fails");
        assert_eq!(error, CallError::Application((7, Some(b"none".as_slice().into()))), "{codec}");
    }
    worker.drain().await;
}

#[tokio::test]
async fn bytes_of_each_size_survive_each_codec() {
    let (client, worker) = pair("inproc://bytes-sizes").await;
    for codec in Codec::ALL {
        let types = TypesClient::new(&client).with_codec(codec);
        for size in [0, 1, 255, 4096, 4097, 1 << 20] {
            let bytes: Vec<u8> = (0..size).map(|index| index as u8).collect();
            assert_eq!(types.vector(bytes.clone()).await.expect("vector"), bytes, "{codec}");
            assert_eq!(types.slice(&bytes).await.expect("slice"), bytes, "{codec}");
            assert_eq!(types.shared(bytes.clone().into()).await.expect("shared"), bytes, "{codec}");
        }
    }
    worker.drain().await;
}

#[tokio::test]
async fn each_form_of_bytes_is_the_protocols() {
    let (client, worker) = pair("inproc://bytes-forms").await;
    let forms: [(_, &str, &[u8]); 9] = [
        (Codec::MessagePack, "Types.vector", b"\xc4\x03abc"),
        (Codec::MessagePack, "Types.alias", b"\xc4\x03abc"),
        (Codec::MessagePack, "Shapes.option", b"\xc4\x03abc"),
        (Codec::MessagePack, "Shapes.result", b"\x81\xa2Ok\xc4\x03abc"),
        (Codec::MessagePack, "Shapes.lone", b"\x91\xc4\x03abc"),
        (Codec::Json, "Types.vector", b"\"YWJj\""),
        (Codec::Json, "Types.shared", b"\"YWJj\""),
        (Codec::Json, "Shapes.result", b"{\"Ok\":\"YWJj\"}"),
        (Codec::Json, "Shapes.lone", b"[\"YWJj\"]"),
    ];
    for (codec, method, form) in forms {
        let bytes = serde_bytes::Bytes::new(b"abc");
        let call = client.call(method).codec(codec);
        let call = match method {
            "Types.alias" => call.arguments(&(bytes, serde_bytes::Bytes::new(b"1234"))),
            "Shapes.result" => call.arguments(&(Ok::<_, ()>(bytes),)),
            "Shapes.lone" => call.arguments(&((bytes,),)),
            _ => call.arguments(&(bytes,)),
        };
        let reply = call.await.expect(method);
        assert_eq!(reply.bytes(), form, "{codec} {method}");
    }
    worker.drain().await;
}

#[tokio::test]
async fn dynamic_callers_send_base64_or_numbers() {
    let (client, worker) = pair("inproc://bytes-dynamic").await;
    let arguments = [
        serde_json::json!(["YQ=="]),
        serde_json::json!(["YQ"]),
        serde_json::json!([[97]]),
        serde_json::json!({"bytes": "YQ=="}),
        serde_json::json!({"bytes": [97]}),
    ];
    for method in ["Types.vector", "Types.slice", "Types.shared", "Shapes.option"] {
        for arguments in &arguments {
            let reply = client.call(method).codec(Codec::Json).arguments(arguments).await.expect(method);
            assert_eq!(reply.to_string(), "\"YQ==\"", "{method} {arguments}");
        }
        let reply = client.call(method).arguments(&([97],)).await.expect("numbers in MessagePack");
        assert_eq!(reply.bytes(), &b"\xc4\x01a"[..], "{method}");
    }
    let misfits = [
        ("Types.vector", serde_json::json!(["a b"]), "not bytes in base64"),
        ("Types.vector", serde_json::json!([7]), "expected bytes in base64"),
        ("Types.array", serde_json::json!(["YQ=="]), "invalid length 1, expected 4 bytes"),
    ];
    for (method, arguments, reason) in misfits {
        let error = client.call(method).codec(Codec::Json).arguments(&arguments).await.expect_err("does not fit");
        let CallError::Rpc(RpcError::InvalidArguments { .. }) = &error else { panic!("{arguments}: {error:?}") };
        assert!(error.to_string().contains(reason), "{arguments}: {error}");
    }
    worker.drain().await;
}

/// A client and a worker of both services in this process.
async fn pair(endpoint: &str) -> (Client, Worker) {
    let client = Client::bind(endpoint).await.expect("binds");
    let studio = Arc::new(Studio);
    let worker = Worker::connect(endpoint)
        .serve(Types::into_service(studio.clone()))
        .serve(Shapes::into_service(studio))
        .start()
        .expect("starts");
    TypesClient::new(&client).wait_for_worker(Duration::from_secs(10)).await.expect("a worker");
    (client, worker)
}

#[tokio::test]
async fn call_without_types_reads_bytes_in_every_codec() {
    let (client, worker) = pair("inproc://bytes-without-types").await;
    let sent = [1_u8, 200];
    for codec in Codec::available() {
        let call = client.call("Shapes.option").codec(codec).arguments(&(Some(serde_bytes::Bytes::new(&sent)),));
        let reply = call.await.expect("is carried");
        assert_eq!(reply.decode_optional_bytes().expect("is carried").as_deref(), Some(&sent[..]), "{codec}");
        let reply = client.call("Shapes.option").codec(codec).arguments(&(None::<u8>,)).await.expect("is carried");
        assert_eq!(reply.decode_optional_bytes().expect("is carried"), None, "{codec}");
        let reply = client
            .call("Types.vector")
            .codec(codec)
            .arguments(&(serde_bytes::Bytes::new(&sent),))
            .await
            .expect("is carried");
        assert_eq!(reply.decode_bytes().expect("is carried"), sent[..], "{codec}");
        let error = client
            .call("Types.failed")
            .codec(codec)
            .arguments(&(serde_bytes::Bytes::new(&sent),))
            .await
            .expect_err("fails");
        let CallError::Application(error) = error else { panic!("{error:?}") };
        assert_eq!(error.decode_bytes().expect("is carried"), sent[..], "{codec}");
        assert!(xero::Value::encode(codec, &7.5).expect("is carried").decode_bytes().is_err(), "{codec}");
    }
    // As serde reads it, it is the text in base64.
    let reply = client.call("Types.vector").codec(Codec::Json).arguments(&(sent,)).await.expect("is carried");
    assert_eq!(reply.decode::<String>().expect("is carried"), "Acg=");
    worker.drain().await;
}
