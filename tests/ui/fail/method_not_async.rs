#[xero::service]
trait Demo {
    fn ping(&self) -> u8;
    async fn pong(&self) -> u8;
}

fn main() {
    drop(|client: &xero::Client| (DemoClient::new(client).ping(), DemoClient::new(client).pong()));
}
