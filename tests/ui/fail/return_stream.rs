trait Stream {
    type Item;
}

impl Stream for () {
    type Item = u8;
}

#[xero::service]
trait Demo {
    async fn pages(&self) -> impl Stream<Item = u8>;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn pages(&self) -> impl Stream<Item = u8> {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).pages());
}
