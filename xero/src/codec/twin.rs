//! The first value of each form of its types is read back before it leaves.
//!
//! serde's two halves of a type need not agree: `#[serde(skip)]` on a variant makes its reader count the later variants
//! differently, `#[serde(skip_serializing)]` leaves out a field that the reader expects. A self-describing format
//! carries that, or fails. Another one would silently deliver a different value. So the written bytes are read as the
//! receiver would read them, and compared with the writer's notes: the kinds of pieces, and the names of fields.
//! Variants are read once by number and once by name, which must choose the same.

use std::{
    any::TypeId,
    collections::HashMap,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{PoisonError, RwLock},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::What,
    fault::{Fault, Reason},
    format::Format,
    names,
    notes::{Mark, Notes},
    observed::Forms,
    read::{Reading, Seed},
    steps::{ByName, Steps},
    write,
};

/// The forms that have been read back, of each type and format: as many as a program's types have, up to a limit.
static KNOWN: RwLock<Option<HashMap<(TypeId, TypeId), Forms>>> = RwLock::new(None);

/// The most remembered forms of one type. Derived code has a few for each type within it; hand-written code may have
/// any number, such as one for each set of fields. Other forms are read back each time.
const FORMS_MAX: usize = 16_384;

/// Checks that a value of these forms can be read as an `O`.
pub(super) fn check<F, O, T>(value: &T, what: What, forms: Forms) -> Result<(), Fault>
where
    F: Format + 'static,
    O: Serialize + DeserializeOwned + 'static,
    T: Serialize + ?Sized,
{
    let key = (TypeId::of::<O>(), TypeId::of::<F>());
    if is_known(key, &forms) {
        return Ok(());
    }
    // The reader's half is code that a sender does not expect to run.
    let notes = catch_unwind(AssertUnwindSafe(|| read_back::<F, O, T>(value, what)));
    let notes = notes.unwrap_or_else(|_| {
        Err(Fault::rule("a `Serialize`, `Deserialize` or `Drop` panicked while the value was read back"))
    })?;
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    remember(known.get_or_insert_default().entry(key).or_default(), notes.without_changing(forms));
    Ok(())
}

fn remember(known: &mut Forms, forms: impl Iterator<Item = u64>) {
    let room = FORMS_MAX.saturating_sub(known.len());
    let new: Vec<_> = forms.filter(|form| !known.contains(form)).take(room).collect();
    known.extend(new);
}

fn is_known(key: (TypeId, TypeId), forms: &Forms) -> bool {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.as_ref().and_then(|known| known.get(&key)).is_some_and(|known| forms.is_subset(known))
}

/// Returns the notes of the writing.
pub(super) fn read_back<F, O, T>(value: &T, what: What) -> Result<Notes, Fault>
where
    F: Format,
    O: Serialize + DeserializeOwned,
    T: Serialize + ?Sized,
{
    let mut notes = Notes::default();
    let (bytes, _) = write::<F, T>(value, what, Some(&mut notes))?;
    let by_number = Steps::new(&notes, ByName::None);
    let read_by_number = read::<F, O>(&bytes, what, &by_number);
    if !notes.has_variants() {
        return read_by_number.map(|_| notes);
    }
    let by_name = Steps::new(&notes, ByName::All);
    let read_by_name = read::<F, O>(&bytes, what, &by_name);
    for (index, mark) in by_number.differences(&by_name) {
        let read_in_part = read::<F, O>(&bytes, what, &Steps::new(&notes, ByName::One(index)));
        match (&read_by_number, read_in_part) {
            (Ok(by_number), Ok(in_part)) if are_written_alike::<F, O>(by_number, &in_part, what) => {}
            _ => return Err(another_variant(mark)),
        }
    }
    match (read_by_number, read_by_name) {
        (Ok(_), Ok(_)) => Ok(()),
        (Err(fault), Ok(_)) => Err(numbered_differently(fault)),
        (Err(fault), Err(_)) => Err(fault),
        (Ok(_), Err(fault)) => match fault.reason() {
            Reason::UnknownVariant(_) => Err(fault.map_reason(|reason| Reason::Rule(renamed(&reason)))),
            // A hand-written reader may know its variants only by number; then there is nothing to compare.
            _ => Ok(()),
        },
    }
    .map(|()| notes)
}

