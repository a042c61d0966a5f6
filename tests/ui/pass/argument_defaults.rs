//! Arguments that a caller may leave out: with a default of their type, or of a function.

#![deny(warnings)]

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use xero::Context;

mod defaults {
    pub fn width() -> u32 {
        320
    }

    pub fn any<T: From<u8>>() -> T {
        T::from(7)
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Scene(u32);

impl Scene {
    fn empty() -> Self {
        Self(0)
    }
}

#[xero::service]
trait Demo {
    async fn resize(&self, image: Vec<u8>, #[xero(default = defaults::width)] width: u32) -> u32;
    async fn render(
        &self,
        cx: &Context,
        #[xero(default = Scene::empty)] scene: &Scene,
        #[xero(default = defaults::any::<u64>)] number: u64,
        #[xero(default)] text: &str,
        #[xero(default)]
        #[allow(unused)]
        path: &Path,
        required: u8,
    ) -> u64;
    async fn body(&self, #[xero(default = PathBuf::new)] path: PathBuf, #[xero(default)] tags: &[String]) -> usize {
        path.as_os_str().len() + tags.len()
    }
}

#[xero::service]
#[async_trait]
trait Object: Send + Sync {
    async fn resize(&self, image: &[u8], #[xero(default = defaults::width)] width: u32) -> u32;
}

struct Worker;

#[xero::worker]
impl Demo for Worker {
    async fn resize(&self, image: Vec<u8>, width: u32) -> u32 {
        image.len() as u32 + width
    }
    async fn render(
        &self,
        _cx: &Context,
        scene: &Scene,
        number: u64,
        text: &str,
        _path: &Path,
        required: u8,
    ) -> u64 {
        number + u64::from(scene.0) + text.len() as u64 + u64::from(required)
    }
}

#[xero::worker]
#[async_trait]
impl Object for Worker {
    async fn resize(&self, image: &[u8], width: u32) -> u32 {
        image.len() as u32 + width
    }
}

#[allow(dead_code)]
async fn calls(client: &xero::Client) -> Result<(), Box<dyn std::error::Error>> {
    let demo = DemoClient::new(client);
    let _: u32 = demo.resize(vec![1], 2).await?;
    let _: u64 = demo.render(&Scene(1), 2, "a", Path::new("/"), 3).await?;
    let _: usize = demo.body(PathBuf::new(), &[]).await?;
    let _: u32 = ObjectClient::new(client).resize(b"a", 2).await?;
    Ok(())
}

fn main() {
    let objects: Vec<Box<dyn Object>> = vec![Box::new(Worker)];
    drop(objects);
}
