use std::fmt::Display;

#[xero::service]
trait Demo {
    async fn put(&self, key: &dyn Display);
    async fn all(&self, keys: Vec<Box<dyn Display>>);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).put(&1));
}
