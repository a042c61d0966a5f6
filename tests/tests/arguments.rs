//! Arguments that a caller leaves out, and borrowed argument types.

use std::{
    ffi::{CStr, CString, OsStr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use xero::{CallError, Client, Codec, RpcError, Worker};

type Text = str;
type Numbers = [u16];

/// Has neither `Clone` nor `Copy`.
#[derive(serde::Serialize, serde::Deserialize)]
struct Page(u32);

#[xero::service]
trait Missing {
    async fn trailing(&self, a: u8, b: Option<u8>, #[xero(default)] c: u8, #[xero(default = nine)] d: u8) -> String;
    async fn leading(&self, #[xero(default = nine)] a: u8, b: Option<u8>, c: u8) -> String;
    async fn borrowed(
        &self,
        #[xero(default = defaults::text)] text: &str,
        #[xero(default)] numbers: &[u16],
        #[xero(default = defaults::bytes)] bytes: &[u8],
        #[xero(default)] path: &Path,
        pair: &Option<(u8, u8)>,
    ) -> String;
    async fn bytes(
        &self,
        a: Option<Vec<u8>>,
        #[xero(default = defaults::bytes)] b: Vec<u8>,
        #[xero(default)] c: Bytes,
        #[xero(default = Default::default)] d: Option<[u8; 2]>,
    ) -> String;
}

fn nine() -> u8 {
    9
}

mod defaults {
    pub(super) fn text() -> String {
        "none".to_owned()
    }

    pub(super) fn bytes() -> Vec<u8> {
        vec![1, 2]
    }
}

#[xero::service]
trait Lent {
    async fn path(&self, path: &Path) -> PathBuf;
    async fn os(&self, text: &OsStr) -> usize;
    async fn c(&self, text: &CStr) -> CString;
    async fn text(&self, text: &Text) -> String;
    async fn numbers(&self, numbers: &Numbers) -> u16;
    async fn page(&self, page: &Page) -> u32;
}

struct Studio;

#[xero::worker]
impl Missing for Studio {
    async fn trailing(&self, a: u8, b: Option<u8>, c: u8, d: u8) -> String {
        format!("{a} {b:?} {c} {d}")
    }
    async fn leading(&self, a: u8, b: Option<u8>, c: u8) -> String {
        format!("{a} {b:?} {c}")
    }
    async fn borrowed(
        &self,
        text: &str,
        numbers: &[u16],
        bytes: &[u8],
        path: &Path,
        pair: &Option<(u8, u8)>,
    ) -> String {
        format!("{text} {numbers:?} {bytes:?} {path:?} {pair:?}")
    }
    async fn bytes(&self, a: Option<Vec<u8>>, b: Vec<u8>, c: Bytes, d: Option<[u8; 2]>) -> String {
        format!("{a:?} {b:?} {} {d:?}", c.len())
    }
}

#[xero::worker]
impl Lent for Studio {
    async fn path(&self, path: &Path) -> PathBuf {
        path.join("more")
    }
    async fn os(&self, text: &OsStr) -> usize {
        text.len()
    }
    async fn c(&self, text: &CStr) -> CString {
        text.to_owned()
    }
    async fn text(&self, text: &str) -> String {
        text.to_owned()
    }
    async fn numbers(&self, numbers: &Numbers) -> u16 {
        numbers.iter().sum()
    }
    async fn page(&self, page: &Page) -> u32 {
        page.0
    }
}

#[tokio::test]
async fn missing_arguments_are_filled_in_by_position_and_by_name() {
    let (client, worker) = pair("inproc://arguments-missing").await;
    let cases = [
        ("trailing", json!([1]), "1 None 0 9"),
        ("trailing", json!([1, 2]), "1 Some(2) 0 9"),
        ("trailing", json!([1, null, 3]), "1 None 3 9"),
        ("trailing", json!([1, 2, 3, 4]), "1 Some(2) 3 4"),
        ("trailing", json!({"a": 1}), "1 None 0 9"),
        ("trailing", json!({"a": 1, "d": 4}), "1 None 0 4"),
        ("trailing", json!({"d": 4, "c": 3, "b": 2, "a": 1}), "1 Some(2) 3 4"),
        ("leading", json!({"c": 3}), "9 None 3"),
        ("leading", json!([1, 2, 3]), "1 Some(2) 3"),
        ("borrowed", json!([]), "none [] [1, 2] \"\" None"),
        ("borrowed", json!({}), "none [] [1, 2] \"\" None"),
        ("borrowed", json!(["a", [7], [8], "/", [1, 2]]), "a [7] [8] \"/\" Some((1, 2))"),
        ("bytes", json!([]), "None [1, 2] 0 None"),
        ("bytes", json!({"c": [1]}), "None [1, 2] 1 None"),
        ("bytes", json!([[1], [2], [3], [4, 5]]), "Some([1]) [2] 1 Some([4, 5])"),
    ];
    for (method, arguments, expected) in cases {
        for codec in [Codec::MessagePack, Codec::Json] {
            let call = client.call(&format!("Missing.{method}")).codec(codec).arguments(&arguments);
            let reply = call.await.expect("an answer").decode::<String>().expect("a text");
            assert_eq!(reply, expected, "{codec} {method} {arguments}");
        }
    }
    worker.drain().await;
}

#[tokio::test]
async fn missing_required_argument_is_an_error_that_names_it() {
    let (client, worker) = pair("inproc://arguments-required").await;
    let cases = [
        ("trailing", json!({"b": 1}), "`a`"),
        ("trailing", json!([]), "the argument `a` is missing"),
        ("leading", json!([1, 2]), "the argument `c` is missing"),
        ("trailing", json!([1, 2, null]), "the argument `c`"),
        ("trailing", json!([1, 2, 3, 4, 5]), "takes 4 arguments, but more were given"),
        ("trailing", json!({"a": 1, "e": 4}), "`e`"),
    ];
    for (method, arguments, culprit) in cases {
        for codec in [Codec::MessagePack, Codec::Json] {
            let call = client.call(&format!("Missing.{method}")).codec(codec).arguments(&arguments);
            let error = call.await.expect_err("does not fit");
            let CallError::Rpc(RpcError::InvalidArguments { .. }) = &error else {
                panic!("{codec} {arguments}: {error:?}")
            };
            assert!(error.to_string().contains(culprit), "{codec} {arguments}: {error}");
        }
    }
    worker.drain().await;
}

#[tokio::test]
async fn a_client_sends_every_argument() {
    let (client, worker) = pair("inproc://arguments-all").await;
    for codec in Codec::ALL {
        let missing = MissingClient::new(&client).with_codec(codec);
        assert_eq!(missing.trailing(1, Some(2), 3, 4).await.expect("trailing"), "1 Some(2) 3 4", "{codec}");
        assert_eq!(missing.leading(1, None, 3).await.expect("leading"), "1 None 3", "{codec}");
        let borrowed = missing.borrowed("a", &[7], &[8], Path::new("/"), &Some((1, 2))).await.expect("borrowed");
        assert_eq!(borrowed, "a [7] [8] \"/\" Some((1, 2))", "{codec}");
        let bytes = missing.bytes(None, vec![2], Bytes::new(), Some([4, 5])).await.expect("bytes");
        assert_eq!(bytes, "None [2] 0 Some([4, 5])", "{codec}");
    }
    worker.drain().await;
}

#[tokio::test]
async fn unsized_types_are_borrowed_from_their_owned_form() {
    let (client, worker) = pair("inproc://arguments-lent").await;
    for codec in Codec::ALL {
        let lent = LentClient::new(&client).with_codec(codec);
        assert_eq!(lent.path(Path::new("/some")).await.expect("path"), Path::new("/some/more"), "{codec}");
        assert_eq!(lent.os(OsStr::new("text")).await.expect("os"), 4, "{codec}");
        assert_eq!(*lent.c(c"text").await.expect("c"), *c"text", "{codec}");
        assert_eq!(lent.text("text").await.expect("text"), "text", "{codec}");
        assert_eq!(lent.numbers(&[1, 2, 3]).await.expect("numbers"), 6, "{codec}");
        assert_eq!(lent.page(&Page(7)).await.expect("page"), 7, "{codec}");
    }
    worker.drain().await;
}

#[cfg(unix)]
#[tokio::test]
async fn names_outside_unicode_travel_as_os_strings_but_not_as_paths() {
    use std::os::unix::ffi::OsStrExt;
    let (client, worker) = pair("inproc://arguments-unicode").await;
    let name = OsStr::from_bytes(b"\xff\xfe\xfd");
    for codec in Codec::ALL {
        let lent = LentClient::new(&client).with_codec(codec);
        assert_eq!(lent.os(name).await.expect("os"), 3, "{codec}");
        let error = lent.path(Path::new(name)).await.expect_err("no text");
        assert!(
            matches!(&error, CallError::Rpc(RpcError::InvalidArguments { reason, .. }) if reason.contains("UTF-8")),
            "{codec} {error:?}"
        );
    }
    worker.drain().await;
}

/// A client and a worker of both services in this process.
async fn pair(endpoint: &str) -> (Client, Worker) {
    let client = Client::bind(endpoint).await.expect("binds");
    let studio = std::sync::Arc::new(Studio);
    let worker = Worker::connect(endpoint)
        .serve(Missing::into_service(studio.clone()))
        .serve(Lent::into_service(studio))
        .start()
        .expect("starts");
    LentClient::new(&client).wait_for_worker(Duration::from_secs(10)).await.expect("a worker");
    (client, worker)
}

mod old {
    #[xero::service(name = "Growing")]
    pub(super) trait Growing {
        async fn resize(&self, image: Vec<u8>) -> String;
        async fn none(&self) -> String;
    }
}

mod middle {
    #[xero::service(name = "Growing")]
    pub(super) trait Growing {
        async fn resize(&self, image: Vec<u8>, width: Option<u32>) -> String;
    }
}

mod new {
    #[xero::service(name = "Growing")]
    pub(super) trait Growing {
        async fn resize(
            &self,
            image: Vec<u8>,
            width: Option<u32>,
            #[xero(default = super::defaults::text)] format: &str,
            #[xero(default)] tags: Vec<bytes::Bytes>,
        ) -> String;
        async fn none(&self, #[xero(default = super::nine)] first: u8) -> String;
    }

    #[xero::worker]
    impl Growing for super::Studio {
        async fn resize(&self, image: Vec<u8>, width: Option<u32>, format: &str, tags: Vec<bytes::Bytes>) -> String {
            format!("{image:?} {width:?} {format} {tags:?}")
        }
        async fn none(&self, first: u8) -> String {
            first.to_string()
        }
    }
}

#[tokio::test]
async fn a_new_worker_serves_old_clients_in_each_codec() {
    let client = Client::bind("inproc://arguments-growing").await.expect("binds");
    let service = new::Growing::into_service(std::sync::Arc::new(Studio));
    let worker = Worker::connect("inproc://arguments-growing").serve(service).start().expect("starts");
    new::GrowingClient::new(&client).wait_for_worker(Duration::from_secs(10)).await.expect("a worker");
    for codec in Codec::ALL {
        let old = old::GrowingClient::new(&client).with_codec(codec);
        assert_eq!(old.resize(vec![7]).await.expect("old"), "[7] None none []", "{codec}");
        assert_eq!(old.none().await.expect("old"), "9", "{codec}");
        let middle = middle::GrowingClient::new(&client).with_codec(codec);
        assert_eq!(middle.resize(vec![7], Some(1)).await.expect("middle"), "[7] Some(1) none []", "{codec}");
        let new = new::GrowingClient::new(&client).with_codec(codec);
        assert_eq!(new.resize(vec![7], None, "a", Vec::new()).await.expect("new"), "[7] None a []", "{codec}");
    }
    worker.drain().await;
}

/// A caller's fingerprint says which arguments it sends, so bytes that end early do not indicate an older caller.
mod grown {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Job {
        pub(super) id: u8,
        pub(super) size: u8,
    }

    #[xero::service(name = "Grown")]
    pub(super) trait Grown {
        async fn put(&self, job: Job, #[xero(default = super::nine)] count: u8) -> u8;
    }

    #[xero::worker]
    impl Grown for super::Studio {
        async fn put(&self, job: Job, count: u8) -> u8 {
            job.id + job.size + count
        }
    }
}

mod small {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Job {
        pub(super) id: u8,
    }

    #[xero::service(name = "Grown")]
    pub(super) trait Grown {
        async fn put(&self, job: Job, #[xero(default = super::nine)] count: u8) -> u8;
    }
}

#[tokio::test]
async fn a_defaulted_argument_does_not_replace_bytes_that_another_type_has_read() {
    let client = Client::bind("inproc://arguments-grown").await.expect("binds");
    let service = grown::Grown::into_service(std::sync::Arc::new(Studio));
    let worker = Worker::connect("inproc://arguments-grown").serve(service).start().expect("starts");
    for codec in [Codec::Bincode, Codec::Postcard] {
        let small = small::GrownClient::new(&client).with_codec(codec);
        let error = small.put(small::Job { id: 1 }, 2).await.expect_err("is another type").to_string();
        assert!(error.contains("cannot read the argument `count`: the bytes end within the value"), "{codec}: {error}");
        let grown = grown::GrownClient::new(&client).with_codec(codec);
        assert_eq!(grown.put(grown::Job { id: 1, size: 2 }, 3).await.expect("a sum"), 6, "{codec}");
        let dynamic = client.call("Grown.put").codec(codec).arguments(&((1_u8, 2_u8),)).await.expect("a sum");
        assert_eq!(dynamic.decode::<u8>().expect("a number"), 12, "{codec}");
    }
    worker.drain().await;
}
