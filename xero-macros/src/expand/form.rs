//! The forms in which a method's types travel: the library's markers, chosen by type.
//!
//! A macro sees names, not types. It takes apart the options, results, lists and tuples that it sees, and leaves the
//! rest to the library's `Probe`. The `Probe` knows the type itself: an alias of `Vec<u8>` is bytes as well.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Path, Type, TypeTuple, parse_quote};

use crate::{
    ast::{Argument, ArgumentKind, Method, Output, Presence},
    expand::{local, shown_at},
    types::{last_segment, peel, type_arguments},
};

/// The forms of one method.
pub(crate) struct Forms {
    pub(crate) arguments: Vec<ArgumentForm>,
    /// The short name of the marker of the returned value.
    pub(crate) value: Ident,
    /// The marker of the method's error, or of an error that cannot exist.
    pub(crate) error: Ident,
    /// Short names for the markers: `type __Form0 = …;`
    pub(crate) aliases: Vec<TokenStream>,
    /// Statements that require each type to travel; the compiler shows them at the type.
    pub(crate) demands: Vec<TokenStream>,
}

/// How an argument travels.
pub(crate) struct ArgumentForm {
    /// The short name of its marker; `None` for a type without bytes.
    marker: Option<Ident>,
    /// The type that a worker decodes.
    owned: TokenStream,
    /// Lends an argument `&T` whose `T` may have no size.
    lending: Option<TokenStream>,
}

