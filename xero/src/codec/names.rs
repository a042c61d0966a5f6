//! Names of types in readable form.

use std::fmt;

/// The name of a struct or variant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    Struct(&'static str),
    /// A variant of an enum.
    Variant(&'static str, &'static str),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Struct(name) => write!(f, "`{name}`"),
            Self::Variant(variant, name) => write!(f, "`{variant}` of `{name}`"),
        }
    }
}

/// A type's name without its modules: the last word for types of the standard library, with the crate for others.
/// Wrappers of generated code are left out.
pub(super) fn readable(name: &str) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some(length) = rest.find(|c: char| !is_part_of_a_path(c)).or((!rest.is_empty()).then_some(rest.len())) {
        let (path, after) = rest.split_at(length);
        if let Some(inside) = unwrapped(path, after) {
            text.push_str(&readable(inside.0));
            rest = inside.1;
            continue;
        }
        text.push_str(&short(path));
        let separator = after.chars().next().map_or(0, char::len_utf8);
        text.push_str(&after[..separator]);
        rest = &after[separator..];
    }
    text
}

/// The type inside options; statements about the option hold for it.
pub(super) fn without_options(name: String) -> String {
    let name = name.strip_prefix('&').map(str::to_owned).unwrap_or(name);
    match name.strip_prefix("Option<").and_then(|inner| inner.strip_suffix('>')) {
        Some(inner) => without_options(inner.to_owned()),
        None => name,
    }
}

/// The known fields, as a clause.
pub(super) fn known_are(known: &[&str]) -> String {
    match known {
        [] => "there are none".to_owned(),
        [one] => format!("there is `{one}`"),
        _ => format!("there are `{}`", known.join("`, `")),
    }
}

fn is_part_of_a_path(c: char) -> bool {
    c.is_alphanumeric() || ['_', ':', '{', '}', '#'].contains(&c)
}

/// `alloc::vec::Vec` is `Vec`, `my_app::jobs::Job` is `my_app::Job`.
fn short(path: &str) -> String {
    match path.rsplit_once("::") {
        None => path.to_owned(),
        Some((modules, name)) => match modules.split("::").next() {
            None | Some("" | "alloc" | "core" | "std") => name.to_owned(),
            Some(root) => format!("{root}::{name}"),
        },
    }
}

/// The last type parameter of one of our wrappers, and the rest of the name.
fn unwrapped<'a>(path: &str, after: &'a str) -> Option<(&'a str, &'a str)> {
    let is_wrapper = path.starts_with(concat!(env!("CARGO_PKG_NAME"), "::wire::")) && after.starts_with('<');
    if !is_wrapper {
        return None;
    }
    let (mut depth, mut start) = (0_usize, 1);
    for (index, c) in after.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            ',' if depth == 1 => start = index + 1,
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return Some((after[start..index].trim(), &after[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_as_people_write_them() {
        let cases = [
            ("u64", "u64"),
            ("alloc::vec::Vec<alloc::string::String>", "Vec<String>"),
            ("core::option::Option<my_app::jobs::Job>", "Option<my_app::Job>"),
            ("(bool, [serde_json::value::Value; 3])", "(bool, [serde_json::Value; 3])"),
            ("&[u8]", "&[u8]"),
            (
                "xero::wire::Own<xero::wire::Opt<xero::wire::Blob>, core::option::Option<bytes::bytes::Bytes>>",
                "Option<bytes::Bytes>",
            ),
            ("(xero::wire::Own<(A, B), (u8, u16)>, u8)", "((u8, u16), u8)"),
            ("", ""),
        ];
        for (name, expected) in cases {
            assert_eq!(readable(name), expected);
        }
    }
}
