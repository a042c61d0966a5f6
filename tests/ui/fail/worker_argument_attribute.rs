#[xero::service]
trait Demo {
    async fn put(&self, key: u8);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn put(&self, #[xero(default)] key: u8) {
        drop(key);
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
}
