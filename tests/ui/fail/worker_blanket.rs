#[xero::service]
trait Demo {
    async fn ping(&self);
}

#[xero::worker]
impl<T: Send + Sync> Demo for T {
    async fn ping(&self) {}
}

fn main() {
    drop(Demo::into_service(std::sync::Arc::new(1)));
}
