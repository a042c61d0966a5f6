use std::cell::Cell;

#[xero::service]
trait Demo {
    async fn ping(&self);
}

struct Worker(Cell<u8>);

#[xero::worker]
impl Demo for Worker {
    async fn ping(&self) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker(Cell::new(1)));
}
