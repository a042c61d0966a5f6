//! A stand-in until the real crate root lands: the protocol's messages and their bytes.

pub mod proto;
