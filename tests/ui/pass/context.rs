//! `&Context` first, by any path, does not travel: the client's method has no such argument.

#![deny(warnings)]

use xero::{Client, Context};

#[xero::service]
trait Reports {
    async fn build(&self, context: &Context, pages: u32) -> u32;
    async fn alone(&self, cx: &xero::Context);
    async fn unnamed(&self, _: &Context, name: &str) -> String;
    async fn unused(&self, _cx: &Context) -> u8 {
        7
    }
}

struct Office;

#[xero::worker]
impl Reports for Office {
    async fn build(&self, context: &Context, pages: u32) -> u32 {
        let _ = context.partial("started").await;
        pages
    }
    async fn alone(&self, _cx: &xero::Context) {}
    async fn unnamed(&self, _: &Context, name: &str) -> String {
        name.to_owned()
    }
}

#[allow(dead_code)]
async fn calls(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
    let reports = ReportsClient::new(client);
    let _: u32 = reports.build(3).await?;
    reports.alone().await?;
    let _: String = reports.unnamed("a").await?;
    let _: u8 = reports.unused().await?;
    Ok(())
}

fn main() {}
