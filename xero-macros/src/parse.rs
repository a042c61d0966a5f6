//! From syn's items to ours, with the mistakes that one item shows.

use std::sync::atomic::{AtomicUsize, Ordering};

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use syn::{
    Attribute, FnArg, GenericParam, Generics, ImplItem, Item, ItemImpl, ItemTrait, Meta, Pat, PatType, Receiver,
    ReceiverKind, Safety, Signature, TraitItem, TraitItemFn, Type, Visibility,
    parse::{ParseStream, Parser},
};

use crate::{
    ast::{Argument, ArgumentKind, Method, Presence, Service, Worker},
    errors::Errors,
    options::{self, is_xero},
    signature::plain,
    types,
};

/// Reads a trait under `#[xero::service(…)]`; `None` if it is not a trait.
pub(crate) fn service(options: TokenStream, item: TokenStream, errors: &mut Errors) -> Option<Service> {
    let mut item: ItemTrait = match syn::parse2(item.clone()) {
        Ok(item) => item,
        Err(error) => {
            wrong_item(item, error, "`#[xero::service]` goes on a trait", errors);
            return None;
        }
    };
    let options = options::service(options, plain(&item.ident), errors);
    trait_head(&mut item, errors);
    let is_async_trait = async_trait(&item.attrs, errors);
    let is_generic = !item.generics.params.is_empty();
    let mut methods = Vec::new();
    for trait_item in &mut item.items {
        without_visibility(trait_item, errors);
        match trait_item {
            TraitItem::Fn(function) => methods.extend(method(function, is_generic, errors)),
            other => foreign_item(other, errors),
        }
    }
    let number = SERVICES.fetch_add(1, Ordering::Relaxed);
    Some(Service { item, options, methods, is_async_trait, number })
}

/// The number of services that the compiler has shown us: it loads the macros anew for each crate.
static SERVICES: AtomicUsize = AtomicUsize::new(0);

/// Reads an impl under `#[xero::worker(…)]`; `None` if it is not an impl.
pub(crate) fn worker(options: TokenStream, item: TokenStream, errors: &mut Errors) -> Option<Worker> {
    let mut item: ItemImpl = match syn::parse2(item.clone()) {
        Ok(item) => item,
        Err(error) => {
            wrong_item(item, error, "`#[xero::worker]` goes on the impl of a service trait", errors);
            return None;
        }
    };
    let runtime = options::worker(options, errors);
    let service = impl_head(&item, errors);
    for impl_item in &mut item.items {
        if let ImplItem::Fn(function) = impl_item {
            for attribute in take_xero(&mut function.attrs) {
                errors.push(&attribute, "`#[xero(…)]` belongs on the trait's method: move it there");
            }
            for input in &mut function.sig.inputs {
                let FnArg::Typed(input) = input else { continue };
                for attribute in take_xero(&mut input.attrs) {
                    errors.push(&attribute, "`#[xero(…)]` belongs on the argument in the trait: move it there");
                }
            }
            // `#[async_trait]` leaves these generics when it stands above.
            let is_asynchronous = function.sig.asyncness.is_some() || types::is_future(&function.sig.output);
            if service.is_some() && !is_asynchronous {
                errors.push(function.sig.fn_token, "a service method is asynchronous: write `async fn`");
            }
        }
    }
    Some(Worker { item, service, runtime })
}

/// Says where the attribute belongs, on the keyword of the item that it stands on.
fn wrong_item(item: TokenStream, error: syn::Error, place: &str, errors: &mut Errors) {
    let keyword = match syn::parse2(item) {
        Ok(Item::Struct(item)) => item.struct_token.to_token_stream(),
        Ok(Item::Enum(item)) => item.enum_token.to_token_stream(),
        Ok(Item::Union(item)) => item.union_token.to_token_stream(),
        Ok(Item::Impl(item)) => item.impl_token.to_token_stream(),
        Ok(Item::Trait(item)) => item.trait_token.to_token_stream(),
        Ok(Item::Fn(item)) => item.sig.fn_token.to_token_stream(),
        Ok(Item::Mod(item)) => item.mod_token.to_token_stream(),
        Ok(other) => other.to_token_stream(),
        Err(_) => return errors.push_syn(error),
    };
    let instead = match keyword.to_string().as_str() {
        "impl" => ": write `#[xero::worker]` here",
        "trait" => ": write `#[xero::service]` here",
        _ => "",
    };
    errors.push(keyword, format_args!("{place}{instead}"));
}

fn trait_head(item: &mut ItemTrait, errors: &mut Errors) {
    for attribute in take_xero(&mut item.attrs) {
        errors.push(&attribute, "`#[xero(…)]` goes on a method; the service's own options go to `#[xero::service(…)]`");
    }
    if let Some(token) = &item.unsafety {
        errors.push(token, "remove `unsafe`: a remote caller can promise nothing");
    }
    if let Some(token) = &item.modifiers.auto_token {
        errors.push(token, "remove `auto`: a service has methods");
    }
    let message = "a service cannot be generic: remove the parameters, and write the types in the methods";
    generics(&item.generics, message, "remove the where clause: write its bounds as supertraits", errors);
}

