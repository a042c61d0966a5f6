//! stub
use proc_macro::TokenStream;
/// s
#[proc_macro_attribute]
pub fn service(_: TokenStream, i: TokenStream) -> TokenStream {
    i
}
/// w
#[proc_macro_attribute]
pub fn worker(_: TokenStream, i: TokenStream) -> TokenStream {
    i
}
