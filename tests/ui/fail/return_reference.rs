#[xero::service]
trait Demo {
    async fn name(&self) -> &str;
    async fn names(&self) -> Result<Vec<&'static str>, String>;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn name(&self) -> &str {
        "a"
    }
    async fn names(&self) -> Result<Vec<&'static str>, String> {
        Ok(vec!["a"])
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).name());
}
