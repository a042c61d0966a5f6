#[async_trait::async_trait]
#[xero::service]
trait Demo {
    async fn ping(&self, text: &str) -> u8;
}

struct Worker;

#[xero::worker]
#[async_trait::async_trait]
impl Demo for Worker {
    async fn ping(&self, _text: &str) -> u8 {
        1
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping("a"));
}
