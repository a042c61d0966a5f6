//! A service and a worker once parsed; emits no tokens.

use std::time::Duration;

use proc_macro2::{Ident, TokenStream};
use syn::{Attribute, Block, ItemImpl, ItemTrait, Path, Signature, Type};

/// A trait under `#[xero::service]`.
pub(crate) struct Service {
    /// The trait as written, without `#[xero(…)]`.
    pub(crate) item: ItemTrait,
    pub(crate) options: ServiceOptions,
    /// The methods without mistakes, in order; all methods if there was no error.
    pub(crate) methods: Vec<Method>,
    /// Whether `#[async_trait]` sees the trait next, and needs its `async fn`s unchanged.
    pub(crate) is_async_trait: bool,
    /// The service's number in the crate. A module that imports everything around it may have a service of the same
    /// name as one outside, and the code generated for the two must differ.
    pub(crate) number: usize,
}

/// An impl under `#[xero::worker]`.
pub(crate) struct Worker {
    /// The impl as written, without `#[xero(…)]`.
    pub(crate) item: ItemImpl,
    /// The service trait; absent after an error.
    pub(crate) service: Option<Path>,
    pub(crate) runtime: Runtime,
}

/// A method of a service trait.
pub(crate) struct Method {
    /// The attributes as written, without `#[xero(…)]`.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) signature: Signature,
    pub(crate) default_body: Option<Block>,
    /// The type of a first argument `&Context`, which does not travel.
    pub(crate) context: Option<Type>,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) output: Output,
    pub(crate) options: MethodOptions,
}

/// An argument that travels.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) kind: ArgumentKind,
    pub(crate) presence: Presence,
}

/// How a worker handles an argument that a caller leaves out.
pub(crate) enum Presence {
    /// Refuses the call.
    Required,
    /// Takes `None`: the type is an `Option`.
    Optional,
    /// Takes the type's default, or the function's result: `#[xero(default)]`, `#[xero(default = path)]`.
    Defaulted { option: Ident, function: Option<Path> },
}

/// How a method takes an argument. A worker decodes the owned form and lends it.
pub(crate) enum ArgumentKind {
    /// `T`
    Owned(Type),
    /// `&T`
    Borrowed(Type),
    /// `&str`, decoded as a `String`.
    Text,
    /// `&[T]`, decoded as a `Vec<T>`; the type is `T`.
    Slice(Type),
}

/// What a method returns.
pub(crate) enum Output {
    Unit,
    Plain(Type),
    Result { value: Type, error: Box<Type> },
}

/// `#[xero::service(…)]`
pub(crate) struct ServiceOptions {
    /// The routing key; by default the trait's name.
    pub(crate) name: String,
    pub(crate) version: u32,
    /// The client's name, if it is not the trait's name with `Client`.
    pub(crate) client: Option<Ident>,
    pub(crate) runtime: Runtime,
}

/// `#[xero(…)]` on a method.
#[derive(Debug, Default)]
pub(crate) struct MethodOptions {
    pub(crate) idempotent: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) mode: Mode,
}

/// Where a procedure runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Task,
    Inline,
    Blocking,
}

/// Where generated code finds the library.
pub(crate) struct Runtime {
    /// `::xero::__private`, or the same of another path.
    pub(crate) private: TokenStream,
    /// The same path as text, for serde's own attributes.
    pub(crate) text: String,
    /// The same path as generated modules see it.
    pub(crate) nested: TokenStream,
}
