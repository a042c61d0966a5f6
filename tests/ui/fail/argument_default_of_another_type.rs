#[derive(serde::Serialize, serde::Deserialize)]
struct Scene;

#[xero::service]
trait Demo {
    async fn draw(&self, #[xero(default)] scene: &Scene, #[xero(default = width)] width: u32);
}

fn width() -> u64 {
    3
}

fn main() {}
