#[xero::service]
trait Demo {
    async fn put(&self, mut key: u8) -> u8 {
        key += 1;
        key
    }
    async fn get(&self, mut key: u8);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).put(1));
}
