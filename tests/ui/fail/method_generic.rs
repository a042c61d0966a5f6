#[xero::service]
trait Demo {
    async fn put<T: Into<u8> + Send>(&self, value: T) -> u8;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn put<T: Into<u8> + Send>(&self, value: T) -> u8 {
        value.into()
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).put(1_u8));
}
