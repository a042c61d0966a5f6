//! From our model to tokens; cannot fail.

pub(crate) mod client;
pub(crate) mod service;
pub(crate) mod worker;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::Attribute;

use crate::{ast::Method, signature::plain};

/// The client of the trait `Demo` is `DemoClient`.
pub(crate) fn client_name(service: &Ident) -> Ident {
    format_ident!("{}Client", plain(service), span = shown_at(service))
}

/// The struct that carries a method's arguments, written by the client and read by the worker.
///
/// Its fields' types are parameters, so that a type without serde is reported once on each side, where it is used,
/// instead of wherever the derived code names it.
pub(crate) fn arguments_struct(method: &Method, derive: TokenStream) -> TokenStream {
    let name = method.arguments_name();
    let types: Vec<Ident> = (0..method.arguments.len()).map(|index| format_ident!("T{index}")).collect();
    let parameters = (!types.is_empty()).then(|| quote!(<#(#types),*>));
    let fields = method.arguments.iter().map(|argument| &argument.name);
    quote! {
        #derive
        struct #name #parameters { #(#fields: #types),* }
    }
}

/// The place of generated code that the compiler shows on what the user wrote, and that lints know as generated.
fn shown_at(written: impl ToTokens) -> Span {
    // `ReturnType` starts with its arrow, which says less than its type.
    let mut tokens = written.into_token_stream().into_iter().skip_while(|token| matches!(token, TokenTree::Punct(_)));
    tokens.next().map_or_else(Span::call_site, |token| Span::call_site().located_at(token.span()))
}

/// The attributes that decide whether an item exists; whatever is made from the item exists with it.
pub(crate) fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
}

impl Method {
    /// The struct that carries the arguments of `slow_succeed`: `__SlowSucceedArguments`. A decoding error shows it.
    fn arguments_name(&self) -> Ident {
        let name = self.wire_name();
        let words = name.split('_').filter_map(|word| word.split_at_checked(1).or(Some((word, ""))));
        let camel: String = words.map(|(first, rest)| first.to_ascii_uppercase() + rest).collect();
        format_ident!("__{camel}Arguments")
    }
}
