#[xero::service]
trait Demo {
    const LIMIT: u8 = 1;

    async fn ping(&self) -> u8;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    const LIMIT: u8 = 2;

    async fn ping(&self) -> u8 {
        Self::LIMIT
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
