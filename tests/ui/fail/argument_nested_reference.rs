#[xero::service]
trait Demo {
    async fn find(&self, names: &[&str], filter: Option<&str>) -> u8;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn find(&self, names: &[&str], filter: Option<&str>) -> u8 {
        names.len() as u8 + filter.is_some() as u8
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).find(&[], None));
}
