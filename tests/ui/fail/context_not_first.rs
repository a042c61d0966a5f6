use xero::Context;

#[xero::service]
trait Demo {
    async fn build(&self, pages: u32, cx: &Context) -> u32;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn build(&self, pages: u32, _cx: &Context) -> u32 {
        pages
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).build(1));
}
