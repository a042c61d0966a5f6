#[xero::service]
trait Demo {
    #[xero(timeout = "0s")]
    async fn ping(&self);
}

fn main() {}
