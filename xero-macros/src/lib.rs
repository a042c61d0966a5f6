//! The attribute macros of `xero`, which re-exports them: [`macro@service`] on a trait, [`macro@worker`] on its impl.
//!
//! Depend on `xero`, not on this crate: the generated code works only with its own release of `xero`.

mod ast;
mod check;
mod errors;
mod expand;
mod fallback;
mod options;
mod parse;
mod signature;
mod types;

use proc_macro2::TokenStream;
use quote::quote;

use errors::Errors;

/// Turns a trait into a service: its methods can be called in another process.
///
/// The trait stays an ordinary one: its impls can be called and tested without xero. The macro adds a client,
/// `ThumbnailsClient` for a trait `Thumbnails`, with the same methods. Each returns a `Call`, which is set up with its
/// own methods and then awaited. [`macro@worker`] on an impl is the other half.
///
/// ```
/// use std::time::Duration;
///
/// use serde::{Deserialize, Serialize};
/// use xero::{Client, Context, Worker};
///
/// #[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
/// enum ImageError {
///     #[error("the image has no pixels")]
///     Empty,
/// }
///
/// #[xero::service]
/// trait Thumbnails {
///     /// Makes an image smaller.
///     #[xero(idempotent, timeout = "30s")]
///     async fn resize(&self, image: &[u8], width: u32) -> Result<Vec<u8>, ImageError>;
///
///     /// The number of pages, which are announced as they are read.
///     async fn count(&self, cx: &Context, document: &str) -> usize;
/// }
///
/// struct Studio;
///
/// #[xero::worker]
/// impl Thumbnails for Studio {
///     async fn resize(&self, image: &[u8], width: u32) -> Result<Vec<u8>, ImageError> {
///         if image.is_empty() {
///             return Err(ImageError::Empty);
///         }
///         Ok(image.iter().copied().take(width as usize).collect())
///     }
///
///     async fn count(&self, cx: &Context, document: &str) -> usize {
///         for page in document.split('\x0c') {
///             let _ = cx.partial(page).await; // nobody listening is no reason to stop
///         }
///         document.split('\x0c').count()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::bind("inproc://service-example").await?;
/// let worker = Worker::connect("inproc://service-example").serve(Studio).start()?;
///
/// let thumbnails = ThumbnailsClient::new(&client);
/// assert_eq!(thumbnails.resize(b"pixels", 3).timeout(Duration::from_secs(2)).await?, b"pix");
/// let error = thumbnails.resize(b"", 3).await.unwrap_err();
/// assert_eq!(error, xero::CallError::Application(ImageError::Empty));
/// assert_eq!(thumbnails.count("one\x0ctwo").await?, 2);
/// # worker.drain().await;
/// # Ok(())
/// # }
/// ```
///
/// # Options of the service
///
/// | option | meaning | default |
/// |---|---|---|
/// | `name = "…"` | the service's name between processes, in at most 255 bytes | the trait's name |
/// | `version = 2` | its version, as you count | 1 |
/// | `client = Name` | the client's name | the trait's name with `Client` |
/// | `crate = path` | where `xero` is, for a crate that re-exports it; for a trait in a function, a path from `crate` or `::` | `::xero` |
///
/// The client stands beside the trait. If its name is taken, the compiler reports the name as defined twice: choose
/// another one with `client`. `Chat` and `ChatClient` can both be services with `#[xero::service(client =
/// ChatSession)]` on the first.
///
/// # Options of a method
///
/// These stand on the trait's method, in `#[xero(…)]`:
///
/// | option | meaning | default |
/// |---|---|---|
/// | `idempotent` | the method may run twice, so a call is retried on another worker when its worker dies, drains or refuses | tried once |
/// | `timeout = "30s"` | the time a call may take, all attempts together: a number and `ms`, `s`, `min` or `h`, such as `"1.5s"`; `with_timeout` of a client takes precedence | that of the client's builder, 5 s by default |
/// | `inline` | runs on the worker's I/O thread, at once: the fastest, and a promise never to block | in its own task |
/// | `blocking` | runs on a thread where it may block, and is still an `async fn` | in its own task |
///
/// # Options of an argument
///
/// These stand before an argument of the trait's method, in `#[xero(…)]`:
///
/// | option | meaning | default |
/// |---|---|---|
/// | `default` | a worker fills in the type's `Default` when the caller leaves the argument out | an `Option` is `None`, others are required |
/// | `default = path` | the same, with the result of the function `path` | |
///
/// So a new worker serves callers that were built before the argument was added. A caller may leave out any such
/// argument by name (MessagePack, JSON), and the last ones by position (all codecs). In bincode and postcard, such an
/// argument therefore goes to the end; a required argument after it keeps older callers out. The typed client sends
/// every argument.
///
/// `&T` has the default of its decoded type: a `String` for `&str`, a `Vec<T>` for `&[T]`, a `T` for other types. Any
/// other type that reads `None` from nothing may be left out as well, such as an alias of an `Option`. In bincode and
/// postcard, that serves only callers without types: an older typed client gets a `SignatureMismatch`, because the
/// signature does not show the `Option`. Write `Option`, or add `#[xero(default)]`.
///
/// ```
/// use xero::{Client, Worker};
///
/// #[xero::service]
/// trait Thumbnails {
///     async fn resize(&self, image: &[u8], width: Option<u32>, #[xero(default = webp)] format: &str) -> String;
/// }
///
/// fn webp() -> String {
///     "webp".to_owned()
/// }
///
/// struct Studio;
///
/// #[xero::worker]
/// impl Thumbnails for Studio {
///     async fn resize(&self, image: &[u8], width: Option<u32>, format: &str) -> String {
///         format!("{} bytes, {width:?}, {format}", image.len())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::bind("inproc://default-example").await?;
/// # let worker = Worker::connect("inproc://default-example").serve(Studio).start()?;
/// let reply = client.call("Thumbnails.resize").arguments(&([1, 2, 3],)).await?;
/// assert_eq!(reply.decode::<String>()?, "3 bytes, None, webp");
/// # worker.drain().await;
/// # Ok(())
/// # }
/// ```
///
/// # Methods
///
/// Each is an `async fn` with `&self`. A service may have no methods at first.
///
/// - **Arguments** are any type with serde. `&str`, `&[T]` and `&T` are borrowed on both sides: a client does not
///   clone, and a worker lends the received value. A `T` without a size is decoded as its owned form: a `PathBuf` for
///   `&Path`, an `OsString` for `&OsStr`, a `CString` for `&CStr`, a `String` for an alias of `str`. They travel as
///   serde writes them: a path as text, which fails if it is not Unicode; an `OsStr` only to workers on the same kind
///   of system. Only a whole argument can be borrowed: `Option<String>`, not `Option<&str>`. Argument names travel with
///   MessagePack and JSON, so name each one.
/// - **`&xero::Context`**, as the first argument, does not travel: it is the worker's view of the call, with its
///   deadline, its cancellation, its metadata and a way to send partial replies. The macro recognizes its last word,
///   `Context`, so import it by that name, and give no type of your own that name.
/// - **Replies** are any owned type with serde, or nothing. The macro recognizes a `Result<T, E>` by its name and its
///   two types: a client gets the same `E`, in `CallError::Application`. An alias with one type hides the error: write
///   both.
/// - **A default body** stays; an impl may leave such a method out.
/// - **A method that calls itself**, directly or through others of its impl, boxes the call:
///   `Box::pin(self.depth(number - 1)).await`. If the recursion passes through a function outside the impl, such as one
///   of the type's own, the compiler says that the future is not `Send`, or that it cannot check a hidden type. Then
///   write the method as `fn depth(&self, number: u32) -> impl Future<Output = u32> + Send { async move { … } }`.
/// - **Doc comments**, `deprecated` and lint levels also apply to the client, `cfg` to all code made from a method.
///   Other attributes stay on the trait.
///
/// Types that cannot travel are errors: generics, lifetimes, `impl` and `dyn` types, constants and types of the trait.
/// So are methods named `new`, `clone`, `with_codec`, `with_timeout`, `with_fail_fast`, `with_metadata`,
/// `wait_for_worker` and `into_service`, which the client and the trait have. Call methods named `into` and `try_into` as `DemoClient::into(&demo)`: with a dot, Rust finds the
/// trait's.
///
/// # Bytes
///
/// serde writes a `Vec<u8>` number by number. Arguments and returns of a service travel as bytes instead: length and
/// content in bincode and postcard, `bin` in MessagePack, base64 in JSON. That holds for `Vec<u8>`, `&[u8]`, `[u8; N]`,
/// `Box<[u8]>`, `Arc<[u8]>`, `Cow<'static, [u8]>`, `bytes::Bytes` and `BytesMut`, for references to them and aliases of
/// them. It also holds for `Option`, `Result`, `Vec` and tuples of up to 12 that are spelled out around them. A worker
/// also reads lists of numbers.
///
/// A large `Bytes` is a slice of the received message, and a `&[u8]` is lent from it: neither is copied, if the codec
/// lends its input. `Vec<u8>` is copied once.
///
/// While such a `Bytes` lives, it keeps the whole message in memory, with all other arguments. A `Bytes` of at most 4
/// KiB, or of less than a quarter of the message, is a copy and keeps nothing. To keep a value for long, release the
/// message with `Bytes::copy_from_slice`.
///
/// All other bytes travel as their own serde implementation says, usually number by number: a field of your own struct,
/// a value of a `HashMap`, an alias of an `Option<Vec<u8>>`, a partial reply. `serde_bytes` does better:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// # use xero::{Client, Codec, Worker};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Letter {
///     subject: String,
///     #[serde(with = "serde_bytes")]
///     body: Vec<u8>,
/// }
///
/// #[xero::service]
/// trait Post {
///     async fn send(&self, letter: Letter, stamp: Option<[u8; 4]>) -> Letter;
/// }
/// #
/// # struct Office;
/// #
/// # #[xero::worker]
/// # impl Post for Office {
/// #     async fn send(&self, letter: Letter, _stamp: Option<[u8; 4]>) -> Letter {
/// #         letter
/// #     }
/// # }
/// #
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::bind("inproc://bytes-example").await?;
/// # let worker = Worker::connect("inproc://bytes-example").serve(Office).start()?;
/// # let sent = || Letter { subject: "bytes".to_owned(), body: vec![7; 1000] };
/// # for codec in Codec::ALL.into_iter().filter(|codec| codec.is_available()) {
/// #     let post = PostClient::new(&client).with_codec(codec);
/// #     assert_eq!(post.send(sent(), Some([1; 4])).await?, sent());
/// # }
/// # worker.drain().await;
/// # Ok(())
/// # }
/// ```
///
/// # Changes
///
/// Clients and workers of different versions meet during a deployment. The guide, `xero::guide`, has a table for each
/// change of an argument, a method, a field or a type, in each codec. In bincode and postcard, raise `version` when the
/// inside of a type changes: the signature does not show it.
///
/// # What it writes
///
/// - The trait, with each `async fn` as a function that returns `impl Future + Send`, which an `async fn` in an impl
///   satisfies. For a trait that must also be an object, put `#[async_trait]` **below** `#[xero::service]`; the trait
///   then stays as it is.
/// - `into_service(self: Arc<Self>)`, a function of the trait that turns a value into a `BoundService`. It serves a
///   value that implements several services, an impl without [`macro@worker`], and a trait object:
///   `Library::into_service(library)` with a `library` of type `Arc<dyn Library>`.
/// - The client, whose clones are cheap, with `new(&client)` and `wait_for_worker(timeout)`. What its calls begin with
///   is set by `with_codec(codec)`, `with_timeout(time)`, `with_fail_fast()` and `with_metadata(key, value)`, or by the
///   functions of these names of the `Client` that it is made from.
#[proc_macro_attribute]
pub fn service(options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand_service(options.into(), item.into()).into()
}

