//! With `#[async_trait]` below, the trait can be made an object.

#![deny(warnings)]

use std::sync::Arc;

use async_trait::async_trait;
use xero::{Context, IntoService};

#[xero::service]
#[async_trait]
pub trait Greeter: Send + Sync {
    async fn greet(&self, context: &Context, name: &str, times: &[u8]) -> Result<String, String>;

    async fn twice(&self, number: u8) -> u8 {
        number * 2
    }
}

struct Polite;

#[xero::worker]
#[async_trait]
impl Greeter for Polite {
    async fn greet(&self, _context: &Context, name: &str, _times: &[u8]) -> Result<String, String> {
        Ok(format!("hello {name}"))
    }
}

struct Rude;

#[async_trait]
#[xero::worker]
impl Greeter for Rude {
    async fn greet(&self, _context: &Context, name: &str, _times: &[u8]) -> Result<String, String> {
        Err(format!("go away, {name}"))
    }
}

struct Chosen(Arc<dyn Greeter>);

#[xero::worker]
#[async_trait::async_trait]
impl Greeter for Chosen {
    async fn greet(&self, context: &Context, name: &str, times: &[u8]) -> Result<String, String> {
        self.0.greet(context, name, times).await
    }
}

fn serve<M>(_: impl IntoService<M>) {}

fn main() {
    let greeters: Vec<Box<dyn Greeter>> = vec![Box::new(Polite), Box::new(Rude)];
    drop(greeters);
    serve(Polite);
    serve(Chosen(Arc::new(Polite)));
}
