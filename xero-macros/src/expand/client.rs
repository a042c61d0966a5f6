//! The client of a service, and the description that both sides share.

use std::{collections::BTreeSet, time::Duration};

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{Attribute, FnArg, ItemTrait, Meta, parse_quote};

use crate::{
    ast::{Argument, Method, Mode, Output, Runtime, Service},
    expand::{arguments_struct, client_name, conditions, form::Forms, shown_at, words_of},
    options::without_spaces,
    signature,
};

/// The client's struct, and the rest of it where the user's names cannot reach.
pub(crate) fn client(service: &Service) -> TokenStream {
    let Runtime { private, nested, .. } = &service.options.runtime;
    let structure = structure(service, quote!(pub(super) stub: #nested::Stub));
    let client = client_path(service);
    let conditions: Vec<_> = conditions(&service.item.attrs).collect();
    let (descriptor, indices) = (descriptor(service), indices(service));
    let names = Names::of(service);
    let functions = functions(&service.options.runtime, &names);
    let methods = service.methods.iter().map(|m| method(service, m, &names));
    let shadows = names.shadows();
    quote! {
        #structure

        #(#conditions)*
        const _: () = {
            #[allow(unused_imports)]
            use #private::Ordinary as _;

            #shadows
            #descriptor
            #indices

            #[allow(dead_code)]
            impl #client {
                #functions
                #(#methods)*

                fn __descriptor() -> &'static #private::ServiceDescriptor {
                    &__DESCRIPTOR
                }
            }
        };
    }
}

/// The client's struct, in a module named after the trait, and an import under the trait's visibility.
///
/// All generated code names the struct by its module, so that a taken name is one error: the import's.
pub(crate) fn structure(service: &Service, fields: TokenStream) -> TokenStream {
    let ItemTrait { attrs, vis, ident, .. } = &service.item;
    let (name, module) = (client_name(service), client_module(service));
    let conditions: Vec<_> = conditions(attrs).collect();
    let private = without_spaces(&service.options.runtime.nested);
    let doc = format!(
        "Calls the methods of [`{ident}`] on a worker.\n\nEach method returns a [`Call`]({private}::Call), which is \
         set up with its own methods and then awaited. Cloning is cheap; clones share the connection."
    );
    // The compiler shows the import from its first word to its last, and proposes to write `as` after the second word.
    let [mut first, mut second] = [module.clone(), name.clone()];
    first.set_span(name.span());
    second.set_span(Span::call_site());
    quote! {
        #(#conditions)*
        #[allow(non_snake_case)]
        mod #module {
            #[allow(unused_imports)]
            use super::*;

            #[doc = #doc]
            #[allow(dead_code, unreachable_pub)]
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            pub struct #name { #fields }
        }

        #(#conditions)*
        #[doc(inline)]
        #[allow(unused_imports)]
        #vis use #first::#second as #name;
    }
}

fn client_module(service: &Service) -> Ident {
    format_ident!("__xero_{}_{}", signature::plain(&service.item.ident), service.number, span = Span::call_site())
}

