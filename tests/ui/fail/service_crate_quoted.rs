#[xero::service(crate = "xero")]
trait Demo {
    async fn ping(&self);
}

fn main() {}
