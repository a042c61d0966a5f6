struct Worker;

#[xero::worker]
impl Worker {
    fn ping(&self) {}
}

fn main() {
    Worker.ping();
}
