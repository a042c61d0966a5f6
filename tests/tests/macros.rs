//! Generated code at run time: forms of arguments, codecs, and methods that `cfg` removes.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use xero::{CallError, Client, Codec, Context, RpcError, Worker};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Refusal {
    TooLarge { width: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scene {
    lights: Vec<Option<u32>>,
}

#[xero::service(name = "studio.Forms", version = 2)]
trait Forms {
    #[cfg(not(any(unix, windows)))]
    async fn absent(&self);
    async fn nothing(&self);
    async fn borrowed(&self, text: &str, bytes: &[u8], scenes: &[Scene], scene: &Scene) -> (String, Vec<u8>, u32);
    #[cfg(not(any(unix, windows)))]
    async fn absent_as_well(&self);
    async fn refuse(&self, cx: &Context, width: u32) -> Result<u32, Refusal>;
    async fn r#type(&self, r#match: u8) -> u8;
    async fn doubled(&self, text: &str) -> String {
        let half = text.to_owned();
        half.clone() + &half
    }
    async fn depth(&self, number: u32) -> u32;
    async fn default_depth(&self, number: u32) -> u32 {
        if number == 0 { 0 } else { Box::pin(self.default_depth(number - 1)).await + 1 }
    }
}

struct Studio;

#[xero::worker]
impl Forms for Studio {
    async fn nothing(&self) {}

    async fn borrowed(&self, text: &str, bytes: &[u8], scenes: &[Scene], scene: &Scene) -> (String, Vec<u8>, u32) {
        let lights = scenes.iter().chain([scene]).flat_map(|scene| &scene.lights).flatten().sum();
        (text.to_owned(), bytes.to_vec(), lights)
    }

    async fn refuse(&self, cx: &Context, width: u32) -> Result<u32, Refusal> {
        assert_eq!((cx.service(), cx.method()), ("studio.Forms", "refuse"));
        if width > 10 { Err(Refusal::TooLarge { width }) } else { Ok(width) }
    }

    async fn r#type(&self, r#match: u8) -> u8 {
        r#match + 1
    }

    async fn depth(&self, number: u32) -> u32 {
        if number == 0 { 0 } else { Box::pin(self.depth(number - 1)).await + 1 }
    }
}

