//! An impl, and the promise that its type can be served.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Generics, ImplItem, Type, parse_quote};

use crate::{
    ast::{Runtime, Worker},
    expand::{conditions, recursion, shown_at, words_of},
    types::{last_segment, peel, type_arguments},
};

/// The impl as written, except for methods that call themselves.
///
/// Also `IntoService` for its type and for an `Arc` of it.
pub(crate) fn worker(worker: &Worker) -> TokenStream {
    let item = &worker.item;
    let span = shown_at(&item.self_ty);
    let into_service = worker.service.as_ref().map(|service| {
        // If the type cannot be shared between threads, the error shows the type.
        let shared = shared(worker, &quote_spanned!(span=> <Self as ::core::ops::Deref>::Target));
        into_service(worker, quote_spanned!(span=> #shared <_ as #service>::into_service(self)))
    });
    let mut item = recursion::resolve(item.clone());
    for function in &mut item.items {
        if let ImplItem::Fn(function) = function
            && function.sig.asyncness.is_some()
        {
            let shared = shared(worker, &quote_spanned!(span=> Self));
            function.block.stmts.insert(0, parse_quote!(#shared));
        }
    }
    quote! {
        #item
        #into_service
    }
}

/// A statement that requires that calls can share the type, shown at the type.
///
/// With an error in the body of an `async fn`, the compiler does not ask whether its future can move between threads.
/// Otherwise it would report that for each method, without the type.
fn shared(worker: &Worker, ty: &TokenStream) -> TokenStream {
    let Runtime { private, .. } = &worker.runtime;
    quote_spanned!(shown_at(&worker.item.self_ty)=> #private::shared::<#ty>();)
}

/// The `IntoService` impl, where `bind` makes a bound service of `self`, an `Arc` of the type.
///
/// The marker distinguishes this service of the type from its others: Rust has no other way to say "some service". A
/// value's marker differs from that of an `Arc` of it: for an impl for `Arc<T>`, a value may be an `Arc` of another.
pub(crate) fn into_service(worker: &Worker, bind: TokenStream) -> TokenStream {
    let Runtime { private, .. } = &worker.runtime;
    let (item, ty) = (&worker.item, &worker.item.self_ty);
    let conditions = conditions(&item.attrs);
    let by_value = (!is_served_in_an_arc_alone(worker)).then(|| by_value(worker));
    let generics = where_shared(&item.generics, ty, None);
    let (parameters, _, where_clause) = generics.split_for_impl();
    quote! {
        #(#conditions)*
        const _: () = {
            #[doc(hidden)]
            #[allow(missing_debug_implementations)]
            pub struct __Marker;

            #by_value

            impl #parameters #private::IntoService<__Marker> for ::std::sync::Arc<#ty> #where_clause {
                fn into_bound_service(self) -> #private::BoundService {
                    #bind
                }
            }
        };
    }
}

fn by_value(worker: &Worker) -> TokenStream {
    let Runtime { private, .. } = &worker.runtime;
    let ty = &worker.item.self_ty;
    let generics = where_shared(&worker.item.generics, ty, Some(quote!(::core::marker::Sized+)));
    let (parameters, _, where_clause) = generics.split_for_impl();
    quote! {
        #[doc(hidden)]
        #[allow(missing_debug_implementations)]
        pub struct __ValueMarker;

        impl #parameters #private::IntoService<__ValueMarker> for #ty #where_clause {
            fn into_bound_service(self) -> #private::BoundService {
                #private::IntoService::<__Marker>::into_bound_service(::std::sync::Arc::new(self))
            }
        }
    }
}

/// The generics under which the type can be served, which for an impl with parameters may be only some.
///
/// For a type without parameters, the call of `into_service` requires it with a better message.
fn where_shared(generics: &Generics, ty: &Type, sized: Option<TokenStream>) -> Generics {
    let mut generics = generics.clone();
    if !generics.params.is_empty() {
        let shared = parse_quote!(#ty: #sized ::core::marker::Send + ::core::marker::Sync + 'static);
        generics.make_where_clause().predicates.push(shared);
    }
    generics
}

/// Whether a value is served only in an `Arc`.
///
/// Rust allows no `IntoService` for a type without a size, nor for any type at all, alone or behind a pointer that
/// counts as its target. An `Arc<T>` that delegates to a `T` with the service would compete with the `Arc` that serves
/// each such `T`.
fn is_served_in_an_arc_alone(worker: &Worker) -> bool {
    let generics = &worker.item.generics;
    match peel(&worker.item.self_ty) {
        Type::TraitObject(_) | Type::Slice(_) => true,
        Type::Reference(reference) => is_any_type(&reference.elem, generics),
        Type::Path(path) if path.path.is_ident("str") => true,
        ty => is_any_type(ty, generics) || is_handed_on(ty, worker),
    }
}

/// Whether the type is an `Arc` of a parameter and the service is among the bounds.
fn is_handed_on(ty: &Type, worker: &Worker) -> bool {
    let Worker { item, service, .. } = worker;
    let is_arc_of_any = last_segment(ty).is_some_and(|segment| {
        segment.ident == "Arc" && type_arguments(segment).into_iter().any(|ty| is_any_type(ty, &item.generics))
    });
    let service = service.as_ref().and_then(|path| path.segments.last());
    let (parameters, where_clause) = (&item.generics.params, &item.generics.where_clause);
    let bounds = words_of(quote!(#parameters #where_clause));
    is_arc_of_any && service.is_some_and(|service| bounds.contains(&service.ident.to_string()))
}

fn is_any_type(ty: &Type, generics: &Generics) -> bool {
    let ty = peel(ty);
    match (ty, last_segment(ty)) {
        (Type::Reference(reference), _) => is_any_type(&reference.elem, generics),
        (Type::Path(path), _) if generics.type_params().any(|parameter| path.path.is_ident(&parameter.ident)) => true,
        (_, Some(segment)) if segment.ident == "Box" || segment.ident == "Pin" => {
            type_arguments(segment).into_iter().any(|ty| is_any_type(ty, generics))
        }
        _ => false,
    }
}
