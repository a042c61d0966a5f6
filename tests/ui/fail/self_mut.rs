#[xero::service]
trait Demo {
    async fn count(&mut self) -> u64;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn count(&mut self) -> u64 {
        1
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).count());
}
