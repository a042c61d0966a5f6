//! Arguments of a call on the command line: JSON, never code.

use std::fmt;

use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::value::RawValue;

/// The arguments of a call, each as written, so that numbers stay exact.
#[derive(Clone, Debug)]
pub enum Arguments {
    /// By position.
    Positional(Vec<Box<RawValue>>),
    /// By name.
    Named(Vec<(String, Box<RawValue>)>),
}

impl Arguments {
    /// No arguments.
    pub const NONE: Self = Self::Positional(Vec::new());

    /// Reads JSON values with commas between them, such as `"apple", 5`.
    ///
    /// A text that is one JSON array is treated as the list of the arguments, so write a single array argument as `[[1,
    /// 2]]`.
    ///
    /// # Errors
    /// When the text has another form; the error shows where.
    pub fn positional(text: &str) -> Result<Self, ArgumentsError> {
        Reader::new(text, '[', ']', "a list of arguments").list().map(Self::Positional)
    }

    /// Reads names and JSON values, such as `"str1": "apple", "str2": "orange"`, with or without braces around them.
    ///
    /// # Errors
    /// When the text has another form, or repeats a name; the error shows where.
    pub fn named(text: &str) -> Result<Self, ArgumentsError> {
        Reader::new(text, '{', '}', "named arguments").map().map(Self::Named)
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Positional(values) => {
                let mut sequence = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| sequence.serialize_element(value))?;
                sequence.end()
            }
            Self::Named(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

/// A mistake in written arguments, shown with a caret under the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentsError {
    reason: String,
    /// The line with the mistake, because a text may have several lines.
    line: String,
    line_number: usize,
    /// Counted in characters, from 1.
    column: usize,
}

impl ArgumentsError {
    fn new(text: &str, offset: usize, reason: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |index| index + 1);
        let line = text[line_start..].split('\n').next().unwrap_or_default();
        Self {
            reason: reason.into(),
            line: line.trim_end_matches('\r').to_owned(),
            line_number: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The position of the mistake in its line, in characters, from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    fn place(&self) -> (usize, usize) {
        (self.line_number, self.column)
    }
}

impl fmt::Display for ArgumentsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at character {}", self.reason, self.column)?;
        if self.line_number > 1 {
            write!(f, " of line {}", self.line_number)?;
        }
        let skipped = (self.column - 1).saturating_sub(SHOWN_AROUND);
        let shown = self.line.chars().skip(skipped).take(2 * SHOWN_AROUND);
        let shown: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "\n  {shown}\n  {:>caret$}", '^', caret = self.column - skipped)
    }
}

impl std::error::Error for ArgumentsError {}

/// Characters of a long line that are shown on each side of a mistake.
const SHOWN_AROUND: usize = 60;

