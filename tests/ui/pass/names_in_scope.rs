//! Arguments and methods with the names of constants, statics, structs, variants, functions and types around them. An
//! impl, which is ordinary Rust, gives its parameters other names.

#![deny(warnings)]

#![allow(non_upper_case_globals, non_camel_case_types, non_snake_case, dead_code)]

use Variants::*;

const width: u32 = 3;
static height: u32 = 4;
struct unit;
struct tuple(u8);
enum Variants {
    variant,
    other(u8),
}
fn function() {}
mod module {}
macro_rules! mac {
    () => {
        3
    };
}
const size: usize = mac!();
const r#match: u8 = 1;

/// The names of the client's own parameters.
const client: u8 = 1;
static codec: u8 = 2;
const key: u8 = 1;
struct timeout;

/// Names in the code that derives make.
const f: u8 = 1;
const value: u8 = 1;
const serializer: u8 = 1;
const deserializer: u8 = 1;
const stub: u8 = 1;

/// The name of a type parameter of the arguments' struct, as a type and as a constant.
#[derive(serde::Serialize, serde::Deserialize)]
struct T0 {
    number: u8,
}
const T1: u8 = 1;

#[xero::service]
trait Demo {
    async fn globals(&self, width: u32, height: &u32, client: u8, codec: &[u8], timeout: &str) -> u32;
    async fn structs(&self, unit: u8, tuple: u8, variant: u8, other: u8, #[xero(default = function)] r#match: ()) -> T0;
    async fn items(&self, function: u8, module: u8, mac: u8, T0: T0, T1: &T0);
    async fn derived(&self, f: u8, value: u8, serializer: u8, deserializer: u8, stub: u8);
    async fn array(&self, size: [u8; size], width: &[u16; width as usize]) -> [u8; size];
    async fn width(&self);
    async fn unit(&self, width: bool) -> bool;
    async fn variant(&self, unit: Option<u8>);
    async fn function(&self);
    async fn mac(&self);
    async fn T1(&self);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn globals(&self, a: u32, _b: &u32, _c: u8, _d: &[u8], _e: &str) -> u32 {
        a
    }
    async fn structs(&self, number: u8, _b: u8, _c: u8, _d: u8, _e: ()) -> T0 {
        T0 { number }
    }
    async fn items(&self, _a: u8, _b: u8, _c: u8, _d: T0, _e: &T0) {}
    async fn derived(&self, _a: u8, _b: u8, _c: u8, _d: u8, _e: u8) {}
    async fn array(&self, a: [u8; size], _b: &[u16; 3]) -> [u8; 3] {
        a
    }
    async fn width(&self) {}
    async fn unit(&self, a: bool) -> bool {
        a
    }
    async fn variant(&self, _a: Option<u8>) {}
    async fn function(&self) {}
    async fn mac(&self) {}
    async fn T1(&self) {}
}

fn main() {
    drop((variant, other(1), Worker));
    let _ = |connection: &xero::Client| drop(DemoClient::new(connection).array([1, 2, 3], &[1, 2, 3]));
}
