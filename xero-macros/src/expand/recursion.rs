//! Methods that call themselves, directly or through others of their impl.
//!
//! The compiler knows whether the future of an `async fn` can move between threads only once it has compiled the body.
//! If the body holds that future, the compiler reports a cycle, E0391. A function that returns `impl Future + Send`
//! declares it in advance. The user still has to add `Box::pin`, which the compiler asks for by name.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Block, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, Pat, ReturnType, Signature, parse_quote};

use crate::expand::{local, shown_at, words_of};

/// Rewrites the `async fn`s that can reach themselves.
pub(crate) fn resolve(mut item: ItemImpl) -> ItemImpl {
    let is_async_trait =
        |attribute: &syn::Attribute| attribute.path().segments.last().is_some_and(|last| last.ident == "async_trait");
    // It boxes each future by itself.
    if item.attrs.iter().any(is_async_trait) {
        return item;
    }
    let recursive = recursive(&item);
    for function in &mut item.items {
        if let ImplItem::Fn(function) = function
            && function.sig.asyncness.is_some()
            && recursive.contains(&function.sig.ident.to_string())
        {
            return_a_future(function);
        }
    }
    item
}

/// The names of the functions that can reach themselves; a mention of a name counts as a call.
fn recursive(item: &ItemImpl) -> BTreeSet<String> {
    let functions = item.items.iter().filter_map(|item| match item {
        ImplItem::Fn(function) => Some((function.sig.ident.to_string(), words_of(function.block.to_token_stream()))),
        _ => None,
    });
    let mut calls: BTreeMap<String, BTreeSet<String>> = functions.collect();
    let names: BTreeSet<String> = calls.keys().cloned().collect();
    calls.values_mut().for_each(|words| words.retain(|word| names.contains(word)));
    let reaches_itself = |name: &&String| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![*name]);
        while let Some(next) = open.pop() {
            open.extend(calls[next].iter().filter(|called| reached.insert(*called)));
        }
        reached.contains(*name)
    };
    names.iter().filter(reaches_itself).cloned().collect()
}

/// Rewrites an `async fn` as a function that returns a future, which owns all arguments.
fn return_a_future(function: &mut ImplItemFn) {
    let mut bindings = Vec::new();
    for (index, input) in function.sig.inputs.iter_mut().enumerate() {
        let FnArg::Typed(input) = input else { continue };
        let name = local(&format!("__argument{index}"));
        let pattern = std::mem::replace(&mut *input.pat, parse_quote!(#name));
        let attributes = std::mem::take(&mut input.attrs);
        bindings.push(match pattern {
            Pat::Wild(_) => quote!(let #name = #name;),
            pattern => quote!(#(#attributes)* let #pattern = #name;),
        });
    }
    let statements = &function.block.stmts;
    // Recursion without a box is shown here.
    let future = quote_spanned!(shown_at(function.sig.asyncness)=> async move { #(#bindings)* #(#statements)* });
    function.block = parse_quote!({ #future });
    let output = future_of(&function.sig.output);
    function.sig.asyncness = None;
    function.sig.output = parse_quote!(-> #output);
    function.attrs.push(parse_quote!(#[allow(clippy::manual_async_fn)]));
}

fn future_of(output: &ReturnType) -> TokenStream {
    let output = match output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => ty.to_token_stream(),
    };
    quote!(impl ::core::future::Future<Output = #output> + ::core::marker::Send)
}

/// The body of a trait's method whose default body mentions the method.
///
/// There, even a returned future is E0792. So a trait of its own holds the `future` of the body, and sees only the
/// method's signature.
pub(crate) fn default_body(
    trait_name: &Ident,
    signature: &Signature,
    body: &Block,
    future: &TokenStream,
) -> Option<Block> {
    if !words_of(body.to_token_stream()).contains(&signature.ident.to_string()) {
        return None;
    }
    let mut inner = signature.clone();
    inner.ident = format_ident!("__default");
    let arguments = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) => Some(&input.pat),
        FnArg::Receiver(_) => None,
    });
    Some(parse_quote! {{
        trait __Default: #trait_name {
            #inner {
                #future
            }
        }

        impl<__Type: #trait_name + ?::core::marker::Sized> __Default for __Type {}

        __Default::__default(self, #(#arguments),*)
    }})
}
