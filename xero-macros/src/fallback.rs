//! The item after an error, complete enough that the compiler reports only the mistake.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{FnArg, ItemTrait, Pat, PatWild, Signature, TraitItem, TraitItemFn, Type, parse_quote};

use crate::{
    ast::{Runtime, Service, Worker},
    errors::Errors,
    expand::{client, conditions, worker},
    options::is_xero,
    types,
};

/// The trait as written, without code that the compiler would also refuse, and a client that does nothing.
pub(crate) fn service(service: &Service) -> TokenStream {
    let Runtime { private, .. } = &service.options.runtime;
    let item = acceptable(service.item.clone(), private);
    let (structure, client) = (client::structure(service, TokenStream::new()), client::client_path(service));
    let conditions = conditions(&service.item.attrs);
    let methods = unique_methods(service).map(|function| stub_method(service, function));
    quote! {
        #[allow(async_fn_in_trait)]
        #item

        #structure

        #(#conditions)*
        #[allow(dead_code, missing_docs, unused_variables, clippy::all)]
        impl #client {
            pub fn new(_: &#private::Client) -> Self {
                Self {}
            }

            #[must_use]
            pub fn with_codec(self, _: #private::Codec) -> Self {
                self
            }

            #[must_use]
            pub fn with_timeout(self, _: ::core::time::Duration) -> Self {
                self
            }

            #[must_use]
            pub fn with_fail_fast(self) -> Self {
                self
            }

            #[must_use]
            pub fn with_metadata(
                self,
                _: impl ::core::convert::Into<#private::String>,
                _: impl ::core::convert::Into<#private::Bytes>,
            ) -> Self {
                self
            }

            pub async fn wait_for_worker(
                &self,
                _: ::core::time::Duration,
            ) -> ::core::result::Result<(), #private::NoWorkerError> {
                ::core::unreachable!()
            }

            #(#methods)*
        }
    }
}

/// The impl as written, without code that the compiler would also refuse. Its type still can be served.
pub(crate) fn worker(worker: &Worker) -> TokenStream {
    let item = &worker.item;
    match &item.trait_ {
        // Nothing sound can be generated for `impl !Trait`, and the compiler refuses it too.
        Some(_) if item.modifiers.polarity.is_some() => TokenStream::new(),
        None => quote!(#item),
        Some(_) => {
            let mut item = item.clone();
            item.unsafety = None;
            for function in item.items.iter_mut() {
                if let syn::ImplItem::Fn(function) = function
                    && !types::is_future(&function.sig.output)
                {
                    function.sig.asyncness = Some(Default::default());
                }
            }
            let bind = quote!(::core::unreachable!());
            let into_service = worker.service.as_ref().map(|_| worker::into_service(worker, bind));
            quote!(#item #into_service)
        }
    }
}

/// Removes code that the compiler refuses anyway, so that each mistake is reported once.
fn acceptable(mut item: ItemTrait, private: &TokenStream) -> ItemTrait {
    item.unsafety = None;
    item.modifiers.auto_token = None;
    let mut seen = Vec::new();
    item.items.retain(|item| match item {
        TraitItem::Fn(function) if conditions(&function.attrs).next().is_none() => {
            let is_new = !seen.contains(&function.sig.ident) && function.sig.ident != "into_service";
            seen.push(function.sig.ident.clone());
            is_new
        }
        TraitItem::Verbatim(_) => false,
        _ => true,
    });
    for item in &mut item.items {
        if let TraitItem::Fn(function) = item {
            acceptable_method(function);
        }
    }
    item.items.push(parse_quote! {
        /// Binds the value to the procedures of this service, ready to be served.
        #[allow(dead_code)]
        fn into_service(self: ::std::sync::Arc<Self>) -> #private::BoundService
        where
            Self: ::core::marker::Send + ::core::marker::Sync + 'static,
        {
            ::core::unreachable!()
        }
    });
    item
}

fn acceptable_method(function: &mut TraitItemFn) {
    let signature = &mut function.sig;
    signature.constness = None;
    signature.variadic = None;
    if mentions(signature.output.to_token_stream(), &["_"]) {
        // Every return type of an impl is one of these.
        signature.output = parse_quote!(-> impl ::core::marker::Sized);
    }
    for input in &mut signature.inputs {
        let FnArg::Typed(input) = input else { continue };
        input.attrs.retain(|attribute| !is_xero(attribute));
        if mentions(input.ty.to_token_stream(), &["_"]) {
            *input.ty = parse_quote!(());
        }
        if function.default.is_none() {
            *input.pat = Pat::Wild(PatWild { attrs: Vec::new(), underscore_token: Default::default() });
        }
    }
}

/// The methods of the client's stub: each once, and none with a name of its own functions.
fn unique_methods(service: &Service) -> impl Iterator<Item = &TraitItemFn> {
    let own = ["new", "with_codec", "with_timeout", "with_fail_fast", "with_metadata", "wait_for_worker"];
    let mut seen: Vec<String> = own.map(str::to_owned).into();
    service.item.items.iter().filter_map(move |item| match item {
        TraitItem::Fn(function) => {
            let name = function.sig.ident.to_string();
            let is_new = !seen.contains(&name);
            seen.push(name);
            is_new.then_some(function)
        }
        _ => None,
    })
}

fn stub_method(service: &Service, function: &TraitItemFn) -> TokenStream {
    let (name, generics) = (&function.sig.ident, &function.sig.generics);
    let conditions = conditions(&function.attrs);
    let (inputs, call) = stub_signature(service, &function.sig);
    quote! {
        #(#conditions)*
        pub fn #name #generics (&self, #inputs) -> #call {
            ::core::unreachable!()
        }
    }
}

/// The arguments and the reply as written, as far as the client can have them, so that calls still compile.
fn stub_signature(service: &Service, signature: &Signature) -> (TokenStream, TokenStream) {
    let Runtime { private, .. } = &service.options.runtime;
    let is_usable = |tokens: &dyn ToTokens| {
        service.item.generics.params.is_empty() && !mentions(tokens.to_token_stream(), &["Self", "_"])
    };
    let inputs = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) if is_any_context(&input.ty) => None,
        FnArg::Typed(input) if is_usable(&input.ty) => {
            let ty = &input.ty;
            Some(quote!(_: #ty))
        }
        FnArg::Typed(_) => Some(quote!(_: impl ::core::marker::Sized)),
        FnArg::Receiver(_) => None,
    });
    let output = types::output(&signature.output, false, &mut Errors::default());
    let call = match output.filter(|_| is_usable(&signature.output)) {
        Some(output) => client::call_type(&output, private),
        None => quote!(#private::Call<#private::Never, #private::Never>),
    };
    (quote!(#(#inputs),*), call)
}

fn is_any_context(ty: &Type) -> bool {
    match types::peel(ty) {
        Type::Reference(reference) => types::is_context(&reference.elem),
        ty => types::is_context(ty),
    }
}

/// Whether the tokens contain one of the words, other than as a lifetime's name.
fn mentions(tokens: TokenStream, words: &[&str]) -> bool {
    let mut after_quote = false;
    tokens.into_iter().any(|token| {
        let is_lifetime =
            std::mem::replace(&mut after_quote, matches!(&token, TokenTree::Punct(p) if p.as_char() == '\''));
        match token {
            TokenTree::Group(group) => mentions(group.stream(), words),
            TokenTree::Ident(ident) => !is_lifetime && words.iter().any(|word| ident == word),
            _ => false,
        }
    })
}
