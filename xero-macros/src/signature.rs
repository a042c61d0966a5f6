//! A method's readable signature, and its fingerprint.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

use crate::ast::{Argument, ArgumentKind, Method, Output, Presence};

/// The readable signature: `compare(str1: String, str2: String) -> (bool, u8)`.
pub(crate) fn text(method: &Method) -> String {
    let arguments: Vec<String> = method.arguments.iter().map(|a| format!("{}: {}", a.wire_name(), a.text())).collect();
    let call = format!("{}({})", method.wire_name(), arguments.join(", "));
    match &method.output {
        Output::Unit => call,
        output => format!("{call} -> {}", output.text()),
    }
}

/// The hash of a service's version and a method's signature; never 0.
///
/// bincode decodes nearly any bytes as nearly any type, so both sides compare this first (`PROTOCOL.md` §7).
pub(crate) fn fingerprint(service: &str, version: u32, method: &Method) -> u64 {
    fingerprint_of_first(method.arguments.len(), service, version, method)
}

/// The hashes of the same signature before its last arguments, as far as a caller may leave those out.
pub(crate) fn older_fingerprints(service: &str, version: u32, method: &Method) -> Vec<u64> {
    let optional = method.arguments.iter().rev().take_while(|argument| !argument.is_required()).count();
    let all = method.arguments.len();
    let counts = (all - optional..all).rev();
    counts.map(|count| fingerprint_of_first(count, service, version, method)).collect()
}

fn fingerprint_of_first(count: usize, service: &str, version: u32, method: &Method) -> u64 {
    let arguments = method.arguments.iter().take(count);
    let arguments: Vec<String> = arguments.map(|a| format!("{}:{}", a.wire_name(), a.text())).collect();
    let (name, output) = (method.wire_name(), method.output.text());
    let text = format!("{service}@{version}.{name}({})->{output}", arguments.join(","));
    fnv1a(text.bytes().filter(|byte| !byte.is_ascii_whitespace())).max(1)
}

/// FNV-1a, 64 bits: stable across releases and platforms, and simple enough for a peer in any language.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Method {
    /// The name without the `r#` of a raw identifier.
    pub(crate) fn wire_name(&self) -> String {
        plain(&self.signature.ident)
    }
}

impl Argument {
    /// The name without the `r#` of a raw identifier.
    pub(crate) fn wire_name(&self) -> String {
        plain(&self.name)
    }

    fn is_required(&self) -> bool {
        matches!(self.presence, Presence::Required)
    }

    /// The type that a worker decodes: `&str` is a `String`.
    fn text(&self) -> String {
        match &self.kind {
            ArgumentKind::Owned(ty) | ArgumentKind::Borrowed(ty) => type_text(ty),
            ArgumentKind::Text => "String".to_owned(),
            ArgumentKind::Slice(ty) => format!("Vec<{}>", type_text(ty)),
        }
    }
}

impl Output {
    fn text(&self) -> String {
        match self {
            Self::Unit => "()".to_owned(),
            Self::Plain(ty) => type_text(ty),
            Self::Result { value, error } => format!("Result<{}, {}>", type_text(value), type_text(error)),
        }
    }
}

/// An identifier's name without `r#`.
pub(crate) fn plain(ident: &proc_macro2::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

fn type_text(ty: impl ToTokens) -> String {
    let mut text = String::new();
    write(ty.to_token_stream(), &mut text);
    text
}

/// Writes tokens as rustfmt does within a line, so that the layout of the source changes no fingerprint.
fn write(tokens: TokenStream, text: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => write_group(&group, text),
            TokenTree::Punct(punct) => match punct.as_char() {
                ',' if matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '>') => {}
                character @ (',' | ';') => text.extend([character, ' ']),
                character @ ('+' | '=') if punct.spacing() == Spacing::Alone => text.extend([' ', character, ' ']),
                character => text.push(character),
            },
            word => {
                if text.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
}

fn write_group(group: &Group, text: &mut String) {
    let (open, close) = match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::None => ("", ""),
    };
    text.push_str(open);
    write(without_trailing_comma(group.stream()), text);
    text.truncate(text.trim_end().len());
    text.push_str(close);
}

