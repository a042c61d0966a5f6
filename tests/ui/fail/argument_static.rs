#[xero::service]
trait Demo {
    async fn put(&self, key: &'static str);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn put(&self, key: &'static str) {
        drop(key);
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).put("a"));
}
