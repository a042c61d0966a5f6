use std::cell::Cell;

#[xero::service]
trait Demo {
    async fn ping(&self);
    async fn count(&self, by: u8) -> u8;
}

struct Worker(Cell<u8>);

#[xero::worker]
impl Demo for Worker {
    async fn ping(&self) {}

    async fn count(&self, by: u8) -> u8 {
        self.0.set(self.0.get() + by);
        self.0.get()
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker(Cell::new(1)));
}
