#[xero::service]
trait Demo {
    async fn put(&self, key: impl Into<String> + Send);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn put(&self, key: impl Into<String> + Send) {
        drop(key.into());
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).put("a"));
}
