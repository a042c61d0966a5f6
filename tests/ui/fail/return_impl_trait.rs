#[xero::service]
trait Demo {
    async fn numbers(&self) -> impl Iterator<Item = u8>;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn numbers(&self) -> impl Iterator<Item = u8> {
        [1].into_iter()
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).numbers());
}
