//! A method may call itself, by any path and through others, if it boxes the call.

#![deny(warnings)]

use xero::Context;

#[xero::service]
trait Tree {
    async fn direct(&self, depth: u32) -> u32;
    async fn failing(&self, cx: &Context, depth: u32, path: &str) -> Result<u32, String>;
    async fn there(&self, depth: u32) -> u32;
    async fn back(&self, depth: u32) -> u32;
    async fn paths(&self, depth: u32, _unused: Vec<u8>) -> u32;
    async fn elsewhere(&self, depth: u32);
    async fn default(&self, depth: u32, text: &str) -> u32 {
        let (unit, smaller) = (text.len() as u32, depth.saturating_sub(1));
        if depth == 0 { 0 } else { Box::pin(self.default(smaller, text)).await + unit }
    }
    async fn default_there(&self, depth: u32) -> u32 {
        self.default_back(depth).await
    }
    async fn default_back(&self, depth: u32) -> u32 {
        if depth == 0 { 0 } else { Box::pin(self.default_there(depth - 1)).await + 1 }
    }
    /// Its name is only a word of its body.
    async fn count(&self, depth: u32) -> u32 {
        let count = depth;
        count + self.direct(count).await
    }
}

struct Forest;

#[xero::worker]
impl Tree for Forest {
    async fn direct(&self, mut depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        depth -= 1;
        Box::pin(self.direct(depth)).await + 1
    }
    async fn failing(&self, cx: &Context, depth: u32, path: &str) -> Result<u32, String> {
        if path.is_empty() {
            return Err("no path".to_owned());
        }
        let below = if depth == 0 { 0 } else { Box::pin(self.failing(cx, depth - 1, path)).await? };
        Ok(below + 1)
    }
    async fn there(&self, depth: u32) -> u32 {
        self.back(depth).await
    }
    async fn back(&self, depth: u32) -> u32 {
        if depth == 0 { 0 } else { Box::pin(self.there(depth - 1)).await + 1 }
    }
    async fn paths(&self, depth: u32, _: Vec<u8>) -> u32 {
        match depth {
            0 => 0,
            1 => Box::pin(Self::paths(self, depth - 1, Vec::new())).await,
            2 => Box::pin(<Self as Tree>::paths(self, depth - 1, Vec::new())).await,
            _ => Box::pin(Tree::paths(self, depth - 1, Vec::new())).await,
        }
    }
    async fn elsewhere(&self, depth: u32) {
        let other = Forest;
        if depth > 0 {
            Box::pin(other.elsewhere(depth - 1)).await;
        }
    }
}

struct Grove<T>(T);

#[xero::worker]
impl<T: Send + Sync> Tree for Grove<Vec<T>> {
    async fn direct(&self, depth: u32) -> u32 {
        if depth == 0 { self.0.len() as u32 } else { Box::pin(self.direct(depth - 1)).await }
    }
    async fn failing(&self, _cx: &Context, depth: u32, _path: &str) -> Result<u32, String> {
        Ok(depth)
    }
    async fn there(&self, depth: u32) -> u32 {
        depth
    }
    async fn back(&self, depth: u32) -> u32 {
        depth
    }
    async fn paths(&self, depth: u32, _unused: Vec<u8>) -> u32 {
        depth
    }
    async fn elsewhere(&self, _depth: u32) {}
    async fn default(&self, depth: u32, text: &str) -> u32 {
        if depth == 0 { 0 } else { Box::pin(self.default(depth - 1, text)).await + 1 }
    }
}

/// The way back leads through functions outside the impl.
mod outside {
    #[xero::service]
    pub trait Steps {
        async fn method(&self, number: u32) -> u32;
        async fn function(&self, number: u32) -> u32;
    }

    pub struct Walker;

    #[xero::worker]
    impl Steps for Walker {
        fn method(&self, number: u32) -> impl Future<Output = u32> + Send {
            async move { if number == 0 { 0 } else { self.step(number - 1).await } }
        }
        fn function(&self, number: u32) -> impl Future<Output = u32> + Send {
            async move { if number == 0 { 0 } else { step(self, number - 1).await } }
        }
    }

    impl Walker {
        async fn step(&self, number: u32) -> u32 {
            Box::pin(self.method(number)).await
        }
    }

    async fn step(walker: &Walker, number: u32) -> u32 {
        Box::pin(walker.function(number)).await
    }
}

fn main() {
    drop((Forest, Grove(vec![1]), outside::Walker));
}
