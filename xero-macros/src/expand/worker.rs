//! An impl, and the promise that its type can be served.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse_quote;

use crate::{
    ast::{Runtime, Worker},
    expand::{conditions, shown_at},
};

/// The impl as written, with `IntoService` for its type and for an `Arc` of it.
pub(crate) fn worker(worker: &Worker) -> TokenStream {
    let item = &worker.item;
    let into_service = worker.service.as_ref().map(|service| {
        // Where the type cannot be shared between threads, the error shows the type.
        let span = shown_at(&item.self_ty);
        into_service(worker, quote_spanned!(span=> <_ as #service>::into_service(self)))
    });
    quote! {
        #item
        #into_service
    }
}

/// `bind` makes a bound service of `self`, an `Arc` of the type.
///
/// The marker tells this service of the type from its others: Rust has no other way to say "some service".
pub(crate) fn into_service(worker: &Worker, bind: TokenStream) -> TokenStream {
    let Runtime { private, .. } = &worker.runtime;
    let (item, ty) = (&worker.item, &worker.item.self_ty);
    let conditions = conditions(&item.attrs);
    let mut generics = item.generics.clone();
    if !generics.params.is_empty() {
        // For some parameters only; of a type without any, the call below demands it with a better message.
        let can_be_shared = parse_quote!(#ty: ::core::marker::Send + ::core::marker::Sync + 'static);
        generics.make_where_clause().predicates.push(can_be_shared);
    }
    let (parameters, _, where_clause) = generics.split_for_impl();
    quote! {
        #(#conditions)*
        const _: () = {
            #[doc(hidden)]
            #[allow(missing_debug_implementations)]
            pub struct __Marker;

            impl #parameters #private::IntoService<__Marker> for #ty #where_clause {
                fn into_bound_service(self) -> #private::BoundService {
                    #private::IntoService::<__Marker>::into_bound_service(::std::sync::Arc::new(self))
                }
            }

            impl #parameters #private::IntoService<__Marker> for ::std::sync::Arc<#ty> #where_clause {
                fn into_bound_service(self) -> #private::BoundService {
                    #bind
                }
            }
        };
    }
}
