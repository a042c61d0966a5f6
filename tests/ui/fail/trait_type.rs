#[xero::service]
trait Demo {
    type Key;

    async fn ping(&self);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    type Key = u8;

    async fn ping(&self) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
