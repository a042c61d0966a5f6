#[xero::service]
trait Demo {
    async fn ping(&self);
}

struct Worker;

#[xero::worker]
unsafe impl Demo for Worker {
    async fn ping(&self) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
