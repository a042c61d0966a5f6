#[xero::service]
trait Demo {
    async fn run(&self) -> !;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn run(&self) -> ! {
        loop {}
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).run());
}