fn generics(generics: &Generics, message: &str, where_message: &str, errors: &mut Errors) {
    match &generics.where_clause {
        _ if !generics.params.is_empty() => errors.push(&generics.params, message),
        Some(clause) => errors.push(clause.where_token, where_message),
        None => {}
    }
}

/// Whether `#[async_trait]` is present.
fn async_trait(attributes: &[Attribute], errors: &mut Errors) -> bool {
    let is_async_trait =
        |attribute: &&Attribute| attribute.path().segments.last().is_some_and(|segment| segment.ident == "async_trait");
    let Some(attribute) = attributes.iter().find(is_async_trait) else { return false };
    if let Meta::List(list) = &attribute.meta
        && !list.tokens.is_empty()
    {
        errors.push(&list.tokens, "write `#[async_trait]` alone: procedures move between threads");
    }
    true
}

/// Removes the visibility of `pub async fn` in a trait: invalid Rust, but the method is otherwise sound.
fn without_visibility(item: &mut TraitItem, errors: &mut Errors) {
    let TraitItem::Verbatim(tokens) = item else { return };
    let parser = |input: ParseStream<'_>| {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility: Visibility = input.parse()?;
        let mut function: TraitItemFn = input.parse()?;
        function.attrs = attributes;
        Ok((visibility, function))
    };
    if let Ok((visibility, function)) = parser.parse2(tokens.clone()) {
        errors.push(visibility, "remove the visibility: a method is as visible as its trait");
        *item = TraitItem::Fn(function);
    }
}

fn foreign_item(item: &TraitItem, errors: &mut Errors) {
    const ASYNC_ONLY: &str = "a service has methods alone: move this to another trait, which may be a supertrait";
    match item {
        TraitItem::Const(item) => errors.push(item.const_token, ASYNC_ONLY),
        TraitItem::Type(item) => errors.push(item.type_token, ASYNC_ONLY),
        TraitItem::Macro(item) => errors.push(&item.mac.path, "a macro hides methods from the service: write them out"),
        other => errors.push(other, ASYNC_ONLY),
    }
}

/// Reads a method; `None` if it has a mistake.
fn method(function: &mut TraitItemFn, trait_is_generic: bool, errors: &mut Errors) -> Option<Method> {
    let errors_before = errors.count();
    let options = options::method(&take_xero(&mut function.attrs), errors);
    let signature = &function.sig;
    if !is_asynchronous(signature, errors) {
        return None;
    }
    method_head(signature, errors);
    let lifetimes_are_reported = trait_is_generic || !signature.generics.params.is_empty();
    let (context, arguments) = inputs(signature, lifetimes_are_reported, errors);
    let output = types::output(&signature.output, lifetimes_are_reported, errors);
    for input in &mut function.sig.inputs {
        if let FnArg::Typed(input) = input {
            take_xero(&mut input.attrs);
        }
    }
    output.filter(|_| errors.count() == errors_before).map(|output| Method {
        attributes: function.attrs.clone(),
        signature: function.sig.clone(),
        default_body: function.default.clone(),
        context,
        arguments,
        output,
        options,
    })
}

/// A method that is not asynchronous may look so different that no other rule makes sense.
fn is_asynchronous(signature: &Signature, errors: &mut Errors) -> bool {
    let is_expanded = signature.generics.lifetimes().any(|parameter| parameter.lifetime.ident == "async_trait");
    let message = match signature.asyncness {
        Some(_) => return true,
        None if is_expanded => "`#[async_trait]` has expanded first: write `#[xero::service]` above it",
        None if types::is_future(&signature.output) => "write `async fn`, and the future's output as the return type",
        None => "a call goes to another process: write `async fn`",
    };
    errors.push(signature.fn_token, message);
    false
}

fn method_head(signature: &Signature, errors: &mut Errors) {
    if let Some(token) = &signature.constness {
        errors.push(token, "remove `const`: a call goes to another process");
    }
    if let Safety::Unsafe(token) = &signature.safety {
        errors.push(token, "remove `unsafe`: a remote caller can promise nothing");
    }
    if let Some(abi) = &signature.abi {
        errors.push(abi, "remove the ABI: a call goes to another process");
    }
    if let Some(variadic) = &signature.variadic {
        errors.push(variadic, "write the arguments out, or take a `Vec`");
    }
    let message = match signature.generics.params.iter().all(|parameter| matches!(parameter, GenericParam::Lifetime(_)))
    {
        true => "remove the lifetimes: an argument is borrowed for the call, a reply is owned",
        false => "a method cannot be generic: both sides must know its types; write a concrete one, such as an enum",
    };
    generics(&signature.generics, message, "remove the where clause: a method of a service has no bounds", errors);
}

