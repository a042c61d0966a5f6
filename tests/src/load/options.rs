//! Command-line options of the form `--name value`.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

/// Options that have not been read yet.
#[derive(Debug)]
pub struct Options {
    values: BTreeMap<String, String>,
    /// What is no option.
    pub rest: Vec<String>,
}

impl Options {
    /// Reads arguments; only options that take no value may be given without one.
    ///
    /// # Errors
    /// When an option lacks its value.
    pub fn read(arguments: impl Iterator<Item = String>, flags: &[&str]) -> Result<Self, String> {
        let mut arguments = arguments.peekable();
        let (mut values, mut rest) = (BTreeMap::new(), Vec::new());
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                rest.push(argument);
                continue;
            };
            let value = match flags.contains(&name) {
                true => Some(String::new()),
                false => arguments.next(),
            };
            values.insert(name.to_owned(), value.ok_or(format!("{argument} needs a value"))?);
        }
        Ok(Self { values, rest })
    }

    /// Takes an option's value, if it was given.
    ///
    /// # Errors
    /// When the value is not of this kind.
    pub fn take<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, String> {
        let value = self.values.remove(name);
        value.map(|value| value.parse().map_err(|error| format!("--{name} {value}: {error}"))).transpose()
    }

    /// Takes an option that has no value: whether it was given.
    pub fn take_flag(&mut self, name: &str) -> bool {
        self.values.remove(name).is_some()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When an option is left over that nobody knows.
    pub fn end(self) -> Result<Vec<String>, String> {
        match self.values.first_key_value() {
            Some((name, _)) => Err(format!("--{name} is no option")),
            None => Ok(self.rest),
        }
    }
}
