//! The broker: its handle, and what drives its machine.

mod command;
mod driver;
mod handle;

pub use self::handle::{Broker, BrokerBuilder};
