//! The shell: owns sockets, tasks and the clock; decides nothing.

use std::{future::Future, io, thread};

use tokio::runtime;

pub(crate) mod broker_driver;
pub(crate) mod client_driver;
pub(crate) mod clock;
mod dealers;
pub(crate) mod driver;
pub(crate) mod endpoint;
mod listen;
pub(crate) mod memory;
mod peers;
mod procedure;
pub(crate) mod transport;
pub(crate) mod worker_driver;
pub(crate) mod zmq;

#[cfg(test)]
mod tests;

/// Runs a driver on a thread and a runtime of its own, so that heartbeats never wait for the user's code.
pub(crate) fn spawn_io(name: &str, driver: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(driver))?;
    Ok(())
}

pub(crate) fn io_thread_died() -> io::Error {
    io::Error::other("it has ended by itself")
}
