#[xero::service]
trait Demo {
    async fn put(&self, key: Vec<_>);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).put(vec![1]));
}
