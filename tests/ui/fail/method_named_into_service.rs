#[xero::service]
trait Demo {
    async fn into_service(&self);
    async fn ping(&self);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
