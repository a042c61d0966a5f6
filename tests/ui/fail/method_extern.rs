#[xero::service]
trait Demo {
    async extern "C" fn ping(&self);
}

fn main() {}
