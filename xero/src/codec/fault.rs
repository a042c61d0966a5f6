//! Why a value and its bytes do not fit: the reason, the field, and the type.

use std::{
    any,
    fmt::{self, Display},
};

use serde::{de, ser};

use super::names::{self, Named};

/// The result with another fault. `Result::map_err` would be compiled anew, with its closure, for each type that a
/// program writes or reads.
macro_rules! or_fault {
    ($result:expr, $fault:ident => $change:expr) => {
        match $result {
            Ok(value) => Ok(value),
            Err($fault) => Err($change),
        }
    };
}
pub(super) use or_fault;

/// Stands after the remedy in the text of a rule for the codecs that carry the value.
pub(super) const ANOTHER_CODEC: &str = "{another codec}";

/// Why a value could not be written or read. It collects the place on its way out.
#[derive(Debug)]
pub(super) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: Reason,
    /// From the inside out.
    trail: Vec<Step>,
    /// The innermost type that was written or read.
    type_name: Option<&'static str>,
    /// The innermost struct, enum or variant around it of which a piece was read.
    within: Option<Named>,
}

/// The reason.
#[derive(Debug)]
pub(super) enum Reason {
    /// The format or the type refuses bytes or a value; in its library's words.
    Library(String),
    /// The type refuses a value that it has read; in its own words.
    Refused(String),
    /// A rule of ours, which names the remedy.
    Rule(String),
    /// The type needs a self-describing codec.
    NeedsNames,
    /// The length of a list or map is not known in advance.
    NeedsLength { what: &'static str },
    /// A field without a default is missing.
    Missing(String),
    /// There is no such field.
    Unknown { name: String, known: &'static [&'static str] },
    /// There is no such variant.
    UnknownVariant(String),
    /// The reader expects another kind of piece than was written.
    OtherKind { written: Option<&'static str>, read: &'static str },
    /// A field is given twice.
    Twice(&'static str),
    /// The value has more or fewer parts than its type.
    Length { length: usize, text: String },
}

/// One step from a value into one of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Field(&'static str),
    Index(usize),
}

impl Fault {
    pub(super) fn new(reason: Reason) -> Self {
        Self(Box::new(Inner { reason, trail: Vec::new(), type_name: None, within: None }))
    }

    pub(super) fn rule(text: impl Into<String>) -> Self {
        Self::new(Reason::Rule(text.into()))
    }

    pub(super) fn library(error: impl Display) -> Self {
        Self::new(Reason::Library(error.to_string()))
    }

    /// Adds a step to the place of the fault.
    pub(super) fn at(mut self, step: Step) -> Self {
        self.0.trail.push(step);
        self
    }

    /// Adds the type that was written or read. The first, innermost one stays. Types of generated code are skipped.
    pub(super) fn of_type<T: ?Sized>(self) -> Self {
        self.of_named(any::type_name::<T>())
    }

    fn of_named(mut self, name: &'static str) -> Self {
        if self.0.type_name.is_none() && !is_generated(name) {
            self.0.type_name = Some(name);
        }
        self
    }

    /// Adds the struct, enum or variant whose two halves differ. The first, innermost one stays.
    pub(super) fn within(mut self, of: Named) -> Self {
        self.0.within.get_or_insert(of);
        self
    }

    /// The innermost struct, enum or variant around it.
    pub(super) fn blamed(&self) -> Option<Named> {
        self.0.within
    }

    /// Whether its text names the codecs that carry the value.
    pub(super) fn asks_for_another_codec(&self) -> bool {
        match &self.0.reason {
            Reason::Library(text) | Reason::Rule(text) => text.contains(ANOTHER_CODEC),
            Reason::NeedsNames | Reason::NeedsLength { .. } => true,
            _ => false,
        }
    }

    pub(super) fn reason(&self) -> &Reason {
        &self.0.reason
    }

    pub(super) fn map_reason(mut self, change: impl FnOnce(Reason) -> Reason) -> Self {
        let reason = std::mem::replace(&mut self.0.reason, Reason::NeedsNames);
        self.0.reason = change(reason);
        self
    }

    /// The innermost type, in readable form.
    pub(super) fn type_name(&self) -> Option<String> {
        self.0.type_name.map(names::readable)
    }

    /// The name of the outermost field; for arguments, this is the argument's name.
    pub(super) fn root(&self) -> Option<&'static str> {
        match self.0.trail.last() {
            Some(Step::Field(name)) => Some(name),
            _ => None,
        }
    }

    /// The number of steps to the place.
    pub(super) fn depth(&self) -> usize {
        self.0.trail.len()
    }

    /// The steps in readable form, `jobs[3].name`; empty for the value itself.
    pub(super) fn place(&self) -> String {
        let (mut text, steps) = (String::new(), self.0.trail.len());
        for (index, step) in self.0.trail.iter().rev().enumerate() {
            match step {
                _ if steps > STEPS_SHOWN && index == STEPS_SHOWN - 1 => text.push('…'),
                _ if steps > STEPS_SHOWN && (STEPS_SHOWN - 1..steps - 1).contains(&index) => {}
                Step::Field(name) if text.is_empty() => text.push_str(name),
                Step::Field(name) => text.extend([".", name]),
                Step::Index(index) => text.extend(["[", &index.to_string(), "]"]),
            }
        }
        text
    }
}

/// Whether a type belongs to generated code, or to the buffers of serde and `serde_with`.
fn is_generated(name: &str) -> bool {
    name.contains("::__") || name.starts_with("serde") && name.contains("Content<")
}

/// The most steps of a place that are shown: the first ones, and the last.
const STEPS_SHOWN: usize = 8;

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.reason {
            Reason::Library(text) | Reason::Refused(text) | Reason::Rule(text) => f.write_str(text),
            Reason::NeedsLength { what } => write!(f, "the length of a {what} is not known in advance"),
            Reason::NeedsNames => f.write_str("it needs a self-describing codec"),
            Reason::Missing(field) => write!(f, "the field `{field}` is missing"),
            Reason::Unknown { name, known } => write!(f, "there is no field `{name}`; {}", names::known_are(known)),
            Reason::UnknownVariant(text) => f.write_str(text),
            Reason::OtherKind { written, read } => {
                let of = self.0.within.map_or("it".to_owned(), |of| format!("a part of {of}"));
                write!(f, "{of} is written as {} and read as {read}", written.unwrap_or("nothing"))
            }
            Reason::Twice(field) => write!(f, "the field `{field}` is given twice"),
            Reason::Length { text, .. } => f.write_str(text),
        }
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::library(message)
    }
}

impl de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(Reason::Refused(message.to_string()))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::library(format_args!("invalid value: {found}, expected {expected}"))
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        Self::new(Reason::Length { length, text: format!("invalid length {length}, expected {expected}") })
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        match found {
            de::Unexpected::Unit => Self::library(format_args!("invalid type: null, expected {expected}")),
            found => Self::library(format_args!("invalid type: {found}, expected {expected}")),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let known = names::known_are(expected);
        Self::new(Reason::UnknownVariant(format!("there is no variant `{variant}`; {known}")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Reason::Missing(field.to_owned()))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Reason::Unknown { name: field.to_owned(), known: expected })
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Reason::Twice(field))
    }
}
