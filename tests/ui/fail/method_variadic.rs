#[xero::service]
trait Demo {
    async fn sum(&self, first: u64, ...) -> u64;
}

fn main() {}
