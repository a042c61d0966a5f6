//! Generated code names everything in full, so it needs no prelude and minds no names around it.

#![deny(warnings)]

#![no_implicit_prelude]

#[allow(dead_code, non_camel_case_types)]
mod names {
    pub struct Send;
    pub struct Sync;
    pub struct Sized;
    pub struct Future;
    pub struct Option;
    pub struct Some;
    pub struct None;
    pub struct Result;
    pub struct Clone;
    pub struct Debug;
    pub struct String;
    pub struct Vec;
    pub struct Arc;
    pub struct Method;
    pub mod core {}
    pub mod std {}
    pub mod serde {}
    pub mod xero {}
}
#[allow(unused_imports)]
use names::*;

#[::xero::service(version = 2)]
pub trait Bare: ::core::marker::Send + ::core::marker::Sync {
    #[xero(idempotent, timeout = "1s")]
    async fn compare(&self, left: &str, right: &[u8]) -> bool;
    async fn fail(&self, context: &::xero::Context, text: ::std::string::String) -> ::std::result::Result<(), u8>;
    async fn nothing(&self) {}
}

pub struct Worker;

#[::xero::worker]
impl Bare for Worker {
    async fn compare(&self, left: &str, right: &[u8]) -> bool {
        left.as_bytes() == right
    }
    async fn fail(&self, _context: &::xero::Context, _text: ::std::string::String) -> ::std::result::Result<(), u8> {
        ::std::result::Result::Err(1)
    }
}

fn main() {}
