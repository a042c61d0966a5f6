#[xero::service]
trait Demo {
    async fn longer<'a>(&'a self, left: &'a str, right: &'a str) -> usize;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn longer<'a>(&'a self, left: &'a str, right: &'a str) -> usize {
        left.len().max(right.len())
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).longer("a", "b"));
}
