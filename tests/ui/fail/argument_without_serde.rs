struct Scene;
struct Size;
struct Layer;
struct Light;

#[xero::service]
trait Demo {
    async fn render(&self, name: &str, scene: &Scene, size: Option<Size>, frame: u32);
    async fn compose(&self, layers: &[Layer], #[xero(default = dark)] light: Light);
}

fn dark() -> Light {
    Light
}

fn main() {}