/// The client's path in generated code, whatever else has its name.
pub(crate) fn client_path(service: &Service) -> TokenStream {
    let (module, name) = (client_module(service), client_name(service));
    quote!(#module::#name)
}

fn descriptor(service: &Service) -> TokenStream {
    let Runtime { private, .. } = &service.options.runtime;
    let (name, version) = (&service.options.name, service.options.version);
    let methods = service.methods.iter().map(|method| method_descriptor(service, method));
    quote! {
        static __DESCRIPTOR: #private::ServiceDescriptor =
            #private::ServiceDescriptor { name: #name, version: #version, methods: &[#(#methods),*] };
    }
}

fn method_descriptor(service: &Service, method: &Method) -> TokenStream {
    let Runtime { private, .. } = &service.options.runtime;
    let conditions = conditions(&method.attributes);
    let (name, signature) = (method.wire_name(), signature::text(method));
    let arguments = method.arguments.iter().map(Argument::wire_name);
    let fingerprint = signature::fingerprint(&service.options.name, service.options.version, method);
    let older = signature::older_fingerprints(&service.options.name, service.options.version, method);
    let idempotent = method.options.idempotent;
    let timeout = match method.options.timeout {
        None => quote!(::core::option::Option::None),
        Some(timeout) => {
            let timeout = duration(timeout);
            quote!(::core::option::Option::Some(#timeout))
        }
    };
    let mode = match method.options.mode {
        Mode::Task => quote!(Task),
        Mode::Inline => quote!(Inline),
        Mode::Blocking => quote!(Blocking),
    };
    quote! {
        #(#conditions)*
        #private::MethodDescriptor {
            name: #name,
            signature: #signature,
            arguments: &[#(#arguments),*],
            fingerprint: #fingerprint,
            older: &[#(#older),*],
            idempotent: #idempotent,
            timeout: #timeout,
            mode: #private::Mode::#mode,
        }
    }
}

fn duration(duration: Duration) -> TokenStream {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanos))
}

/// An enum counts the methods that exist, whichever `cfg` leaves out.
fn indices(service: &Service) -> TokenStream {
    let methods = service.methods.iter().map(|method| {
        let (conditions, name) = (conditions(&method.attributes), &method.signature.ident);
        quote!(#(#conditions)* #name)
    });
    quote! {
        #[allow(dead_code, non_camel_case_types)]
        enum __Method { #(#methods),* }
    }
}

fn functions(runtime: &Runtime, names: &Names) -> TokenStream {
    let Runtime { private, text, .. } = runtime;
    let [client, codec, timeout, key, value] = OWN.map(|name| names.local(&format_ident!("{name}")));
    let with_codec = format!(
        "Writes arguments and replies with `codec`, for a worker that was built from other types or in another \
         language. See [choosing a codec]({text}::guide::codecs)."
    );
    quote! {
        /// Calls through `client`, which several services may share.
        pub fn new(#client: &#private::Client) -> Self {
            Self { stub: #private::Stub::new(#client, &__DESCRIPTOR) }
        }

        #[doc = #with_codec]
        #[must_use]
        pub fn with_codec(self, #codec: #private::Codec) -> Self {
            Self { stub: self.stub.with_codec(#codec) }
        }

        /// Limits the time of each call to `timeout`, whatever its method declares; a call's own limit takes precedence.
        #[must_use]
        pub fn with_timeout(self, #timeout: ::core::time::Duration) -> Self {
            Self { stub: self.stub.with_timeout(#timeout) }
        }

        /// Has each call fail at once if no worker can take it.
        #[must_use]
        pub fn with_fail_fast(self) -> Self {
            Self { stub: self.stub.with_fail_fast() }
        }

        /// Sends `value` beside the arguments of each call, unless the call has another value of that key.
        #[must_use]
        pub fn with_metadata(
            self,
            #key: impl ::core::convert::Into<#private::String>,
            #value: impl ::core::convert::Into<#private::Bytes>,
        ) -> Self {
            Self { stub: self.stub.with_metadata(#key, #value) }
        }

        /// Waits until a worker serves this service.
        ///
        /// # Errors
        /// When there is none after `timeout`.
        pub async fn wait_for_worker(
            &self,
            #timeout: ::core::time::Duration,
        ) -> ::core::result::Result<(), #private::NoWorkerError> {
            self.stub.wait_for_worker(#timeout).await
        }
    }
}

fn method(service: &Service, method: &Method, names: &Names) -> TokenStream {
    let Runtime { private, .. } = &service.options.runtime;
    let name = &method.signature.ident;
    let attributes = client_attributes(service, method);
    let (inputs, reply) = (client_inputs(method, names), call_type(&method.output, private));
    let forms = Forms::new(method, private);
    let arguments_struct = arguments_struct(service, method, &forms);
    let (value_form, error_form) = (&forms.value, &forms.error);
    let (arguments_name, fields) = (method.arguments_name(), method.arguments.iter().map(|argument| &argument.name));
    let values = method.arguments.iter().zip(&forms.arguments).map(|(argument, form)| {
        let name = names.local(&argument.name);
        form.lend(argument, &name, private)
    });
    // A type without serde is shown on the method that has it.
    let span = shown_at(name);
    let call = quote_spanned!(span=> call::<__Arguments, #value_form, #error_form, _, _, _>);
    // No locals, because one could be mistaken for an argument.
    quote! {
        #(#attributes)*
        pub fn #name(&self, #(#inputs),*) -> #reply {
            #arguments_struct

            self.stub.#call(
                __Method::#name as ::core::primitive::usize,
                &#arguments_name { #(#fields: #values),* },
            )
        }
    }
}

/// The arguments as in the trait, without the context.
fn client_inputs(method: &Method, names: &Names) -> impl Iterator<Item = TokenStream> {
    let inputs = method.signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) => Some(&input.ty),
        FnArg::Receiver(_) => None,
    });
    inputs.skip(usize::from(method.context.is_some())).zip(&method.arguments).map(|(ty, argument)| {
        let name = names.local(&argument.name);
        quote!(#name: #ty)
    })
}

/// The names of the client's parameters, protected from other meanings.
///
/// A parameter is a pattern. If a constant, a static, a unit or tuple struct or a variant had its name, the pattern
/// would mean that item instead. A function of the same name, in a nearer scope, hides those items.
struct Names {
    /// The arguments of the methods and the parameters of the client's own functions.
    parameters: Vec<Ident>,
    /// The words in the methods' types, such as the constant in `[u8; size]`, which must keep their meaning.
    words: BTreeSet<String>,
}

impl Names {
    fn of(service: &Service) -> Self {
        let mut parameters: Vec<Ident> = OWN.map(|name| format_ident!("{name}")).into();
        for Argument { name, .. } in service.methods.iter().flat_map(|method| &method.arguments) {
            if !parameters.iter().any(|known| signature::plain(known) == signature::plain(name)) {
                parameters.push(name.clone());
            }
        }
        Self { parameters, words: service.methods.iter().flat_map(words_of_types).collect() }
    }

    fn shadows(&self) -> TokenStream {
        let names = self.parameters.iter().map(|name| {
            let mut local = self.local(name);
            local.set_span(shown_at(name));
            local
        });
        quote!(#(#[allow(dead_code, non_snake_case)] fn #names() {})*)
    }

    /// The parameter of that name; another unused name if the word means something in a type.
    fn local(&self, name: &Ident) -> Ident {
        if !self.words.contains(&name.to_string()) {
            return name.clone();
        }
        let mut local = format_ident!("__{}", signature::plain(name));
        while self.words.contains(&local.to_string()) || self.parameters.contains(&local) {
            local = format_ident!("_{local}");
        }
        local
    }
}

fn words_of_types(method: &Method) -> BTreeSet<String> {
    let inputs = method.signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) => Some(input.ty.to_token_stream()),
        FnArg::Receiver(_) => None,
    });
    inputs.chain([method.signature.output.to_token_stream()]).flat_map(words_of).collect()
}

/// The parameters of the functions that every client has.
const OWN: [&str; 5] = ["client", "codec", "timeout", "key", "value"];

/// `Call<T, E>`; the error of a method without one cannot exist.
pub(crate) fn call_type(output: &Output, private: &TokenStream) -> TokenStream {
    match output {
        Output::Unit => quote!(#private::Call<(), #private::Never>),
        Output::Plain(ty) => quote!(#private::Call<#ty, #private::Never>),
        Output::Result { value, error } => quote!(#private::Call<#value, #error>),
    }
}

/// The attributes of the trait's method that concern callers. Others, such as `#[instrument]`, stay there.
fn client_attributes(service: &Service, method: &Method) -> Vec<Attribute> {
    let mut attributes: Vec<_> = method.attributes.iter().filter_map(client_attribute).collect();
    if !attributes.iter().any(|attribute| attribute.path().is_ident("doc")) {
        let doc = format!("Calls [`{}::{}`].", service.item.ident, method.signature.ident);
        attributes.insert(0, parse_quote!(#[doc = #doc]));
    }
    attributes
}

fn client_attribute(attribute: &Attribute) -> Option<Attribute> {
    let kept = ["doc", "cfg", "cfg_attr", "deprecated", "allow", "warn", "deny", "forbid"];
    if kept.iter().any(|kept| attribute.path().is_ident(kept)) {
        return Some(attribute.clone());
    }
    // An expectation about the trait's method may well fail here.
    let mut attribute = attribute.clone();
    match &mut attribute.meta {
        Meta::List(list) if list.path.is_ident("expect") => list.path = format_ident!("allow").into(),
        _ => return None,
    }
    Some(attribute)
}
