//! The worker: its handle, its services, its procedures, and the driver of its machine.

mod command;
mod context;
mod driver;
mod handle;
mod park;
mod procedure;
mod service;
mod settings;
mod test_call;

pub(crate) use self::service::signature_in;
pub use self::{
    context::Context,
    handle::{Worker, WorkerBuilder},
    service::{
        BoundService, IntoService, MethodDescriptor, Mode, Outcome, ServiceDescriptor, reply, reply_result, shared,
    },
    test_call::{ContextBuilder, TestCall},
};