/// Whether two values are equal except for the order of unordered parts, such as the entries of a `HashMap`. A reader
/// that distinguishes names from numbers still returns the same value.
fn are_written_alike<F: Format, O: Serialize>(one: &O, other: &O, what: What) -> bool {
    let sorted = |value| {
        let mut bytes = write::<F, O>(value, what, None).ok()?.0;
        bytes.sort_unstable();
        Some(bytes)
    };
    sorted(one).is_some_and(|one| sorted(other) == Some(one))
}

fn read<F: Format, O: DeserializeOwned>(bytes: &[u8], what: What, steps: &Steps<'_>) -> Result<O, Fault> {
    let reading = Reading::new(F::TRAITS, what).beside(steps);
    let seed = Seed { inner: PhantomData::<O>, reading: &reading };
    let read = F::read(seed, bytes).map_err(|error| reading.recover(error));
    // The differing fields explain more than the error that they caused.
    steps.check_fields().and(read.map_err(cannot_read_back::<F>))
}

fn cannot_read_back<F: Format>(fault: Fault) -> Fault {
    let type_name = fault.type_name().unwrap_or_else(|| "the value".to_owned());
    let type_name = names::without_options(type_name);
    let instead = match F::TRAITS.is_self_describing {
        true => "use another codec for it",
        false => "use MessagePack or JSON for it",
    };
    fault.map_reason(|reason| match reason {
        Reason::Rule(_) | Reason::NeedsNames => reason,
        Reason::Missing(field) if F::TRAITS.is_self_describing => Reason::Rule(format!(
            "`{type_name}` cannot be read back from what it writes (the field `{field}` is missing): give the field \
             `#[serde(default)]` if it is left out on purpose, or else write it always, under the name that is read"
        )),
        Reason::OtherKind { .. } => Reason::Rule(format!(
            "{}: the `Serialize` and `Deserialize` of a type around it disagree, as with `#[serde(skip_serializing)]` or \
             with `into` and `from` of different types; {instead}",
            Fault::new(reason)
        )),
        // With names, the library's text already says this.
        Reason::UnknownVariant(_) if !F::TRAITS.is_self_describing => reason,
        Reason::UnknownVariant(_) => Reason::Rule(renamed(&reason)),
        other => Reason::Rule(format!(
            "`{type_name}` cannot be read back from what it writes ({}): its `Serialize` and `Deserialize` disagree in this \
             codec, as with `#[serde(skip_serializing)]`; {instead}",
            Fault::new(other)
        )),
    })
}

fn another_variant(mark: &Mark) -> Fault {
    mark.blame(Fault::rule(format!(
        "the variant `{}` of `{}` would arrive as another one: {SKIPPED_VARIANT}",
        mark.variant.unwrap_or_default(),
        mark.name,
    )))
}

/// The error for a name that its reader does not know.
fn renamed(reason: &Reason) -> String {
    let unknown = if let Reason::UnknownVariant(text) = reason { text } else { "it is unknown" };
    format!(
        "a variant has another name for its reader, or none, so that another one would arrive ({unknown}): give it one name \
         for both sides, and skip it on both or on neither"
    )
}

/// The error for a variant whose name and number disagree.
fn numbered_differently(fault: Fault) -> Fault {
    let type_name = fault.type_name().unwrap_or_else(|| "an enum".to_owned());
    fault.map_reason(|_| {
        Reason::Rule(format!("a variant of `{type_name}` would arrive as another one: {SKIPPED_VARIANT}"))
    })
}

const SKIPPED_VARIANT: &str = "its reader counts variants differently, as after one with `#[serde(skip)]`; use MessagePack \
                               or JSON for it, or put skipped variants last";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_kept_up_to_a_number() {
        let mut known = Forms::default();
        for form in 0..2 * FORMS_MAX as u64 {
            remember(&mut known, [form, 1].into_iter());
        }
        assert_eq!(known.len(), FORMS_MAX);
        assert!(known.contains(&0) && known.contains(&(FORMS_MAX as u64 - 1)));
    }
}
