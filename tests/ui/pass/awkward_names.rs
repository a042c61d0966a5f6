//! Names that generated code might have used itself, raw identifiers, and names that share a spelling.

#![deny(warnings)]

#![allow(non_snake_case)]

use serde::{Deserialize, Serialize};

/// `S` is a common name of a type parameter.
#[xero::service]
trait S {
    async fn service(&self, service: u8, context: u8, arguments: u8, self_: u8) -> u8;
    async fn context(&self, codec: u8, stub: u8, value: u8, reply: u8) -> u8;
    async fn call(&self, client: u8, this: u8, descriptor: u8) -> u8;
    async fn stub(&self, A: u8, a: u8) -> u8;
    async fn into(&self) -> u8;
    async fn fmt(&self, f: u8) -> u8;
    async fn serialize(&self, serializer: u8) -> u8;
    async fn r#type(&self, r#match: u8, r#fn: &str) -> u8;
    async fn a_b(&self, T: u8, E: u8) -> u8;
    async fn aB(&self, union: u8, auto: u8) -> u8;
    async fn procedure(&self, lone: u8) -> u8;
    async fn _hidden(&self, _number: u8) -> u8;
    async fn __service(&self, __0: u8, größe: u8) -> u8;
    async fn größe(&self) -> u8;
}

/// Has the name of the struct that carries `ask`'s arguments, without its underscores.
#[derive(Serialize, Deserialize)]
struct AskArguments {
    question: String,
}

#[xero::service]
trait Questions {
    async fn ask(&self, ask: &AskArguments, arguments: Vec<AskArguments>) -> AskArguments;
}

mod raw {
    #[allow(non_camel_case_types)]
    #[xero::service]
    pub trait r#trait {
        async fn r#async(&self) -> u8;
    }
}

struct Worker;

#[xero::worker]
impl S for Worker {
    async fn service(&self, service: u8, context: u8, arguments: u8, self_: u8) -> u8 {
        service + context + arguments + self_
    }
    async fn context(&self, codec: u8, stub: u8, value: u8, reply: u8) -> u8 {
        codec + stub + value + reply
    }
    async fn call(&self, client: u8, this: u8, descriptor: u8) -> u8 {
        client + this + descriptor
    }
    async fn stub(&self, A: u8, a: u8) -> u8 {
        A + a
    }
    async fn into(&self) -> u8 {
        1
    }
    async fn fmt(&self, f: u8) -> u8 {
        f
    }
    async fn serialize(&self, serializer: u8) -> u8 {
        serializer
    }
    async fn r#type(&self, r#match: u8, r#fn: &str) -> u8 {
        r#match + r#fn.len() as u8
    }
    async fn a_b(&self, T: u8, E: u8) -> u8 {
        T + E
    }
    async fn aB(&self, union: u8, auto: u8) -> u8 {
        union + auto
    }
    async fn procedure(&self, lone: u8) -> u8 {
        lone
    }
    async fn _hidden(&self, _number: u8) -> u8 {
        0
    }
    async fn __service(&self, __0: u8, größe: u8) -> u8 {
        __0 + größe
    }
    async fn größe(&self) -> u8 {
        0
    }
}

#[xero::worker]
impl Questions for Worker {
    async fn ask(&self, _ask: &AskArguments, _arguments: Vec<AskArguments>) -> AskArguments {
        AskArguments { question: String::new() }
    }
}

#[xero::worker]
impl raw::r#trait for Worker {
    async fn r#async(&self) -> u8 {
        0
    }
}

#[allow(dead_code)]
async fn calls(client: &xero::Client) -> Result<(), Box<dyn std::error::Error>> {
    let s = SClient::new(client);
    let _: u8 = s.r#type(1, "a").await? + SClient::into(&s.clone()).await? + s.service(1, 2, 3, 4).await?;
    let _: u8 = raw::traitClient::new(client).r#async().await?;
    Ok(())
}

fn main() {}
