#[xero::service]
trait Demo {
    async fn fill(&self, buffer: &mut Vec<u8>);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn fill(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).fill(&mut Vec::new()));
}
