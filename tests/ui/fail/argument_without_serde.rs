struct Scene;

#[xero::service]
trait Demo {
    async fn render(&self, scene: &Scene);
}

fn main() {}
