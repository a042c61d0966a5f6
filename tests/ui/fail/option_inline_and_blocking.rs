#[xero::service]
trait Demo {
    #[xero(inline, blocking)]
    async fn ping(&self);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
