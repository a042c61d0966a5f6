//! The shell: owns sockets, tasks and the clock; decides nothing.

pub(crate) mod broker_driver;
pub(crate) mod client_driver;
pub(crate) mod clock;
mod dealers;
pub(crate) mod driver;
pub(crate) mod endpoint;
pub(crate) mod guest;
pub(crate) mod io_thread;
mod listen;
pub(crate) mod memory;
pub(crate) mod panics;
mod park;
mod peers;
pub(crate) mod procedure;
pub(crate) mod transport;
pub(crate) mod worker_driver;
pub(crate) mod zmq;

#[cfg(test)]
mod tests;
