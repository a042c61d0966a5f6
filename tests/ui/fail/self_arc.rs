use std::sync::Arc;

#[xero::service]
trait Demo {
    async fn ping(self: Arc<Self>);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn ping(self: Arc<Self>) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
