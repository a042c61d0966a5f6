#[xero::service]
trait Demo {
    async fn load(&self) -> Result<_, String>;
    async fn ping(&self) -> u8;
}

fn main() {
    drop(|client: &xero::Client| (DemoClient::new(client).load(), DemoClient::new(client).ping()));
}
