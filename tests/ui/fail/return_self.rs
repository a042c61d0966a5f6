#[xero::service]
trait Demo {
    async fn copy(&self) -> Self;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn copy(&self) -> Self {
        Self
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).copy());
}