/// `(A, B,)` is `(A, B)`; but `(A,)` is not `(A)`.
fn without_trailing_comma(stream: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut depth = 0_u32;
    let mut commas = 0_u32;
    for token in &tokens {
        if let TokenTree::Punct(punct) = token {
            match punct.as_char() {
                '<' => depth += 1,
                '>' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => commas += 1,
                _ => {}
            }
        }
    }
    if commas > 1 && matches!(tokens.last(), Some(TokenTree::Punct(last)) if last.as_char() == ',') {
        tokens.pop();
    }
    tokens.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(source: &str) -> String {
        type_text(syn::parse_str::<syn::Type>(source).expect("a type"))
    }

    #[test]
    fn types_read_as_people_write_them() {
        let types = [
            "u8",
            "(bool, u8)",
            "(u8,)",
            "()",
            "Result<Vec<u8>, image::Error>",
            "HashMap<String, [u8; 16]>",
            "<Demo as Named>::Output",
            "::std::option::Option<(u8, Vec<(u8, u8)>)>",
        ];
        for source in types {
            assert_eq!(text_of(source), source);
        }
    }

    #[test]
    fn layout_does_not_change_a_type() {
        let pairs = [
            ("Vec < u8 >", "Vec<u8>"),
            ("HashMap<\n    String,\n    Vec<u8>,\n>", "HashMap<String, Vec<u8>>"),
            ("( A < u8 , u8 > , )", "(A<u8, u8>,)"),
            ("(\n    Vec<u8>,\n    u8,\n)", "(Vec<u8>, u8)"),
        ];
        for (source, tidy) in pairs {
            assert_eq!(text_of(source), tidy);
        }
    }

    fn service_of(attribute: &str, method: &str) -> crate::ast::Service {
        let mut errors = crate::errors::Errors::default();
        let tokens = |text: &str| text.parse::<TokenStream>().expect("tokens");
        let item = tokens(&format!("trait Demo {{ {method} }}"));
        let service = crate::parse::service(tokens(attribute), item, &mut errors).expect("a trait");
        assert!(errors.is_empty(), "{errors:?}");
        service
    }

    /// The text and fingerprint of a method.
    fn described(attribute: &str, method: &str) -> (String, u64) {
        let service = service_of(attribute, method);
        (text(&service.methods[0]), fingerprint(&service.options.name, service.options.version, &service.methods[0]))
    }

    #[test]
    fn signatures_show_what_a_worker_decodes() {
        let cases = [
            ("async fn ping(&self);", "ping()"),
            ("async fn ping(&self) -> ();", "ping()"),
            (
                "async fn compare(&self, cx: &Context, str1: &str, str2: &[u8], r#type: &Scene<u8,>) -> (bool,u8);",
                "compare(str1: String, str2: Vec<u8>, type: Scene<u8>) -> (bool, u8)",
            ),
            ("async fn load(&self, key: u8) -> io::Result<u8, Refusal>;", "load(key: u8) -> Result<u8, Refusal>"),
        ];
        for (method, text) in cases {
            assert_eq!(described("", method).0, text);
        }
    }

    #[test]
    fn fingerprints_are_those_that_the_protocol_gives_as_examples() {
        let protocol = include_str!("../../PROTOCOL.md");
        let cases = [
            (
                "Demo@1.compare(str1:String,str2:String)->(bool,u8)",
                "async fn compare(&self, str1: &str, str2: String) -> (bool, u8);",
            ),
            ("Demo@1.ping()->String", "async fn ping(&self) -> String;"),
            (
                "Demo@1.load(key:String,type:Vec<u8>)->Result<(),Refusal>",
                "async fn load(&self, cx: &'_ Context, key: &'_ str, r#type: &'_ [u8]) -> io::Result<(), Refusal>;",
            ),
            ("Demo@1.tag(name:Label<'static>)->()", "async fn tag(&self, name: &Label<'static>);"),
        ];
        for (text, method) in cases {
            let row = format!("| `{text}` | `{:016x}` |", described("", method).1);
            assert!(protocol.contains(&row), "{row}");
        }
    }

    #[test]
    fn fingerprints_differ_only_by_version_names_and_types() {
        let (_, plain) = described("", "async fn put(&self, key: &str, values: Vec<u8>) -> Result<(), E>;");
        let same = [
            ("", "async fn put(&self, key: String, values: &[u8]) -> Result<(), E>;"),
            ("version = 1", "async fn put(&self, key: &str, values: &Vec < u8, >) -> std::result::Result<(), E>;"),
            (
                "",
                "#[xero(idempotent)] async fn put(&self, cx: &Context, key: &String, values: Vec<u8>) -> Result<(), E>;",
            ),
        ];
        for (attribute, method) in same {
            assert_eq!(described(attribute, method).1, plain, "{attribute} {method}");
        }
        let other = [
            ("version = 2", "async fn put(&self, key: &str, values: Vec<u8>) -> Result<(), E>;"),
            ("", "async fn put(&self, values: &str, key: Vec<u8>) -> Result<(), E>;"),
            ("", "async fn set(&self, key: &str, values: Vec<u8>) -> Result<(), E>;"),
            ("", "async fn put(&self, key: &str, values: Vec<u16>) -> Result<(), E>;"),
            ("", "async fn put(&self, values: Vec<u8>, key: &str) -> Result<(), E>;"),
            ("", "async fn put(&self, key: &str, values: Vec<u8>) -> Result<(), F>;"),
            ("", "async fn put(&self, key: &str, values: Vec<u8>);"),
            ("name = \"Other\"", "async fn put(&self, key: &str, values: Vec<u8>) -> Result<(), E>;"),
        ];
        for (attribute, method) in other {
            assert_ne!(described(attribute, method).1, plain, "{attribute} {method}");
        }
    }

    #[test]
    fn older_fingerprints_are_those_of_the_signature_without_its_last_optional_arguments() {
        let method =
            "async fn get(&self, key: u8, #[xero(default)] a: u8, b: Option<u8>, #[xero(default = c)] c: &str);";
        let service = service_of("", method);
        let older = older_fingerprints("Demo", 1, &service.methods[0]);
        let shorter = [
            "async fn get(&self, key: u8, a: u8, b: Option<u8>);",
            "async fn get(&self, key: u8, a: u8);",
            "async fn get(&self, key: u8);",
        ];
        assert_eq!(older, shorter.map(|method| described("", method).1));
        let required = service_of("", "async fn get(&self, a: Option<u8>, key: u8);");
        assert_eq!(older_fingerprints("Demo", 1, &required.methods[0]), [], "the last one is required");
    }

    #[test]
    fn hash_is_the_published_one() {
        assert_eq!(fnv1a("".bytes()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("foobar".bytes()), 0x8594_4171_f739_67e8);
    }
}
