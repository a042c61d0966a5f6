#[xero::service(name = demo)]
trait Demo {
    async fn ping(&self);
}

fn main() {}
