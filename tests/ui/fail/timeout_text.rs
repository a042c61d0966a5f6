#[xero::service]
trait Demo {
    #[xero(timeout = "soon")]
    async fn soon(&self);
    #[xero(timeout = "30")]
    async fn bare(&self);
    #[xero(timeout = 30)]
    async fn number(&self);
    #[xero(timeout)]
    async fn alone(&self);
}

fn main() {
    drop(|client: &xero::Client| DemoClient::new(client).soon());
}
