#[xero::service]
trait Demo {
    async unsafe fn ping(&self);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async unsafe fn ping(&self) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
