#[xero::service]
trait Demo {
    async fn ping() -> u8;
    async fn pong(number: u8) -> u8;
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
