#[xero::service]
trait Demo {
    async fn put(&self, _: u8) -> u8;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn put(&self, key: u8) -> u8 {
        key
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).put(1));
}
