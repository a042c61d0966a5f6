#[xero::worker]
trait Demo {}

fn main() {}
