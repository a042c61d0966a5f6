//! A stand-in until the real module root lands.

pub mod frame;
pub mod message;
