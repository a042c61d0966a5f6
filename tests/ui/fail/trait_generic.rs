#[xero::service]
trait Store<T> {
    async fn put(&self, value: T) -> T;
}

struct Worker;

#[xero::worker]
impl Store<u8> for Worker {
    async fn put(&self, value: u8) -> u8 {
        value
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| StoreClient::new(client).put(1));
}
