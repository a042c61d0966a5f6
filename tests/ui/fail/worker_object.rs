use std::sync::Arc;

use async_trait::async_trait;

#[xero::service]
#[async_trait]
trait Demo {
    async fn ping(&self);
}

fn serve<M>(_: impl xero::IntoService<M>) {}

fn main() {
    drop(|object: Arc<dyn Demo + Send + Sync>| serve(object));
}