/// Lets a worker serve an impl's values: a value of its type, or an `Arc` of one.
///
/// The impl stays as it is, except for methods that call themselves. Its type must be `Send + Sync + 'static`. A method
/// is an `async fn`, or a function that returns a future. The only option is `crate = path`, as for [`macro@service`].
///
/// The impl may be generic, and its type a pointer such as `Arc<dyn Library>`, `Box<Studio>` or `&'static Studio`. An
/// impl for every type, `impl<T: Store> Library for T`, or for `Box<T>` or `&'static T` with any `T`, is served in an
/// `Arc`: `serve(Arc::new(value))`. So is an impl for a type without a size, such as `dyn Library`. So is an impl for
/// `Arc<T>` that delegates to any `T: Library`: an `Arc` of such a `T` is already served as the `T`.
///
/// If a value implements several services, name the one to serve:
///
/// ```
/// use std::sync::Arc;
/// use xero::{Client, Worker};
///
/// #[xero::service]
/// trait Clock {
///     async fn seconds(&self) -> u64;
/// }
///
/// #[xero::service]
/// trait Counter {
///     async fn count(&self) -> u64;
/// }
///
/// struct Desk;
///
/// #[xero::worker]
/// impl Clock for Desk {
///     async fn seconds(&self) -> u64 {
///         60
///     }
/// }
///
/// #[xero::worker]
/// impl Counter for Desk {
///     async fn count(&self) -> u64 {
///         1
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::bind("inproc://worker-example").await?;
/// let desk = Arc::new(Desk);
/// let worker = Worker::connect("inproc://worker-example")
///     .serve(Clock::into_service(Arc::clone(&desk)))
///     .serve(Counter::into_service(desk))
///     .start()?;
///
/// assert_eq!(ClockClient::new(&client).seconds().await?, 60);
/// assert_eq!(CounterClient::new(&client).count().await?, 1);
/// # worker.drain().await;
/// # Ok(())
/// # }
/// ```
#[proc_macro_attribute]
pub fn worker(options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand_worker(options.into(), item.into()).into()
}

fn expand_service(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(service) = parse::service(options, item.clone(), &mut errors) else {
        let errors = errors.to_tokens();
        return quote!(#errors #item);
    };
    check::service(&service, &mut errors);
    if errors.is_empty() {
        let (service_trait, client) = (expand::service::service(&service), expand::client::client(&service));
        return quote!(#service_trait #client);
    }
    let (errors, fallback) = (errors.to_tokens(), fallback::service(&service));
    quote!(#errors #fallback)
}

fn expand_worker(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(worker) = parse::worker(options, item.clone(), &mut errors) else {
        let errors = errors.to_tokens();
        return quote!(#errors #item);
    };
    if errors.is_empty() {
        return expand::worker::worker(&worker);
    }
    let (errors, fallback) = (errors.to_tokens(), fallback::worker(&worker));
    quote!(#errors #fallback)
}
