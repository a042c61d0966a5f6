#[xero::service]
trait Demo {
    async fn stop(self);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn stop(self) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).stop());
}
