#[xero::service]
trait Demo {
    async fn with_timeout(&self) -> u8;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn with_timeout(&self) -> u8 {
        1
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client));
}
