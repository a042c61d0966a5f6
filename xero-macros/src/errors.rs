//! Collects every mistake of an item, so that one build shows them all.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The mistakes found so far, in the order of the source.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<syn::Error>);

impl Errors {
    /// Adds a mistake, shown on `guilty`. The message is lower case and says what to write instead.
    pub(crate) fn push(&mut self, guilty: impl ToTokens, message: impl std::fmt::Display) {
        self.0.push(syn::Error::new_spanned(guilty, message));
    }

    /// Adds a mistake that syn has found.
    pub(crate) fn push_syn(&mut self, error: syn::Error) {
        self.0.push(error);
    }

    /// The number of mistakes; it stays the same while sound code is read.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One `compile_error!` for each mistake.
    pub(crate) fn to_tokens(&self) -> TokenStream {
        self.0.iter().map(syn::Error::to_compile_error).collect()
    }
}
