#[xero::service]
trait Demo {
    async fn put(&self, #[xero(idempotent)] key: u8, #[cfg(unix)] value: u8, #[xero] last: u8);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).put(1, 2, 3));
}
