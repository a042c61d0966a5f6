use std::error::Error;

#[xero::service]
trait Demo {
    async fn load(&self) -> Result<u8, Box<dyn Error + Send + Sync>>;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn load(&self) -> Result<u8, Box<dyn Error + Send + Sync>> {
        Ok(1)
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).load());
}