impl Forms {
    pub(crate) fn new(method: &Method, private: &TokenStream) -> Self {
        let (mut aliases, mut demands) = (Vec::new(), Vec::new());
        // The compiler shows a type that cannot travel where the user wrote it.
        let mut alias = |ty: &Type, marker: TokenStream| {
            let name = format_ident!("__Form{}", aliases.len(), span = shown_at(ty));
            aliases.push(quote!(#[allow(dead_code)] type #name = #marker;));
            name
        };
        let arguments = method.arguments.iter().map(|argument| {
            let lent = argument.kind.lent();
            let written = argument.kind.written().unwrap_or(&lent);
            let (owned, lending) = argument.owned(private);
            let marker = shape(&lent, private).map(|Shape { marker, has_bytes }| {
                let carrier = alias(written, marker);
                demands.push(quote_spanned!(shown_at(written)=> #private::travels::<#carrier, #owned>();));
                let travels = quote!(#has_bytes || <#private::Probe<#owned>>::TRAVELS);
                alias(written, quote!(#private::Chosen<{ #travels }, #carrier, #private::Stranded>))
            });
            ArgumentForm { marker, owned, lending }
        });
        let arguments = arguments.collect();
        let mut returned = |ty: &Type| {
            let marker = shape(ty, private).map_or_else(|| quote!(#private::Plain), |shape| shape.marker);
            let carrier = alias(ty, marker);
            demands.push(quote_spanned!(shown_at(ty)=> #private::travels::<#carrier, #ty>();));
            carrier
        };
        let nothing = parse_quote!(());
        let (value, error) = match &method.output {
            Output::Unit => (&nothing, &nothing),
            Output::Plain(value) => (value, &nothing),
            Output::Result { value, error } => (value, &**error),
        };
        let (value, error) = (returned(value), returned(error));
        Self { arguments, value, error, aliases, demands }
    }

    /// The struct of the arguments as a worker reads it.
    pub(crate) fn twin(&self, method: &Method, private: &TokenStream) -> TokenStream {
        let name = method.arguments_name();
        let types = self.arguments.iter().map(|ArgumentForm { marker, owned, .. }| match marker {
            Some(marker) => quote!(<#marker as #private::Form>::Owned<#owned>),
            None => owned.clone(),
        });
        match self.arguments.is_empty() {
            true => quote!(#name),
            false => quote!(#name<#(#types),*>),
        }
    }
}

impl ArgumentForm {
    /// The expression that the client writes for the argument in the parameter `name`: a value of the declared type.
    pub(crate) fn lend(&self, argument: &Argument, name: &Ident, private: &TokenStream) -> TokenStream {
        let ty = argument.kind.lent();
        let value = match argument.kind {
            ArgumentKind::Owned(_) => quote!(&#name),
            ArgumentKind::Borrowed(_) | ArgumentKind::Text | ArgumentKind::Slice(_) => quote!(#name),
        };
        let value = match &self.marker {
            Some(marker) => quote!(<#marker as #private::Form>::lend::<#ty>(#value)),
            None => quote!(<#private::Plain as #private::Form>::lend::<#ty>(#value)),
        };
        match argument.presence {
            Presence::Required | Presence::Optional => value,
            Presence::Defaulted { .. } => quote!(#private::Defaulted::Given(#value)),
        }
    }

    /// The expression that the worker passes to the method.
    pub(crate) fn pass(&self, argument: &Argument, private: &TokenStream) -> TokenStream {
        let (name, owned, arguments) = (&argument.name, &self.owned, local("__arguments"));
        let is_owned = matches!(argument.kind, ArgumentKind::Owned(_));
        let value = match (&argument.presence, &self.marker) {
            (Presence::Defaulted { option, function }, _) => {
                let value = self.resolve(argument, option, function.as_ref(), private);
                if is_owned { value } else { quote!(&#value) }
            }
            (_, Some(marker)) if is_owned => quote!(<#marker as #private::Form>::value::<#owned>(#arguments.#name)),
            (_, Some(marker)) => quote!(<#marker as #private::Form>::borrow::<#owned>(&#arguments.#name)),
            (_, None) if is_owned => quote!(#arguments.#name),
            (_, None) => quote!(&#arguments.#name),
        };
        match &self.lending {
            Some(lending) => quote!(<#lending>::lend(#value)),
            None => value,
        }
    }

    /// The argument as sent, or its default.
    fn resolve(
        &self,
        argument: &Argument,
        option: &Ident,
        function: Option<&Path>,
        private: &TokenStream,
    ) -> TokenStream {
        let (name, owned, arguments) = (&argument.name, &self.owned, local("__arguments"));
        let read = match &self.marker {
            Some(marker) => quote!(<#marker as #private::Form>::value::<#owned>),
            None => quote!(::core::convert::identity::<#owned>),
        };
        // The compiler shows a mistake in a type's own default at the option.
        let resolve = match function {
            Some(function) => quote!(resolve(#read, #function)),
            None => quote_spanned!(shown_at(option)=> resolve_or_default(#read)),
        };
        quote!(#arguments.#name.#resolve)
    }
}

impl ArgumentKind {
    /// The type that the user wrote, without its `&`; `None` for text, which is always sound.
    fn written(&self) -> Option<&Type> {
        match self {
            Self::Owned(ty) | Self::Borrowed(ty) | Self::Slice(ty) => Some(ty),
            Self::Text => None,
        }
    }

    /// The type that a client lends to the codec.
    fn lent(&self) -> Type {
        match self {
            Self::Owned(ty) | Self::Borrowed(ty) => ty.clone(),
            Self::Text => parse_quote!(str),
            Self::Slice(ty) => parse_quote!([#ty]),
        }
    }
}

impl Argument {
    /// The type that a worker decodes, and a lender if the argument needs one.
    fn owned(&self, private: &TokenStream) -> (TokenStream, Option<TokenStream>) {
        match (&self.kind, &self.presence) {
            (ArgumentKind::Owned(ty), _) => (quote!(#ty), None),
            (ArgumentKind::Text, _) => (quote!(::std::string::String), None),
            // A slice of bytes is lent from the received frame; a default is a `Vec<u8>`.
            (ArgumentKind::Slice(ty), Presence::Required) if is_word(ty, &["u8"]) => (quote!(#private::Bytes), None),
            (ArgumentKind::Slice(ty), _) => (quote!(::std::vec::Vec<#ty>), None),
            (ArgumentKind::Borrowed(ty), _) if is_word(ty, &PLAIN) => (quote!(#ty), None),
            (ArgumentKind::Borrowed(ty), _) => {
                let lending = quote! {
                    #private::Lend<{ <#private::Probe<#ty>>::SIZED }> as #private::Lending<#ty>
                };
                (quote!(<#lending>::Owned), Some(lending))
            }
        }
    }
}

/// What the macro knows of a type.
struct Shape {
    /// Its marker.
    marker: TokenStream,
    /// Whether there are bytes in it: a constant expression.
    has_bytes: TokenStream,
}

/// Takes a type apart; `None` if it surely has no bytes in it.
fn shape(ty: &Type, private: &TokenStream) -> Option<Shape> {
    let ty = peel(ty);
    match (ty, last_segment(ty)) {
        (Type::Tuple(tuple), _) if tuple.elems.len() <= TUPLE_LENGTH_MAX => tuple_shape(tuple, private),
        (Type::Tuple(_), _) => None,
        (Type::Slice(slice), _) => Some(list(ty, &slice.elem, private)),
        _ if is_word(ty, &PLAIN) || is_word(ty, &["str"]) => None,
        (_, Some(segment)) => match (segment.ident.to_string().as_str(), type_arguments(segment).as_slice()) {
            ("Option", [value]) => {
                shape(value, private).map(|value| container(ty, quote!(Opt), &[Some(value)], private))
            }
            ("Result", [value, error]) => match (shape(value, private), shape(error, private)) {
                (None, None) => None,
                (value, error) => Some(container(ty, quote!(Res), &[value, error], private)),
            },
            ("Vec", [value]) => Some(list(ty, value, private)),
            _ => Some(leaf(ty, private)),
        },
        _ => Some(leaf(ty, private)),
    }
}

/// A type that only the library can tell.
fn leaf(ty: &Type, private: &TokenStream) -> Shape {
    let has_bytes = quote!(<#private::Probe<#ty>>::BYTES);
    Shape { marker: quote!(#private::Chosen<{ #has_bytes }, #private::Blob>), has_bytes }
}

/// A list that is bytes itself, or whose elements may hold bytes.
fn list(ty: &Type, element: &Type, private: &TokenStream) -> Shape {
    let Shape { marker: otherwise, has_bytes: is_bytes } = leaf(ty, private);
    let Some(element) = shape(element, private) else { return Shape { marker: otherwise, has_bytes: is_bytes } };
    let Shape { marker: list, has_bytes } = container(ty, quote!(List), &[Some(element)], private);
    Shape {
        marker: quote!(#private::Chosen<{ #is_bytes }, #private::Blob, #list>),
        has_bytes: quote!(#is_bytes || #has_bytes),
    }
}

/// A type of the standard library around others, if it is one.
fn container(ty: &Type, marker: TokenStream, inner: &[Option<Shape>], private: &TokenStream) -> Shape {
    let Shape { marker: inner, has_bytes } = all(inner, private);
    let has_bytes = quote!(<#private::Probe<#ty>>::STANDARD && (#has_bytes));
    Shape { marker: quote!(#private::Chosen<{ #has_bytes }, #private::#marker<#inner>>), has_bytes }
}

fn tuple_shape(tuple: &TypeTuple, private: &TokenStream) -> Option<Shape> {
    let shapes: Vec<_> = tuple.elems.iter().map(|ty| shape(ty, private)).collect();
    if shapes.iter().all(Option::is_none) {
        return None;
    }
    let Shape { marker, has_bytes } = all(&shapes, private);
    Some(Shape { marker: quote!(#private::Chosen<{ #has_bytes }, (#marker,)>), has_bytes })
}

/// The markers side by side, and whether any of them has bytes.
fn all(shapes: &[Option<Shape>], private: &TokenStream) -> Shape {
    let markers = shapes.iter().map(|shape| match shape {
        Some(Shape { marker, .. }) => marker.clone(),
        None => quote!(#private::Plain),
    });
    let has_bytes = shapes.iter().flatten().map(|shape| &shape.has_bytes);
    Shape { marker: quote!(#(#markers),*), has_bytes: quote!(#(#has_bytes)||*) }
}

fn is_word(ty: &Type, words: &[&str]) -> bool {
    match peel(ty) {
        Type::Path(path) => path.path.get_ident().is_some_and(|word| words.iter().any(|other| word == other)),
        _ => false,
    }
}

/// Types that need no question: they have a size and no bytes.
const PLAIN: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128",
    "usize", "String",
];

/// The longest tuple that has a marker; serde itself goes to 16.
const TUPLE_LENGTH_MAX: usize = 12;
