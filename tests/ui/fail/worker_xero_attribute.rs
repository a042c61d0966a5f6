#[xero::service]
trait Demo {
    async fn ping(&self);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    #[xero(idempotent)]
    async fn ping(&self) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
