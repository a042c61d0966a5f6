#[xero::service]
trait Demo {
    #[xero]
    async fn ping(&self);
    #[xero = "idempotent"]
    async fn pong(&self);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
