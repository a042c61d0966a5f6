#[xero::service]
trait Demo {
    async fn ping(&'static self);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn ping(&'static self) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
