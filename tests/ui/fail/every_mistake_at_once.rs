#[xero::service(nam = "demo", version = "1")]
unsafe trait Demo {
    const LIMIT: u8;
    #[xero(idempotant, timeout = "soon")]
    async fn first(&mut self, mut a: u8, (b, c): (u8, u8), d: Option<&str>) -> &str;
    fn second(&self) -> u8;
    async fn new(&self) -> std::io::Result<()>;
}

fn main() {}