#[tokio::test]
async fn every_form_of_argument_and_reply_survives_each_codec() {
    let (client, worker) = pair("inproc://macros-forms").await;
    let scene = Scene { lights: vec![Some(1), None, Some(2)] };
    for codec in Codec::ALL {
        let forms = FormsClient::new(&client).with_codec(codec);
        forms.nothing().await.expect("nothing");
        let reply = forms.borrowed("ä", b"bytes", &[scene.clone(), scene.clone()], &scene).await.expect("borrowed");
        assert_eq!(reply, ("ä".to_owned(), b"bytes".to_vec(), 9), "{codec}");
        assert_eq!(forms.refuse(10).await.expect("refuse"), 10, "{codec}");
        let refused = forms.refuse(11).await.expect_err("is refused");
        assert_eq!(refused, CallError::Application(Refusal::TooLarge { width: 11 }), "{codec}");
        assert_eq!(forms.r#type(1).await.expect("type"), 2, "{codec}");
        assert_eq!(forms.doubled("ab").await.expect("doubled"), "abab", "{codec}");
        assert_eq!(forms.depth(7).await.expect("depth"), 7, "{codec}");
        assert_eq!(forms.default_depth(8).await.expect("default depth"), 8, "{codec}");
    }
    worker.drain().await;
}

#[tokio::test]
async fn arguments_are_accepted_by_position_and_by_name() {
    let (client, worker) = pair("inproc://macros-dynamic").await;
    let by_position = client.call("studio.Forms.type").arguments(&(4,)).await.expect("by position");
    assert_eq!(by_position.decode::<u8>().expect("a number"), 5);
    let by_name = serde_json::json!({"match": 6});
    let by_name = client.call("studio.Forms.type").codec(Codec::Json).arguments(&by_name).await.expect("by name");
    assert_eq!(by_name.decode::<u8>().expect("a number"), 7);
    for nothing in [serde_json::json!([]), serde_json::json!({})] {
        for codec in [Codec::MessagePack, Codec::Json] {
            client.call("studio.Forms.nothing").codec(codec).arguments(&nothing).await.expect("no arguments");
        }
    }
    for codec in Codec::ALL {
        client.call("studio.Forms.nothing").codec(codec).arguments(&()).await.expect("no arguments");
        let error = client.call("studio.Forms.type").codec(codec).arguments(&()).await.expect_err("one is missing");
        assert!(error.to_string().contains("the argument `match`"), "{codec}: {error}");
    }
    worker.drain().await;
}

#[tokio::test]
async fn wrong_arguments_are_an_error_that_names_them() {
    let (client, worker) = pair("inproc://macros-misfits").await;
    let misfits = [
        ("type", serde_json::json!({"match": 1, "mtach": 2}), "mtach"),
        ("type", serde_json::json!({}), "match"),
        ("type", serde_json::json!(["text"]), "the argument `match`"),
        ("type", serde_json::json!([]), "the argument `match` is missing"),
        ("type", serde_json::json!([1, 2]), "takes one argument, but more were given"),
        ("type", serde_json::json!("text"), "expected the arguments of `type(match: u8) -> u8`"),
        ("nothing", serde_json::json!({"extra": 1}), "takes no arguments, but some were given"),
    ];
    for (method, arguments, culprit) in misfits {
        for codec in [Codec::MessagePack, Codec::Json] {
            let call = client.call(&format!("studio.Forms.{method}")).codec(codec).arguments(&arguments);
            let error = call.await.expect_err("does not fit");
            let CallError::Rpc(RpcError::InvalidArguments { .. }) = &error else {
                panic!("{codec} {arguments}: {error:?}")
            };
            let text = error.to_string();
            assert!(text.contains(culprit) && !text.contains("__"), "{codec} {arguments}: {text}");
        }
    }
    worker.drain().await;
}

/// Arguments named like the locals of generated code, and arguments named like a word of a type.
#[allow(non_upper_case_globals, non_snake_case, unused_variables)]
mod names {
    pub(super) mod index {
        #[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        pub(in super::super) struct Index(pub(in super::super) u32);

        pub(in super::super) const size: usize = 2;
        pub(in super::super) const timeout: usize = 3;
    }

    use index::{size, timeout};

    #[xero::service]
    pub(super) trait Names {
        async fn none(&self) -> u32;
        async fn word(&self, index: index::Index) -> u32;
        async fn words(&self, index: index::Index, __index: u32, ___index: u32) -> (u32, u32, u32);
        async fn constants(&self, size: [u8; size], timeout: [u16; timeout], __size: u8) -> (u8, u16, u8);
        async fn client_locals(&self, __index: u32, __arguments: u32, __method: u32, stub: u32) -> [u32; 4];
        async fn worker_locals(&self, __service: u32, __value: u32, __context: u32, __reply: u32) -> [u32; 4];
        async fn types(&self, T0: u32, __Form0: u32, __Arguments: u32, __Method: u32) -> [u32; 4];
        async fn default(&self, #[xero(default = __value)] number: u32, #[xero(default = __arguments)] b: u32) -> u32;
        async fn recursive(&self, __argument2: u32, number: u32) -> (u32, u32);
    }

    pub(super) fn __value() -> u32 {
        4
    }

    pub(super) fn __arguments() -> u32 {
        5
    }

    pub(super) struct Named;

    #[xero::worker]
    impl Names for Named {
        async fn none(&self) -> u32 {
            0
        }
        async fn word(&self, index: index::Index) -> u32 {
            index.0
        }
        async fn words(&self, index: index::Index, __index: u32, ___index: u32) -> (u32, u32, u32) {
            (index.0, __index, ___index)
        }
        async fn constants(&self, a: [u8; size], b: [u16; timeout], c: u8) -> (u8, u16, u8) {
            (a.iter().sum(), b.iter().sum(), c)
        }
        async fn client_locals(&self, __index: u32, __arguments: u32, __method: u32, stub: u32) -> [u32; 4] {
            [__index, __arguments, __method, stub]
        }
        async fn worker_locals(&self, __service: u32, __value: u32, __context: u32, __reply: u32) -> [u32; 4] {
            [__service, __value, __context, __reply]
        }
        async fn types(&self, a: u32, b: u32, c: u32, d: u32) -> [u32; 4] {
            [a, b, c, d]
        }
        async fn default(&self, number: u32, b: u32) -> u32 {
            number * 10 + b
        }
        async fn recursive(&self, __argument2: u32, number: u32) -> (u32, u32) {
            match number {
                0 => (__argument2, number),
                _ => Box::pin(self.recursive(__argument2, number - 1)).await,
            }
        }
    }
}

#[tokio::test]
async fn arguments_do_not_collide_with_each_other_or_with_generated_locals() {
    use names::{Named, NamesClient, index::Index};
    let endpoint = "inproc://macros-names";
    let client = Client::bind(endpoint).await.expect("binds");
    let worker = Worker::connect(endpoint).serve(Named).start().expect("starts");
    NamesClient::new(&client).wait_for_worker(Duration::from_secs(10)).await.expect("a worker");
    for codec in Codec::ALL {
        let names = NamesClient::new(&client).with_codec(codec);
        assert_eq!(names.none().await.expect("none"), 0, "{codec}");
        assert_eq!(names.word(Index(777)).await.expect("word"), 777, "{codec}");
        assert_eq!(names.words(Index(7), 8, 9).await.expect("words"), (7, 8, 9), "{codec}");
        assert_eq!(names.constants([1, 2], [3, 4, 5], 6).await.expect("constants"), (3, 12, 6), "{codec}");
        assert_eq!(names.client_locals(11, 12, 13, 14).await.expect("locals"), [11, 12, 13, 14], "{codec}");
        assert_eq!(names.worker_locals(11, 12, 13, 14).await.expect("locals"), [11, 12, 13, 14], "{codec}");
        assert_eq!(names.types(11, 12, 13, 14).await.expect("types"), [11, 12, 13, 14], "{codec}");
        assert_eq!(names.recursive(11, 1).await.expect("recursive"), (11, 0), "{codec}");
        let missing = client.call("Names.default").codec(codec).await.expect("defaults");
        assert_eq!(missing.decode::<u32>().expect("a number"), 45, "{codec}");
    }
    worker.drain().await;
}

/// Implemented for a type, and for every type that is a text.
mod kinds {
    use async_trait::async_trait;

    #[xero::service]
    #[async_trait]
    pub(super) trait Object: Send + Sync {
        async fn name(&self) -> String;
    }

    #[async_trait]
    impl Object for u8 {
        async fn name(&self) -> String {
            "a number".to_owned()
        }
    }

    #[xero::service]
    pub(super) trait Text {
        async fn text(&self) -> String;
    }

    #[xero::worker]
    impl<T: AsRef<str> + Send + Sync + ?Sized> Text for T {
        async fn text(&self) -> String {
            self.as_ref().to_owned()
        }
    }
}

#[tokio::test]
async fn objects_and_impls_for_every_type_are_served() {
    use kinds::{Object, ObjectClient, TextClient};
    let endpoint = "inproc://macros-kinds";
    let client = Client::bind(endpoint).await.expect("binds");
    let object: Arc<dyn Object> = Arc::new(7_u8);
    let text: Arc<str> = "a text".into();
    let worker = Worker::connect(endpoint).serve(Object::into_service(object)).serve(text).start().expect("starts");
    let text = TextClient::new(&client);
    text.wait_for_worker(Duration::from_secs(10)).await.expect("a worker");
    assert_eq!(ObjectClient::new(&client).name().await.expect("name"), "a number");
    assert_eq!(text.text().await.expect("text"), "a text");
    worker.drain().await;
}

/// A client and a worker of `Forms` in this process.
async fn pair(endpoint: &str) -> (Client, Worker) {
    let client = Client::bind(endpoint).await.expect("binds");
    let worker = Worker::connect(endpoint).serve(Studio).start().expect("starts");
    FormsClient::new(&client).wait_for_worker(Duration::from_secs(10)).await.expect("a worker");
    (client, worker)
}
