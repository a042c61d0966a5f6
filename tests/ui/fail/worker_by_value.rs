#[xero::service]
trait Demo {
    async fn ping(&self);
}

#[xero::worker]
impl<T: AsRef<str> + Send + Sync> Demo for T {
    async fn ping(&self) {}
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    serve(std::sync::Arc::new("served"));
    serve("not served");
}
