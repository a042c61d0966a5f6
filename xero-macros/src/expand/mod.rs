//! From our model to tokens; cannot fail.

pub(crate) mod client;
pub(crate) mod service;
pub(crate) mod worker;

use proc_macro2::{Ident, Span};
use quote::format_ident;
use syn::Attribute;

use crate::{ast::Method, signature::plain};

/// The client of the trait `Demo` is `DemoClient`.
pub(crate) fn client_name(service: &Ident) -> Ident {
    // A name that lints know as generated: theirs is reported on the trait already.
    format_ident!("{}Client", plain(service), span = Span::call_site().located_at(service.span()))
}

/// The attributes that decide whether an item exists; whatever is made from the item exists with it.
pub(crate) fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
}

impl Method {
    /// Whether it is there only under some configuration.
    pub(crate) fn is_conditional(&self) -> bool {
        conditions(&self.attributes).next().is_some()
    }

    /// The struct that carries the arguments of `slow_succeed`: `__SlowSucceedArguments`. A decoding error shows it.
    fn arguments_name(&self) -> Ident {
        let name = self.wire_name();
        let words = name.split('_').filter_map(|word| word.split_at_checked(1).or(Some((word, ""))));
        let camel: String = words.map(|(first, rest)| first.to_ascii_uppercase() + rest).collect();
        format_ident!("__{camel}Arguments")
    }
}
