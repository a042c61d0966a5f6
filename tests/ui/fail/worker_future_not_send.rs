use std::rc::Rc;

#[xero::service]
trait Demo {
    async fn ping(&self);
    async fn pong(&self);
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn ping(&self) {
        let count = Rc::new(1);
        self.pong().await;
        drop(count);
    }
    async fn pong(&self) {}
}

fn main() {}
