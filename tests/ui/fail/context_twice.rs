use xero::Context;

#[xero::service]
trait Demo {
    async fn build(&self, cx: &Context, pages: u32, again: &Context) -> u32;
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).build(1));
}
