use xero::Context;

#[xero::service]
trait Demo {
    async fn context(&self, #[xero(default)] cx: &Context);
    async fn number(&self, #[xero(default = 3)] key: u8);
    async fn text(&self, #[xero(default = "key")] key: u8);
    async fn call(&self, #[xero(default = key())] key: u8);
    async fn twice(&self, #[xero(default)] #[xero(default = key)] key: u8);
}

fn key() -> u8 {
    3
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).number(1));
}
