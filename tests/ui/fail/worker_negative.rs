#[xero::service]
trait Demo {
    async fn ping(&self);
}

struct Worker;

#[xero::worker]
impl !Demo for Worker {}

fn main() {
    drop(Worker);
}
