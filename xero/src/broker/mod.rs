//! The broker: its handle, and the driver of its machine.

mod command;
mod driver;
mod handle;
mod settings;

pub use self::handle::{Broker, BrokerBuilder};
