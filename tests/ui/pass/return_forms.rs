//! Nothing, a plain value and a `Result` with any serde error; errors keep their type on the way.

#![deny(warnings)]

use serde::{Deserialize, Serialize};
use xero::{Call, CallError, Client};

#[derive(Debug, Serialize, Deserialize)]
enum Refusal {
    TooLarge { width: u32 },
    Empty,
}

type Outcome = std::result::Result<u8, Refusal>;

#[xero::service]
trait Returns {
    async fn nothing(&self);
    async fn unit(&self) -> ();
    async fn plain(&self) -> Option<Vec<u8>>;
    async fn tuple(&self) -> (bool, u8);
    async fn result(&self, width: u32) -> Result<String, Refusal>;
    async fn qualified(&self) -> std::result::Result<(), String>;
    async fn alias(&self) -> Outcome;
}

struct Studio;

#[xero::worker]
impl Returns for Studio {
    async fn nothing(&self) {}
    async fn unit(&self) {}
    async fn plain(&self) -> Option<Vec<u8>> {
        None
    }
    async fn tuple(&self) -> (bool, u8) {
        (true, 1)
    }
    async fn result(&self, width: u32) -> Result<String, Refusal> {
        match width {
            0 => Err(Refusal::Empty),
            width => Err(Refusal::TooLarge { width }),
        }
    }
    async fn qualified(&self) -> std::result::Result<(), String> {
        Err("no".to_owned())
    }
    async fn alias(&self) -> Outcome {
        Ok(1)
    }
}

#[allow(dead_code)]
async fn calls(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
    let returns = ReturnsClient::new(client);
    let () = returns.nothing().await?;
    let () = returns.unit().await?;
    let _: Option<Vec<u8>> = returns.plain().await?;
    let (_, _): (bool, u8) = returns.tuple().await?;
    let call: Call<String, Refusal> = returns.result(1);
    let refused: Result<String, CallError<Refusal>> = call.await;
    drop(refused);
    let refused: Result<(), CallError<String>> = returns.qualified().await;
    drop(refused);
    let _: Outcome = returns.alias().await?;
    Ok(())
}

fn main() {}
