#[xero::service]
trait Demo {
    async fn ping(&self) -> u8;
    async fn pong(&self);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    fn ping(&self) -> u8 {
        1
    }
    fn pong(&self) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).ping());
}
