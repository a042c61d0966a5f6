use std::rc::Rc;

#[xero::service]
trait Demo {
    async fn ping(&self);
    async fn count(&self, by: u8) -> u8;
}

struct Worker(Rc<u8>);

#[xero::worker]
impl Demo for Worker {
    async fn ping(&self) {}

    async fn count(&self, by: u8) -> u8 {
        *self.0 + by
    }
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(Worker(Rc::new(1)));
}
