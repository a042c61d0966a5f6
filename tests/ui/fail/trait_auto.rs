#[xero::service]
auto trait Demo {}

fn main() {}
