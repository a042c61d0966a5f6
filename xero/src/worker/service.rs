//! The traits and values that generated code implements and fills in; no transport.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;

use super::context::Context;
use crate::{
    codec::CodecError,
    proto::{
        message::{Codec, MethodOffer, Payload, ServiceOffer},
        worker::Signature,
    },
    wire::{self, Carries},
};

/// The description of a service trait; one constant for each `#[xero::service]`.
#[derive(Debug)]
pub struct ServiceDescriptor {
    /// The routing key: the trait's name unless `#[xero::service(name = "…")]` says otherwise.
    pub name: &'static str,
    /// `#[xero::service(version = N)]`; 1 by default.
    pub version: u32,
    /// The trait's methods, in its order.
    pub methods: &'static [MethodDescriptor],
}

/// The description of one method of a service trait.
#[derive(Debug)]
pub struct MethodDescriptor {
    /// The method's name.
    pub name: &'static str,
    /// The signature in readable form, such as `compare(str1: String, str2: String) -> (bool, u8)`.
    pub signature: &'static str,
    /// The names of the arguments on the wire, in order.
    pub arguments: &'static [&'static str],
    /// The hash of the signature's types; never 0.
    pub fingerprint: u64,
    /// The fingerprints of the signature before its last optional arguments were added, newest first.
    pub older: &'static [u64],
    /// Whether the method may run twice: `#[xero(idempotent)]`.
    pub idempotent: bool,
    /// The call's default time limit: `#[xero(timeout = "…")]`.
    pub timeout: Option<Duration>,
    /// Where the procedure runs.
    pub mode: Mode,
}

impl MethodDescriptor {
    /// The number of arguments in the signature with this fingerprint.
    ///
    /// It may be the current signature or an older one, before its last optional arguments. `None` for a caller without
    /// a signature.
    fn argument_count(&self, fingerprint: u64) -> Option<usize> {
        let count = self.arguments.len();
        if fingerprint == self.fingerprint {
            return Some(count);
        }
        let missing = self.older.iter().position(|older| *older == fingerprint)? + 1;
        count.checked_sub(missing)
    }
}

/// A signature for error messages, with the version: signatures that differ only in it must look different.
pub(crate) fn signature_in(version: u32, signature: &str) -> String {
    match version {
        1 => signature.to_owned(),
        _ => format!("{signature}, version {version}"),
    }
}

/// Where a procedure runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// In a task on the user's runtime.
    #[default]
    Task,
    /// On the I/O thread, in the turn after the request: a promise never to block, `#[xero(inline)]`.
    Inline,
    /// On a thread of the runtime's blocking pool: `#[xero(blocking)]`.
    Blocking,
}

/// How a procedure ends without a value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The method's own error, encoded.
    Application(Payload),
    /// The arguments do not decode.
    InvalidArguments(CodecError),
    /// The reply could not be encoded.
    InvalidReply(CodecError),
}

/// The end of a procedure: an encoded value or a failure.
pub type Outcome = Result<Payload, Failure>;

/// A running procedure.
pub(crate) type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

type Start = Arc<dyn Fn(Context, Payload) -> Running + Send + Sync>;

/// The callable that an annotated impl makes from one of its methods.
#[derive(Clone)]
pub(crate) struct Procedure {
    pub(crate) descriptor: &'static MethodDescriptor,
    start: Start,
}

impl Procedure {
    /// Runs the procedure on encoded arguments.
    pub(crate) fn start(&self, context: Context, arguments: Payload) -> Running {
        (self.start)(context, arguments)
    }
}

impl fmt::Debug for Procedure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Procedure").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

/// A value with the procedures of its `#[xero::worker]` impl of one service.
///
/// [`IntoService`] makes it. For a value that implements several services, use the `into_service` function that
/// `#[xero::service]` adds to each trait.
#[derive(Clone, Debug)]
pub struct BoundService {
    pub(crate) descriptor: &'static ServiceDescriptor,
    pub(crate) procedures: Vec<Procedure>,
}

