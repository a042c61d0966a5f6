//! The attribute macros of xero. Use them through `xero`, which documents a whole service.

mod ast;
mod check;
mod errors;
mod expand;
mod fallback;
mod options;
mod parse;
mod signature;
mod types;

use proc_macro2::TokenStream;
use quote::quote;

use errors::Errors;

/// doc
#[proc_macro_attribute]
pub fn service(options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand_service(options.into(), item.into()).into()
}

/// doc
#[proc_macro_attribute]
pub fn worker(options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand_worker(options.into(), item.into()).into()
}

fn expand_service(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(service) = parse::service(options, item.clone(), &mut errors) else {
        let errors = errors.to_tokens();
        return quote!(#errors #item);
    };
    check::service(&service, &mut errors);
    if errors.is_empty() {
        let (service_trait, client) = (expand::service::service(&service), expand::client::client(&service));
        return quote!(#service_trait #client);
    }
    let (errors, fallback) = (errors.to_tokens(), fallback::service(&service));
    quote!(#errors #fallback)
}

fn expand_worker(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(worker) = parse::worker(options, item.clone(), &mut errors) else {
        let errors = errors.to_tokens();
        return quote!(#errors #item);
    };
    if errors.is_empty() {
        return expand::worker::worker(&worker);
    }
    let (errors, fallback) = (errors.to_tokens(), fallback::worker(&worker));
    quote!(#errors #fallback)
}
