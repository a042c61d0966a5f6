//! From our model to tokens; cannot fail.

pub(crate) mod client;
pub(crate) mod form;
pub(crate) mod recursion;
pub(crate) mod service;
pub(crate) mod worker;

use std::collections::BTreeSet;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::Attribute;

use crate::{
    ast::{Argument, Method, Presence, Runtime, Service},
    expand::form::Forms,
    signature::{self, plain},
};

/// The client of the trait `Demo` is `DemoClient` by default.
pub(crate) fn client_name(service: &Service) -> Ident {
    let ident = &service.item.ident;
    let default = || format_ident!("{}Client", plain(ident), span = ident.span());
    // The trait's own name as the client's is one error already, and would cause many more.
    let chosen = service.options.client.clone().filter(|name| name != ident);
    let mut name = chosen.unwrap_or_else(default);
    name.set_span(shown_at(&name));
    name
}

/// The struct that carries a method's arguments from client to worker.
///
/// Also the names for their forms, and `__Arguments`, the struct as the worker reads it.
///
/// Its fields' types are parameters. So the compiler reports a type without serde once on each side, where it is used,
/// not wherever the derived code names it.
pub(crate) fn arguments_struct(service: &Service, method: &Method, forms: &Forms) -> TokenStream {
    let Runtime { private, text, .. } = &service.options.runtime;
    let (name, expecting) = (method.arguments_name(), format!("the arguments of `{}`", signature::text(method)));
    let types: Vec<Ident> = (0..method.arguments.len()).map(|index| format_ident!("T{index}")).collect();
    let arguments = || method.arguments.iter().zip(&types);
    let written: Vec<_> = types.iter().map(|ty| format!("{ty}: {text}::Written")).collect();
    let read: Vec<_> = arguments().map(|(argument, ty)| read_bound(argument, ty, text)).collect();
    let (serde, written, read) = (format!("{text}::serde"), written.join(", "), read.join(", "));
    let parameters = (!types.is_empty()).then(|| quote!(<#(#types),*>));
    let fields = arguments().map(|(argument, ty)| field(argument, ty, private));
    let (aliases, demands, twin) = (&forms.aliases, &forms.demands, forms.twin(method, private));
    quote! {
        #[derive(#private::serde::Serialize, #private::serde::Deserialize)]
        #[serde(crate = #serde, deny_unknown_fields, expecting = #expecting)]
        #[serde(bound(serialize = #written, deserialize = #read))]
        struct #name #parameters { #(#fields),* }

        #(#aliases)*
        type __Arguments = #twin;

        #(#demands)*
    }
}

fn field(Argument { name, presence, .. }: &Argument, ty: &Ident, private: &TokenStream) -> TokenStream {
    match presence {
        Presence::Required => quote!(#name: #ty),
        Presence::Optional => quote!(#[serde(default)] #name: #ty),
        Presence::Defaulted { .. } => quote!(#[serde(default)] #name: #private::Defaulted<#ty>),
    }
}

fn read_bound(argument: &Argument, ty: &Ident, text: &str) -> String {
    match argument.presence {
        Presence::Optional => format!("{ty}: {text}::Read + ::core::default::Default"),
        Presence::Required | Presence::Defaulted { .. } => format!("{ty}: {text}::Read"),
    }
}

/// A span that the compiler shows at the user's code, and that lints know as generated.
fn shown_at(written: impl ToTokens) -> Span {
    // `ReturnType` starts with its arrow, which says less than its type.
    let mut tokens = written.into_token_stream().into_iter().skip_while(|token| matches!(token, TokenTree::Punct(_)));
    tokens.next().map_or_else(Span::call_site, |token| Span::call_site().located_at(token.span()))
}

/// A local variable of generated code, which the user's code cannot name.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// The same, shown by the compiler at the user's code.
fn local_shown_at(name: &str, written: impl ToTokens) -> Ident {
    Ident::new(name, Span::mixed_site().located_at(shown_at(written)))
}

/// The identifiers among the tokens.
fn words_of(tokens: TokenStream) -> BTreeSet<String> {
    let words = tokens.into_iter().flat_map(|token| match token {
        TokenTree::Ident(word) => BTreeSet::from([word.to_string()]),
        TokenTree::Group(group) => words_of(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => BTreeSet::new(),
    });
    words.collect()
}

/// The attributes that decide whether an item exists; whatever is made from the item exists with it.
pub(crate) fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
}

impl Method {
    /// The struct that carries the arguments of `slow_succeed`: `__SlowSucceedArguments`. A decoding error shows it.
    pub(super) fn arguments_name(&self) -> Ident {
        let name = self.wire_name();
        let words = name.split('_').filter_map(|word| word.split_at_checked(1).or(Some((word, ""))));
        let camel: String = words.map(|(first, rest)| first.to_ascii_uppercase() + rest).collect();
        format_ident!("__{camel}Arguments")
    }
}