impl BoundService {
    /// A service without procedures; generated code then calls [`Self::procedure`] for each method, in order.
    pub fn new(descriptor: &'static ServiceDescriptor) -> Self {
        Self { descriptor, procedures: Vec::with_capacity(descriptor.methods.len()) }
    }

    /// Adds the procedure of the next method.
    ///
    /// # Panics
    /// When there are more procedures than the descriptor has methods.
    #[must_use]
    pub fn procedure<S, A, F, Fut>(mut self, service: &Arc<S>, body: F) -> Self
    where
        S: Send + Sync + ?Sized + 'static,
        A: DeserializeOwned + Send + 'static,
        F: Fn(Arc<S>, Context, A) -> Fut + Send + Sync + Copy + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let descriptor = &self.descriptor.methods[self.procedures.len()];
        let service = Arc::clone(service);
        let start: Start = Arc::new(move |context, arguments| {
            let service = Arc::clone(&service);
            Box::pin(async move {
                let count = descriptor.argument_count(context.fingerprint());
                let decoded = wire::decode_arguments::<A>(&arguments, count);
                drop(arguments);
                body(service, context, decoded.map_err(Failure::InvalidArguments)?).await
            })
        });
        self.procedures.push(Procedure { descriptor, start });
        self
    }

    /// Whether a procedure takes a thread while it runs.
    pub(crate) fn blocks(&self) -> bool {
        self.descriptor.methods.iter().any(|method| method.mode == Mode::Blocking)
    }

    pub(crate) fn signatures(&self) -> Vec<Signature> {
        let signature = |method: &MethodDescriptor| Signature {
            text: signature_in(self.descriptor.version, method.signature),
            older: method.older.to_vec(),
        };
        self.descriptor.methods.iter().map(signature).collect()
    }

    /// The service in a worker's announcement.
    pub(crate) fn offer(&self) -> ServiceOffer {
        let methods = self.descriptor.methods.iter().map(|method| MethodOffer {
            name: method.name.into(),
            idempotent: method.idempotent,
            fingerprint: method.fingerprint,
        });
        ServiceOffer { name: self.descriptor.name.into(), version: self.descriptor.version, methods: methods.collect() }
    }
}

/// A value that a worker can serve.
///
/// It has a `#[xero::worker]` impl, or is an `Arc` of such a value, or a [`BoundService`].
///
/// `M` only distinguishes impls and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be served: it has no `#[xero::worker]` impl of a service trait",
    label = "not a worker",
    note = "write `#[xero::worker]` above `impl YourService for {Self}`",
    note = "a trait object is served as `YourService::into_service(value)`, and so is a value with several services",
    note = "with an impl for any type `T`, `&T` or `Box<T>`, serve `Arc::new(value)`"
)]
pub trait IntoService<M> {
    /// Binds the value to its procedures.
    fn into_bound_service(self) -> BoundService;
}

impl IntoService<()> for BoundService {
    fn into_bound_service(self) -> BoundService {
        self
    }
}

/// Requires that calls can share a worker's type.
///
/// Each method of an impl states the requirement in the same words and at the same place, the user's type. So the
/// compiler reports it once, not for every method.
pub const fn shared<S: Sync + ?Sized>() {}

/// Ends a procedure whose method returns a plain value, of the form `M`.
pub fn reply<M: Carries<T>, T>(codec: Codec, value: &T) -> Outcome {
    M::encode(codec, value).map_err(Failure::InvalidReply)
}

/// Ends a procedure whose method returns a `Result`, of the forms `M` and `N`.
pub fn reply_result<M: Carries<T>, N: Carries<E>, T, E>(codec: Codec, result: &Result<T, E>) -> Outcome {
    match result {
        Ok(value) => reply::<M, T>(codec, value),
        Err(error) => Err(Failure::Application(reply::<N, E>(codec, error)?)),
    }
}
