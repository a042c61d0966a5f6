use std::io;

#[xero::service]
trait Demo {
    async fn load(&self) -> io::Result<u8>;
    async fn show(&self) -> std::fmt::Result;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn load(&self) -> io::Result<u8> {
        Ok(1)
    }
    async fn show(&self) -> std::fmt::Result {
        Ok(())
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker);
    drop(|client: &xero::Client| DemoClient::new(client).load());
}
