#[xero::service]
trait Demo {
    async fn merge(&self, other: Self);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn merge(&self, other: Self) {
        drop(other);
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).merge(Worker));
}
