//! The options in parentheses: `#[xero::service(…)]`, `#[xero::worker(…)]` and `#[xero(…)]` on a method.

use std::time::Duration;

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Attribute, Lit, LitInt, LitStr, Meta, Path, parse::Parser};

use crate::{
    ast::{MethodOptions, Mode, Runtime, ServiceOptions},
    errors::Errors,
};

/// The options of `#[xero::service(…)]` on the trait `item_name`.
pub(crate) fn service(tokens: TokenStream, item_name: String, errors: &mut Errors) -> ServiceOptions {
    let mut options = ServiceOptions { name: item_name, version: 1, client: None, runtime: runtime(None) };
    for option in options_of(tokens, errors) {
        match option.name.to_string().as_str() {
            "name" => options.name = service_name(&option, errors).unwrap_or(options.name),
            "version" => options.version = version(&option, errors).unwrap_or(options.version),
            "client" => options.client = client_name(&option, errors),
            "crate" => options.runtime = runtime(crate_path(&option, errors)),
            _ => unknown(&option, "write `name = \"…\"`, `version = 2`, `client = Name` or `crate = path`", errors),
        }
    }
    options
}

/// The options of `#[xero::worker(…)]`.
pub(crate) fn worker(tokens: TokenStream, errors: &mut Errors) -> Runtime {
    let mut path = None;
    for option in options_of(tokens, errors) {
        match option.name.to_string().as_str() {
            "crate" => path = crate_path(&option, errors),
            _ => unknown(&option, "write `crate = path`; the service's options belong on its trait", errors),
        }
    }
    runtime(path)
}

/// The options of a method, from all of its `#[xero(…)]` attributes.
pub(crate) fn method(attributes: &[Attribute], errors: &mut Errors) -> MethodOptions {
    let mut options = MethodOptions::default();
    for option in options_of(in_parentheses(attributes, "idempotent", errors), errors) {
        match option.name.to_string().as_str() {
            "idempotent" => options.idempotent = flag(&option, errors),
            "timeout" => options.timeout = timeout(&option, errors),
            "inline" if flag(&option, errors) => set_mode(&mut options, Mode::Inline, &option, errors),
            "blocking" if flag(&option, errors) => set_mode(&mut options, Mode::Blocking, &option, errors),
            "inline" | "blocking" => {}
            _ => unknown(&option, "write `idempotent`, `timeout = \"30s\"`, `inline` or `blocking`", errors),
        }
    }
    options
}

/// The `default` option of an argument, if it has one.
pub(crate) fn argument<'a>(
    attributes: impl IntoIterator<Item = &'a Attribute>,
    errors: &mut Errors,
) -> Option<(Ident, Option<Path>)> {
    let mut default = None;
    for option in options_of(in_parentheses(attributes, "default", errors), errors) {
        match option.name.to_string().as_str() {
            "default" => default = Some((option.name.clone(), default_function(&option, errors))),
            _ => unknown(&option, "write `default` or `default = path`; other options belong on the method", errors),
        }
    }
    default
}

