//! Every option of the service and of its methods, alone, together and spread over several attributes.

#![deny(warnings)]

#[xero::service(name = "studio.Thumbnails", version = 3)]
pub trait Thumbnails {
    #[xero(idempotent)]
    async fn resize(&self, width: u32) -> u32;
    #[xero(timeout = "30s")]
    async fn render(&self);
    #[xero(inline)]
    async fn ping(&self);
    #[xero(blocking, timeout = "1.5 min", idempotent,)]
    async fn convert(&self);
    #[xero(idempotent)]
    #[xero(timeout = "250ms")]
    async fn spread(&self);
    #[xero()]
    async fn plain(&self);
}

#[xero::service()]
pub trait Empty {}

struct Studio;

#[xero::worker]
impl Thumbnails for Studio {
    async fn resize(&self, width: u32) -> u32 {
        width
    }
    async fn render(&self) {}
    async fn ping(&self) {}
    async fn convert(&self) {}
    async fn spread(&self) {}
    async fn plain(&self) {}
}

#[xero::worker()]
impl Empty for Studio {}

fn main() {}
