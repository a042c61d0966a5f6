//! The trait itself, and the function that binds a value to its procedures.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{ItemTrait, TraitItem, TraitItemFn, Type, parse_quote};

use crate::{
    ast::{Method, Output, Runtime, Service},
    expand::{
        arguments_struct, client::client_path, conditions, form::Forms, local, local_shown_at, recursion, shown_at,
    },
};

/// The trait with futures that can move between threads, and `into_service`.
pub(crate) fn service(service: &Service) -> TokenStream {
    let ItemTrait { attrs, vis, trait_token, ident, colon_token, supertraits, .. } = &service.item;
    let methods = service.methods.iter().map(|method| trait_method(service, method));
    let into_service = into_service(service);
    quote! {
        #(#attrs)*
        #vis #trait_token #ident #colon_token #supertraits {
            #(#methods)*
            #into_service
        }
    }
}

fn trait_method(service: &Service, method: &Method) -> TraitItem {
    let mut function = TraitItemFn {
        attrs: method.attributes.clone(),
        modifiers: Default::default(),
        sig: method.signature.clone(),
        semi_token: method.default_body.is_none().then(Default::default),
        default: method.default_body.clone(),
    };
    if !service.is_async_trait {
        return_a_future(&mut function, &service.item.ident);
    }
    TraitItem::Fn(function)
}

/// Adds the promise that a procedure needs: an `async fn`'s future that moves between threads.
fn return_a_future(function: &mut TraitItemFn, trait_name: &Ident) {
    let span = shown_at(function.sig.asyncness);
    let output = match &function.sig.output {
        syn::ReturnType::Default => quote!(()),
        syn::ReturnType::Type(_, ty) => ty.to_token_stream(),
    };
    let future = quote_spanned!(span=> impl ::core::future::Future<Output = #output> + ::core::marker::Send);
    function.sig.asyncness = None;
    function.sig.output = parse_quote!(-> #future);
    if let Some(body) = &function.default {
        function.attrs.push(parse_quote!(#[allow(clippy::manual_async_fn)]));
        // The future holds `&self`, and can move to another thread only if `Self` can be shared.
        function.sig.generics.make_where_clause().predicates.push(parse_quote!(Self: ::core::marker::Sync));
        let future = quote_spanned!(span=> async move #body);
        let recursive = recursion::default_body(trait_name, &function.sig, body, &future);
        function.default = Some(recursive.unwrap_or_else(|| parse_quote!({ #future })));
    }
}

fn into_service(service: &Service) -> TokenStream {
    let Runtime { private, .. } = &service.options.runtime;
    let client = client_path(service);
    let procedures = service.methods.iter().map(|method| procedure(service, method));
    let (allow, bound) = (allow_deprecated(service), local("__service"));
    quote! {
        /// Binds the value to the procedures of this service, ready to be served.
        ///
        /// `#[xero::worker]` calls it. Call it where that is not enough, such as for a value that implements several
        /// services.
        #[allow(dead_code)]
        #allow
        fn into_service(self: ::std::sync::Arc<Self>) -> #private::BoundService
        where
            Self: ::core::marker::Send + ::core::marker::Sync + 'static,
        {
            #[allow(unused_imports)]
            use #private::Ordinary as _;

            let #bound = #private::BoundService::new(#client::__descriptor());
            #(#procedures)*
            #bound
        }
    }
}

/// Deprecation concerns callers; serving a deprecated method is not a call.
pub(crate) fn allow_deprecated(service: &Service) -> Option<TokenStream> {
    let mut attributes = service.methods.iter().flat_map(|method| &method.attributes);
    attributes.any(|attribute| attribute.path().is_ident("deprecated")).then(|| quote!(#[allow(deprecated)]))
}

fn procedure(service: &Service, method: &Method) -> TokenStream {
    let Runtime { private, .. } = &service.options.runtime;
    let conditions = conditions(&method.attributes);
    let forms = Forms::new(method, private);
    let arguments_struct = arguments_struct(service, method, &forms);
    let reply = reply(service, method, &forms);
    let [service, value, context, arguments] = ["__service", "__value", "__context", "__arguments"].map(local);
    let pattern = if method.arguments.is_empty() { quote!(_) } else { quote!(#arguments) };
    // The compiler shows a type without serde at its method.
    let procedure = Ident::new("procedure", shown_at(&method.signature.ident));
    quote! {
        #(#conditions)*
        let #service = {
            #arguments_struct

            #service.#procedure(
                &self,
                |#value: ::std::sync::Arc<Self>, #context: #private::Context, #pattern: __Arguments| async move {
                    #reply
                },
            )
        };
    }
}

fn reply(service: &Service, method: &Method, forms: &Forms) -> TokenStream {
    let Runtime { private, .. } = &service.options.runtime;
    let (trait_name, name) = (&service.item.ident, &method.signature.ident);
    let context = method.context.as_ref().map(lend_context);
    let arguments = method.arguments.iter().zip(&forms.arguments).map(|(argument, form)| form.pass(argument, private));
    let values = context.into_iter().chain(arguments);
    let (value_form, error_form) = (&forms.value, &forms.error);
    let reply = match method.output {
        Output::Result { .. } => quote!(reply_result::<#value_form, #error_form, _, _>),
        Output::Unit | Output::Plain(_) => quote!(reply::<#value_form, _>),
    };
    let [context, value, result] = ["__context", "__value", "__reply"].map(local);
    let output = &method.signature.output;
    let shown = local_shown_at("__reply", output);
    let lent = quote_spanned!(shown_at(output)=> &#shown);
    quote! {
        let #result = <Self as #trait_name>::#name(&*#value, #(#values),*).await;
        #private::#reply(#context.codec(), #lent)
    }
}

/// Shown at the argument's type, in case it is another `Context`.
fn lend_context(ty: &Type) -> TokenStream {
    let context = local_shown_at("__context", ty);
    quote_spanned!(shown_at(ty)=> &#context)
}
