struct Picture;
struct Refusal;

#[xero::service]
trait Demo {
    async fn render(&self) -> Picture;
    async fn convert(&self) -> Result<u8, Refusal>;
}

fn main() {}
