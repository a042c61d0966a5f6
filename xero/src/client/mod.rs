//! The client: its handle, its calls, and the driver of its machine.

mod call;
mod caller;
mod command;
mod defaults;
mod driver;
mod handle;
mod method;
mod partials;
mod settings;
mod stub;
mod value;

pub use self::{
    call::{Call, PendingCall},
    handle::{Client, ClientBuilder},
    stub::Stub,
    value::Value,
};
