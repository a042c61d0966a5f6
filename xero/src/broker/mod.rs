//! The broker: its handle, and the driver of its machine.

mod command;
mod driver;
mod handle;

pub use self::handle::{Broker, BrokerBuilder};
