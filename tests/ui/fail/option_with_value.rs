#[xero::service]
trait Demo {
    #[xero(idempotent = true)]
    async fn ping(&self);
    #[xero(inline(always))]
    async fn pong(&self);
    #[xero(idempotent inline)]
    async fn pang(&self);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