/// The parentheses' content of all the attributes.
fn in_parentheses<'a>(
    attributes: impl IntoIterator<Item = &'a Attribute>,
    example: &str,
    errors: &mut Errors,
) -> TokenStream {
    let mut tokens = TokenStream::new();
    for attribute in attributes {
        match &attribute.meta {
            Meta::List(list) => {
                let list = &list.tokens;
                tokens.extend(quote!(#list,));
            }
            other => errors.push(other, format_args!("write the options in parentheses: `#[xero({example})]`")),
        }
    }
    tokens
}

fn default_function(option: &NamedOption, errors: &mut Errors) -> Option<Path> {
    let value = option.value.clone()?;
    let path = syn::parse2::<Path>(value.clone()).ok();
    if path.is_none() {
        errors.push(value, "write the path of a function that returns the value, without quotes: `default = path`");
    }
    path
}

/// Whether it is `#[xero(…)]`, our own attribute, which must not reach the compiler.
pub(crate) fn is_xero(attribute: &Attribute) -> bool {
    attribute.path().is_ident("xero")
}

/// One option: a name, and the value after its `=`.
struct NamedOption {
    name: Ident,
    value: Option<TokenStream>,
}

/// Reads the options one by one, so that a mistake in one hides none in the next.
fn options_of(tokens: TokenStream, errors: &mut Errors) -> Vec<NamedOption> {
    let mut options: Vec<NamedOption> = Vec::new();
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for words in tokens.split(|token| is_punct(token, ',')).filter(|words| !words.is_empty()) {
        let Some(option) = option_of(words, errors) else { continue };
        if options.iter().any(|earlier| earlier.name == option.name) {
            errors.push(&option.name, format_args!("`{}` is given twice: keep one of them", option.name));
        } else {
            options.push(option);
        }
    }
    options
}

fn option_of(words: &[TokenTree], errors: &mut Errors) -> Option<NamedOption> {
    match words {
        [TokenTree::Ident(name)] => Some(NamedOption { name: name.clone(), value: None }),
        [TokenTree::Ident(name), equals, value @ ..] if is_punct(equals, '=') && !value.is_empty() => {
            Some(NamedOption { name: name.clone(), value: Some(value.iter().cloned().collect()) })
        }
        [TokenTree::Ident(name), rest, ..] => {
            errors.push(rest, format_args!("write `{name}` alone or `{name} = …`, and a comma before the next option"));
            None
        }
        [first, ..] => {
            errors.push(first, "write an option by its name, such as `version = 2` or `idempotent`");
            None
        }
        [] => None,
    }
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn unknown(option: &NamedOption, instead: &str, errors: &mut Errors) {
    errors.push(&option.name, format_args!("unknown option `{}`: {instead}", option.name));
}

fn flag(option: &NamedOption, errors: &mut Errors) -> bool {
    if let Some(value) = &option.value {
        errors.push(value, format_args!("write `{}` without a value", option.name));
    }
    option.value.is_none()
}

fn set_mode(options: &mut MethodOptions, mode: Mode, option: &NamedOption, errors: &mut Errors) {
    if options.mode != Mode::Task {
        let message = "`inline` (never blocks) and `blocking` exclude each other: keep the one that is true";
        errors.push(&option.name, message);
    }
    options.mode = mode;
}

/// The option's value as a string literal.
fn text(option: &NamedOption, example: &str, errors: &mut Errors) -> Option<LitStr> {
    let literal = option.value.clone().and_then(|value| syn::parse2::<LitStr>(value).ok());
    if literal.is_none() {
        errors.push(guilty(option), format_args!("write `{} = \"{example}\"`", option.name));
    }
    literal
}

/// The value if there is one, otherwise the name.
fn guilty(option: &NamedOption) -> TokenStream {
    option.value.clone().unwrap_or_else(|| option.name.to_token_stream())
}

fn service_name(option: &NamedOption, errors: &mut Errors) -> Option<String> {
    let literal = text(option, "Thumbnails", errors)?;
    let name = literal.value();
    if name.is_empty() {
        errors.push(&literal, "a service needs a name: remove the option to use the trait's");
    } else if name.len() > NAME_BYTES_MAX {
        errors.push(&literal, too_long(name.len()));
    }
    Some(name)
}

/// The error text for a name of `length` bytes.
pub(crate) fn too_long(length: usize) -> String {
    format!("a name has at most {NAME_BYTES_MAX} bytes on the wire and this one has {length}: shorten it")
}

/// A name's length travels in one byte.
pub(crate) const NAME_BYTES_MAX: usize = u8::MAX as usize;

fn version(option: &NamedOption, errors: &mut Errors) -> Option<u32> {
    let literal = option.value.clone().and_then(|value| syn::parse2::<LitInt>(value).ok());
    let version = literal.and_then(|literal| literal.base10_parse().ok());
    if version.is_none() {
        errors.push(guilty(option), format_args!("write a number from 0 to {}: `version = 2`", u32::MAX));
    }
    version
}

fn client_name(option: &NamedOption, errors: &mut Errors) -> Option<Ident> {
    let name = option.value.clone().and_then(|value| syn::parse2::<Ident>(value).ok());
    if name.is_none() {
        errors.push(guilty(option), "write the client's name, one word without quotes: `client = ChatSession`");
    }
    name
}

fn crate_path(option: &NamedOption, errors: &mut Errors) -> Option<Path> {
    let path = option.value.clone().and_then(|value| Path::parse_mod_style.parse2(value).ok());
    if path.is_none() {
        errors.push(guilty(option), "write the path of xero without quotes: `crate = my_crate::xero`");
    }
    path
}

fn runtime(path: Option<Path>) -> Runtime {
    let path = path.map_or_else(|| quote!(::xero), |path| path.to_token_stream());
    let private = quote!(#path::__private);
    Runtime { text: without_spaces(&private), nested: nested(private.clone()), private }
}

/// A path as text, for attributes.
pub(crate) fn without_spaces(path: &TokenStream) -> String {
    path.to_string().split_whitespace().collect()
}

/// The same path, seen from an inner module that imports everything around it.
fn nested(path: TokenStream) -> TokenStream {
    let mut tokens = path.clone().into_iter();
    match tokens.next() {
        Some(TokenTree::Ident(first)) if first == "self" => quote!(super #(#tokens)*),
        Some(TokenTree::Ident(first)) if first == "super" => quote!(super::#path),
        _ => path,
    }
}

fn timeout(option: &NamedOption, errors: &mut Errors) -> Option<Duration> {
    let literal = match option.value.clone().map(syn::parse2::<Lit>) {
        Some(Ok(Lit::Str(literal))) => literal,
        _ => {
            errors.push(guilty(option), "write the time as text with its unit: `timeout = \"30s\"`");
            return None;
        }
    };
    duration_of(&literal.value()).map_err(|message| errors.push(&literal, message)).ok()
}

/// Reads `250ms`, `1.5s`, `2m`, `2min` or `1h`.
fn duration_of(text: &str) -> Result<Duration, &'static str> {
    const USAGE: &str = "write a number and its unit, `ms`, `s`, `min` or `h`: `timeout = \"30s\"`";
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(USAGE)?;
    let (number, unit) = text.split_at(unit_at);
    let unit_nanos: u128 = match unit.trim_start() {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(USAGE),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let scale = u32::try_from(fraction.len()).ok().and_then(|digits| 10_u128.checked_pow(digits)).ok_or(USAGE)?;
    // A number with too many digits to parse is also too long for a timeout.
    let whole = whole.parse::<u64>().map_err(|_| USAGE)?;
    let fraction = fraction.parse::<u64>().map_err(|_| USAGE)?;
    let nanos = u128::from(whole) * unit_nanos + u128::from(fraction) * unit_nanos / scale;
    match u64::try_from(nanos) {
        Ok(0) => Err("a timeout is more than zero: write one such as `timeout = \"30s\"`"),
        Ok(nanos) if nanos <= TIMEOUT_NANOS_MAX => Ok(Duration::from_nanos(nanos)),
        _ => Err("a timeout is at most a year: write a shorter one, such as `timeout = \"24h\"`"),
    }
}

/// 365 days: more is a slip of the pen, and adding it to any clock's reading cannot overflow.
const TIMEOUT_NANOS_MAX: u64 = 365 * 24 * 3_600 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_a_number_and_a_unit() {
        let cases = [
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("0.001ms", 1_000),
            ("2m", 120_000_000_000),
            ("2min", 120_000_000_000),
            ("1 h", 3_600_000_000_000),
            ("8760h", TIMEOUT_NANOS_MAX),
        ];
        for (text, nanos) in cases {
            assert_eq!(duration_of(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn other_timeouts_are_refused_and_never_overflow() {
        let long = format!("1.{}s", "9".repeat(60));
        let texts = ["", "s", "30", "30 parsecs", "-1s", "1e3s", ".s", "1.s", ".5s", "1.2.3s", "∞s", "30S", &long];
        for text in texts {
            assert!(duration_of(text).is_err(), "{text}");
        }
        for text in ["0s", "0.0ms", "0.0000000001s"] {
            assert!(duration_of(text).is_err_and(|message| message.contains("more than zero")), "{text}");
        }
        for text in ["8761h", "18446744073709551615h", "18446744073709551615.9999999999999999h"] {
            assert!(duration_of(text).is_err_and(|message| message.contains("at most a year")), "{text}");
        }
    }

    #[test]
    fn every_mistake_of_the_options_is_reported() {
        let mut errors = Errors::default();
        let tokens = quote!(nam = "x", version = "2", version = 3, "four", crate = "xero", name "x", name = 7);
        service(tokens, "Demo".to_owned(), &mut errors);
        assert_eq!(errors.count(), 7, "{errors:?}");
    }
}
