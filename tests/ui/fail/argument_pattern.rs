#[xero::service]
trait Demo {
    async fn put(&self, (key, value): (u8, u8)) -> u8;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn put(&self, (key, value): (u8, u8)) -> u8 {
        key + value
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).put((1, 2)));
}