/// The context's type and the travelling arguments.
fn inputs(signature: &Signature, lifetimes_are_reported: bool, errors: &mut Errors) -> (Option<Type>, Vec<Argument>) {
    let mut inputs = signature.inputs.iter().peekable();
    match inputs.next_if(|input| matches!(input, FnArg::Receiver(_))) {
        Some(FnArg::Receiver(self_)) => receiver(self_, lifetimes_are_reported, errors),
        _ => errors.push(&signature.ident, "write `&self` as the first argument"),
    }
    let mut contexts = Vec::new();
    let mut arguments: Vec<Argument> = Vec::new();
    for (index, input) in inputs.enumerate() {
        let FnArg::Typed(input) = input else { continue };
        let default = attributes_of_argument(input, errors);
        if let Some(ty) = context(&input.ty, errors) {
            if let Some((option, _)) = default {
                errors.push(option, "the context does not travel: remove `default`");
            }
            match (index, contexts.is_empty()) {
                (0, _) => {}
                (_, true) => errors.push(ty, "write the context first, right after `&self`"),
                (_, false) => errors.push(ty, "one context is enough: remove this one"),
            }
            contexts.push(ty.clone());
            continue;
        }
        let name = argument_name(&input.pat, errors);
        let kind = types::argument(&input.ty, lifetimes_are_reported, errors);
        let (Some(name), Some(kind)) = (name, kind) else { continue };
        if arguments.iter().any(|earlier| earlier.name == name) {
            errors.push(&name, format_args!("there is an argument `{name}` already: give this one another name"));
        }
        arguments.push(Argument { name, presence: presence(&kind, default), kind });
    }
    (contexts.into_iter().next(), arguments)
}

fn receiver(receiver: &Receiver, lifetimes_are_reported: bool, errors: &mut Errors) {
    match &receiver.kind {
        ReceiverKind::Typed(_, ty) => {
            errors.push(ty, "write `&self` alone: a worker lends the value that it serves");
        }
        ReceiverKind::Reference(_, Some(lifetime), _) if !lifetimes_are_reported && lifetime.ident != "_" => {
            errors.push(lifetime, "remove the lifetime: write `&self`");
        }
        ReceiverKind::Reference(_, _, Some(token)) => {
            errors.push(token, "write `&self`: calls run side by side, so keep what changes in an atomic or a `Mutex`");
        }
        ReceiverKind::Reference(..) => {}
        _ => errors.push(receiver.self_token, "write `&self`: a worker serves many calls with one value"),
    }
}

/// The argument's type if it is the context, borrowed or not.
fn context<'a>(ty: &'a Type, errors: &mut Errors) -> Option<&'a Type> {
    match types::peel(ty) {
        Type::Reference(reference) if types::is_context(&reference.elem) => {
            if let Some(token) = &reference.mutability {
                errors.push(token, "remove `mut`: write `&Context`");
            }
            Some(ty)
        }
        Type::Path(_) if types::is_context(ty) => {
            errors.push(ty, "write `&Context`: the context is lent, and its clones may outlive the procedure");
            Some(ty)
        }
        _ => None,
    }
}

/// The argument's `default`, if it has one.
fn attributes_of_argument(input: &PatType, errors: &mut Errors) -> Option<(Ident, Option<syn::Path>)> {
    for attribute in &input.attrs {
        if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
            errors.push(attribute, "both sides have an argument or neither does: put this on the method");
        }
    }
    options::argument(input.attrs.iter().filter(|attribute| is_xero(attribute)), errors)
}

fn presence(kind: &ArgumentKind, default: Option<(Ident, Option<syn::Path>)>) -> Presence {
    match (default, kind) {
        (Some((option, function)), _) => Presence::Defaulted { option, function },
        (None, ArgumentKind::Owned(ty) | ArgumentKind::Borrowed(ty)) if types::is_option(ty) => Presence::Optional,
        (None, _) => Presence::Required,
    }
}

fn argument_name(pattern: &Pat, errors: &mut Errors) -> Option<Ident> {
    match pattern {
        Pat::Ident(pattern) => match (&pattern.by_ref, &pattern.mutability, &pattern.subpat) {
            (Some(token), ..) => errors.push(token, "remove `ref`: write the name alone"),
            (_, Some(token), _) => errors.push(token, "remove `mut`: write it in the impl"),
            (.., Some((_, subpattern))) => errors.push(subpattern, "write the name alone, without `@` and a pattern"),
            _ => return Some(pattern.ident.clone()),
        },
        Pat::Wild(_) => errors.push(pattern, "give the argument a name: it has that name on the wire"),
        _ => errors.push(pattern, "give the argument one name, such as `pair`, and take it apart in the impl"),
    }
    None
}

/// The service trait, if the impl can be served.
fn impl_head(item: &ItemImpl, errors: &mut Errors) -> Option<syn::Path> {
    let Some((service, _)) = &item.trait_ else {
        errors.push(
            item.impl_token,
            "a worker serves a trait: write `impl Trait for Type`, with a `#[xero::service]` trait",
        );
        return None;
    };
    if let Some(token) = &item.modifiers.polarity {
        errors.push(token, "remove `!`: a worker implements its service");
        return None;
    }
    if let Some(token) = &item.unsafety {
        errors.push(token, "remove `unsafe`: a service trait is safe");
    }
    Some(service.clone())
}

fn take_xero(attributes: &mut Vec<Attribute>) -> Vec<Attribute> {
    attributes.extract_if(.., |attribute| is_xero(attribute)).collect()
}
