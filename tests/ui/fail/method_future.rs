#[xero::service]
trait Demo {
    fn ping(&self) -> impl Future<Output = u8> + Send;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn ping(&self) -> u8 {
        1
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
