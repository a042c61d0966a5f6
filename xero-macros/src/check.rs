//! Rules across the methods of a service; emits nothing.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{FnArg, ItemTrait, Signature, TraitItem};

use crate::{
    ast::Service,
    errors::Errors,
    expand::{client_name, conditions},
    options::{NAME_BYTES_MAX, too_long},
    signature::plain,
};

/// Names that generated code needs, and where.
const TAKEN: [(&str, &str); 9] = [
    ("new", "the client's constructor"),
    ("clone", "what copies the client"),
    ("with_codec", "a function of the client"),
    ("with_timeout", "a function of the client"),
    ("with_fail_fast", "a function of the client"),
    ("with_metadata", "a function of the client"),
    ("wait_for_worker", "a function of the client"),
    ("into_service", "a function that is added to the trait"),
    ("__descriptor", "a function of the client"),
];

/// Checks the names of a service, including those of methods with other mistakes.
pub(crate) fn service(service: &Service, errors: &mut Errors) {
    trait_name(service, errors);
    client(service, errors);
    let mut unconditional = Vec::new();
    for (signature, is_conditional) in signatures(&service.item) {
        let (ident, name) = (&signature.ident, plain(&signature.ident));
        if let Some((name, what)) = TAKEN.iter().find(|(taken, _)| name == *taken) {
            errors.push(ident, format_args!("`{name}` is {what}: give the method another name"));
        }
        if name.len() > NAME_BYTES_MAX {
            errors.push(ident, too_long(name.len()));
        }
        // One of two methods under `cfg` may be absent: the compiler decides.
        if is_conditional {
            continue;
        }
        if unconditional.contains(&name) {
            errors.push(ident, format_args!("there is a method `{name}` already: give this one another name"));
        }
        unconditional.push(name);
    }
}

/// The trait's name is the service's by default.
fn trait_name(service: &Service, errors: &mut Errors) {
    let name = plain(&service.item.ident);
    if name == service.options.name && name.len() > NAME_BYTES_MAX {
        errors.push(&service.item.ident, too_long(name.len()));
    }
}

/// The client stands beside the trait, in scope of the methods' types.
fn client(service: &Service, errors: &mut Errors) {
    let (client, ident) = (client_name(service), &service.item.ident);
    if let Some(chosen) = service.options.client.as_ref().filter(|chosen| *chosen == ident) {
        return errors.push(chosen, format_args!("`{ident}` is the trait's own name: give the client another one"));
    }
    let is_type = signatures(&service.item).any(|(signature, _)| {
        let mut inputs = signature.inputs.iter();
        inputs.any(|input| matches!(input, FnArg::Typed(input) if begins_with(input.ty.to_token_stream(), &client)))
            || begins_with(signature.output.to_token_stream(), &client)
    });
    if is_type {
        let message = format_args!(
            "the client's name is `{client}`, and so is that of a method's type: give the client another one, \
             `#[xero::service(client = Name)]`"
        );
        errors.push(service.options.client.as_ref().unwrap_or(ident), message);
    }
}

/// Whether a path among the tokens begins with the name.
fn begins_with(tokens: TokenStream, name: &Ident) -> bool {
    let mut is_first = true;
    tokens.into_iter().any(|token| {
        let was_first = std::mem::replace(&mut is_first, !matches!(&token, TokenTree::Punct(p) if p.as_char() == ':'));
        match token {
            TokenTree::Group(group) => begins_with(group.stream(), name),
            TokenTree::Ident(word) => was_first && word == *name,
            _ => false,
        }
    })
}

/// The signatures, and whether each is under `cfg`.
fn signatures(item: &ItemTrait) -> impl Iterator<Item = (&Signature, bool)> {
    item.items.iter().filter_map(|item| match item {
        TraitItem::Fn(function) => Some((&function.sig, conditions(&function.attrs).next().is_some())),
        _ => None,
    })
}
