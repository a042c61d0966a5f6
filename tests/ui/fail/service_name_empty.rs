#[xero::service(name = "")]
trait Demo {
    async fn ping(&self);
}

fn main() {}
