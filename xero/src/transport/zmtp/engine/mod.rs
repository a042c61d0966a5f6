//! ZMTP 3.1 without I/O: bytes in, messages and bytes out. No socket, no clock, no task.
//!
//! A [`Session`] reads what one peer sends and reports messages; an [`Outgoing`] holds what goes to that peer. Every
//! limit is asked at the declared length, before a byte is reserved, and buffers grow with what arrives.
//!
//! The fuzz target compiles these files by themselves, so they import nothing of the rest of the crate.

mod body;
mod command;
mod frame;
mod greeting;
mod limits;
mod message;
mod outgoing;
mod session;
#[cfg(test)]
mod tests;
mod violation;

pub(crate) use self::{
    limits::Limits,
    message::Received,
    outgoing::Outgoing,
    session::{Event, Role, Session},
    violation::Violation,
};