/// Values and the characters between them; serde_json reads the values.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    open: char,
    close: char,
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, open: char, close: char, what: &'static str) -> Self {
        Self { text, at: 0, open, close, what }
    }

    /// The list of arguments if the whole text is one array: `[1], [2]` also begins with a bracket.
    fn list(self) -> Result<Vec<Box<RawValue>>, ArgumentsError> {
        let read = |enclosed| Self { ..self }.items(enclosed, Self::value);
        if !self.text.trim_start().starts_with(self.open) {
            return read(false);
        }
        // If both readings fail, the one that gets further was meant.
        read(true).or_else(|enclosed| {
            read(false).map_err(|bare| if bare.place() > enclosed.place() { bare } else { enclosed })
        })
    }

    fn map(mut self) -> Result<Vec<(String, Box<RawValue>)>, ArgumentsError> {
        let enclosed = self.text.trim_start().starts_with(self.open);
        let mut names = std::collections::BTreeSet::new();
        self.items(enclosed, |reader| {
            let (start, name) = reader.name()?;
            if !names.insert(name.clone()) {
                return Err(reader.error(start, format!("the name `{name}` is given twice,")));
            }
            reader.expect(':', "expected `:` and a value after the name")?;
            Ok((name, reader.value()?))
        })
    }

    /// Reads items with commas between them, and the closing bracket if they are enclosed.
    fn items<T>(
        &mut self,
        enclosed: bool,
        mut item: impl FnMut(&mut Self) -> Result<T, ArgumentsError>,
    ) -> Result<Vec<T>, ArgumentsError> {
        if enclosed {
            self.skip_space();
            self.at += self.open.len_utf8();
        }
        let end = enclosed.then_some(self.close);
        let mut items = Vec::new();
        while !(items.is_empty() && self.peek() == end) {
            items.push(item(self)?);
            if self.peek() == end {
                break;
            }
            let what = if enclosed { format!("`{}`", self.close) } else { "the end".to_owned() };
            self.expect(',', &format!("expected `,` or {what}"))?;
        }
        if enclosed {
            self.at += self.close.len_utf8();
            if self.peek().is_some() {
                return Err(self.error(self.at, format!("unexpected text after {}", self.what)));
            }
        }
        Ok(items)
    }

    fn name(&mut self) -> Result<(usize, String), ArgumentsError> {
        if self.peek() != Some('"') {
            return Err(self.error(self.at, "expected a name in double quotes"));
        }
        let start = self.at;
        let raw = self.value()?;
        let name = serde_json::from_str(raw.get());
        name.map(|name| (start, name)).map_err(|error| self.error(start, reason(&error)))
    }

    fn value(&mut self) -> Result<Box<RawValue>, ArgumentsError> {
        if self.peek().is_none() {
            return Err(self.error(self.at, "expected a value"));
        }
        let rest = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Box<RawValue>>();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) => Err(self.error(self.at + offset(rest, &error), reason(&error))),
            None => Err(self.error(self.at, "expected a value")),
        }
    }

    fn expect(&mut self, wanted: char, reason: &str) -> Result<(), ArgumentsError> {
        match self.peek() {
            Some(found) if found == wanted => {
                self.at += wanted.len_utf8();
                Ok(())
            }
            _ => Err(self.error(self.at, reason)),
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn error(&self, offset: usize, reason: impl Into<String>) -> ArgumentsError {
        ArgumentsError::new(self.text, offset, reason)
    }
}

/// serde_json's message without its position, which counts from the value's start.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

/// serde_json's line and column, in bytes from the start of the text.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let past = if error.is_eof() { error.column() } else { error.column().saturating_sub(1) };
    let mut offset = (line_start + past).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positional(text: &str) -> String {
        let arguments = Arguments::positional(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        serde_json::to_string(&arguments).expect("is JSON")
    }

    fn named(text: &str) -> String {
        let arguments = Arguments::named(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        serde_json::to_string(&arguments).expect("is JSON")
    }

    fn positional_error(text: &str) -> String {
        Arguments::positional(text).expect_err(text).to_string()
    }

    fn named_error(text: &str) -> String {
        Arguments::named(text).expect_err(text).to_string()
    }

    #[test]
    fn positional_arguments_need_no_brackets() {
        for text in [r#""apple", "orange""#, r#"["apple", "orange"]"#, r#" [ "apple" ,"orange" ] "#] {
            assert_eq!(positional(text), r#"["apple","orange"]"#);
        }
        assert_eq!(positional("5"), "[5]");
        assert_eq!(positional("-5"), "[-5]");
        assert_eq!(positional("null, true"), "[null,true]");
        assert_eq!(positional(""), "[]");
        assert_eq!(positional(" [ ] "), "[]");
    }

    #[test]
    fn arrays_can_be_arguments() {
        assert_eq!(positional("[1], [2]"), "[[1],[2]]");
        assert_eq!(positional("[[1, 2]]"), "[[1, 2]]");
        assert_eq!(positional("[1, 2], 3"), "[[1, 2],3]");
        assert_eq!(positional(r#"{"a": [1]}"#), r#"[{"a": [1]}]"#);
    }

    #[test]
    fn mistake_in_the_second_of_two_arrays_is_shown_there() {
        assert_eq!(Arguments::positional("[1], [2 3]").expect_err("is refused").column(), 9);
    }

    #[test]
    fn named_arguments_need_no_braces() {
        for text in [r#""str1":"apple", "str2":"orange""#, r#" {"str1":"apple","str2": "orange"} "#] {
            assert_eq!(named(text), r#"{"str1":"apple","str2":"orange"}"#);
        }
        assert_eq!(named(""), "{}");
        assert_eq!(named("{}"), "{}");
    }

    #[test]
    fn numbers_stay_exact() {
        let numbers = "[18446744073709551616,0.1000000000000000055511151231257827,1e400,-0.0]";
        assert_eq!(positional(numbers), numbers);
    }

    #[test]
    fn mistakes_are_shown_with_their_position() {
        assert_eq!(
            positional_error(r#""apple" "orange""#),
            "expected `,` or the end at character 9\n  \"apple\" \"orange\"\n          ^"
        );
        assert_eq!(positional_error(r#"["a" "b"]"#), "expected `,` or `]` at character 6\n  [\"a\" \"b\"]\n       ^");
        assert_eq!(positional_error("apple"), "expected value at character 1\n  apple\n  ^");
        assert_eq!(positional_error("1, ,2"), "expected value at character 4\n  1, ,2\n     ^");
        assert_eq!(named_error("str1: 1"), "expected a name in double quotes at character 1\n  str1: 1\n  ^");
        assert_eq!(
            named_error(r#""a" 1"#),
            "expected `:` and a value after the name at character 5\n  \"a\" 1\n      ^"
        );
    }

    #[test]
    fn position_of_what_is_missing_is_the_end() {
        assert_eq!(positional_error("1,"), "expected a value at character 3\n  1,\n    ^");
        assert_eq!(Arguments::positional(r#"["a", "b""#).expect_err("is open").column(), 10);
        assert_eq!(Arguments::positional(r#""apple"]"#).expect_err("was not opened").column(), 8);
        assert_eq!(Arguments::named(r#"{"a": 1}}"#).expect_err("is closed twice").column(), 9);
        assert!(positional_error(r#""abc"#).starts_with("EOF while parsing a string at character 5\n"));
    }

    #[test]
    fn positions_count_characters_and_lines() {
        let error = Arguments::positional("\"ä\",\n  \"ö\" x").expect_err("is refused");
        assert_eq!(error.to_string(), "expected `,` or the end at character 7 of line 2\n    \"ö\" x\n        ^");
    }

    #[test]
    fn repeated_name_is_a_mistake() {
        assert!(named_error(r#""a": 1, "a": 2"#).starts_with("the name `a` is given twice, at character 9\n"));
    }

    #[test]
    fn long_line_is_shown_around_the_mistake_only() {
        let error = positional_error(&format!("\"{}\" x", "a".repeat(10_000)));
        assert!(error.lines().all(|line| line.chars().count() <= 130), "{error}");
        let mut lines = error.lines().skip(1);
        let (text, caret) = (lines.next().expect("text"), lines.next().expect("caret"));
        assert_eq!(text.chars().nth(caret.chars().count() - 1), Some('x'));
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let _ = Arguments::positional(&"[".repeat(1_000_000));
        let _ = Arguments::named(&"{\"a\":".repeat(1_000_000));
    }
}
