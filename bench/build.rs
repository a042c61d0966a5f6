//! Makes tonic's client and server for the echo. The service is described here instead of in a `.proto` file, so that
//! nobody needs `protoc`.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let method = |name: &str, route: &str, message: &str| {
        let message = format!("crate::peers::tonic::{message}");
        let method = Method::builder().name(name).route_name(route).input_type(&message).output_type(&message);
        method.codec_path("tonic_prost::ProstCodec").build()
    };
    let echo = Service::builder()
        .name("Echo")
        .package("bench")
        .method(method("text", "Text", "Text"))
        .method(method("bytes", "Bytes", "Blob"))
        .build();
    Builder::new().compile(&[echo]);
}
