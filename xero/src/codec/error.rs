//! The public error of a value that could not be written or read.

use std::fmt;

use super::{
    arguments,
    fault::{ANOTHER_CODEC, Fault, Reason},
    names,
};
use crate::proto::message::Codec;

/// A value that could not be written, or bytes that are not such a value. The message names the place: an argument, a
/// field, an element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{codec} cannot {action} {subject}{place}: {reason}")]
pub struct CodecError {
    codec: Codec,
    action: Action,
    subject: String,
    /// The place in a call, such as ` in a reply of `Library.shelf``; empty outside of calls.
    place: String,
    reason: String,
}

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Write,
    Read,
}

/// Its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The arguments of a method, as a struct.
    Arguments,
    /// The same as the caller of a method without types gives them.
    Dynamic,
    Value,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

impl CodecError {
    pub(super) fn new(type_name: &str, codec: Codec, action: Action, what: What, fault: Fault) -> Self {
        Self::with_carriers(type_name, codec, action, what, fault, None)
    }

    /// The same where it is known which codecs carry the value.
    pub(super) fn with_carriers(
        type_name: &str,
        codec: Codec,
        action: Action,
        what: What,
        fault: Fault,
        carriers: Option<&Carriers>,
    ) -> Self {
        let subject = subject(what, &fault, || names::readable(type_name));
        Self {
            codec,
            action,
            subject,
            place: String::new(),
            reason: reason(codec, action, what, &fault, &advice(codec, carriers)),
        }
    }

    /// The arguments are already encoded, in another codec.
    pub(crate) fn too_late(codec: Codec) -> Self {
        let reason = "the codec was chosen after the arguments: choose it first".to_owned();
        Self { codec, action: Action::Write, subject: "the arguments".to_owned(), place: String::new(), reason }
    }

    /// Adds the place in a call: the message is `a reply` or the like, the method `Service.method`.
    pub(crate) fn within(self, message: &str, method: impl fmt::Display) -> Self {
        Self { place: format!(" in {message} of `{method}`"), ..self }
    }

    /// The codec that failed.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What is wrong, and the remedy if there is a known one.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The subject of the error in the user's terms: arguments, fields and types.
fn subject(what: What, fault: &Fault, type_name: impl Fn() -> String) -> String {
    let place = fault.place();
    match (what, fault.root()) {
        (What::Arguments | What::Dynamic, Some(argument)) if fault.depth() == 1 => format!("the argument `{argument}`"),
        (What::Arguments | What::Dynamic, Some(argument)) => format!("`{place}` of the argument `{argument}`"),
        (What::Arguments | What::Dynamic, None) => "the arguments".to_owned(),
        (What::Value, _) if place.is_empty() => format!("`{}`", type_name()),
        (What::Value, _) => format!("`{place}` of `{}`", type_name()),
    }
}

/// The codecs that carry a value, among those other than its own.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    codecs: Vec<Codec>,
    /// Why one that writes names does not.
    refusal: Option<String>,
}

impl Carriers {
    pub(super) fn add(&mut self, codec: Codec, what: What, carried: Result<(), Fault>) {
        match carried {
            Ok(()) => self.codecs.push(codec),
            Err(fault) if codec.is_self_describing() => {
                let reason = || format!("{codec}: {}", reason(codec, Action::Write, what, &fault, ""));
                self.refusal.get_or_insert_with(reason);
            }
            Err(_) => {}
        }
    }
}

/// The remedy for a type that a codec cannot carry.
fn advice(codec: Codec, carriers: Option<&Carriers>) -> String {
    let Some(Carriers { codecs, refusal }) = carriers else {
        return match codec.is_self_describing() {
            true => "use another codec for it".to_owned(),
            false => "use MessagePack or JSON for it".to_owned(),
        };
    };
    match (&codecs[..], refusal) {
        ([], Some(refusal)) if !codec.is_self_describing() => format!("no codec of this build carries it ({refusal})"),
        ([], _) => "no codec of this build carries it".to_owned(),
        (codecs, _) => {
            let names: Vec<_> = codecs.iter().map(Codec::to_string).collect();
            format!("use {} for it", names.join(" or "))
        }
    }
}

fn reason(codec: Codec, action: Action, what: What, fault: &Fault, advice: &str) -> String {
    let is_argument = what != What::Value && fault.depth() == 0;
    let noun = if is_argument { "argument" } else { "field" };
    let type_name = || names::without_options(fault.type_name().unwrap_or_else(|| "the type".to_owned()));
    match fault.reason() {
        Reason::NeedsLength { what } => format!(
            "the type `{}` does not give the length of its {what} in advance, like structs with \
             `#[serde(flatten)]`, and {codec} does not mark the end of a {what}: {advice}",
            type_name(),
        ),
        Reason::NeedsNames => {
            format!(
                "the type `{}` needs a self-describing codec, like `serde_json::Value`, enums with \
                 `#[serde(untagged)]` or `#[serde(tag)]`, and structs with `#[serde(flatten)]`, and {codec} is not \
                 one: {advice}",
                type_name(),
            )
        }
        Reason::Missing(name) => format!("the {noun} `{name}` is missing"),
        Reason::Unknown { known: [], .. } if noun == "argument" => arguments::too_many_text(&[]),
        Reason::Unknown { name, known } => format!("there is no {noun} `{name}`; {}", names::known_are(known)),
        Reason::OtherKind { .. } => fault.to_string(),
        Reason::Twice(name) => format!("the {noun} `{name}` is given twice"),
        // The bytes do not name their types, so the library only notices that they do not fit.
        Reason::Library(text) if action == Action::Read && !codec.is_self_describing() => {
            format!("{text} (are both sides built from the same types?)")
        }
        // A self-describing format whose library does not name the expected type.
        Reason::Library(text) if text.starts_with("there is ") => match fault.type_name() {
            Some(type_name) => format!("{text} where `{type_name}` is expected"),
            None => text.clone(),
        },
        Reason::Library(text)
        | Reason::Refused(text)
        | Reason::Rule(text)
        | Reason::UnknownVariant(text)
        | Reason::Length { text, .. } => {
            let separator = match advice {
                "" => "",
                _ if advice.starts_with("use") => ", or ",
                _ => "; ",
            };
            text.replace(ANOTHER_CODEC, &[separator, advice].concat())
        }
    }
}
