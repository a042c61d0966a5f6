//! Scaffolding of the transport branch; replaced at the merge.
#![allow(dead_code, unreachable_pub)]

pub mod message;
