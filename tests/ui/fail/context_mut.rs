use xero::Context;

#[xero::service]
trait Demo {
    async fn build(&self, cx: &mut Context) -> u32;
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).build());
}
