#[xero::service]
trait Store<'a> {
    async fn put(&self, value: &'a str);
}

fn main() {
    drop(|client: &xero::Client| StoreClient::new(client).put("a"));
}
