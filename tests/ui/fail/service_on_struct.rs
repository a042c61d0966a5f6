#[xero::service]
struct Demo {
    field: u8,
}

fn main() {
    drop(Demo { field: 1 }.field);
}
