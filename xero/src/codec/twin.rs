//! The first value of each form of its types is read back before it leaves.
//!
//! serde's two halves of a type need not agree: `#[serde(skip)]` on a variant makes its reader count the later variants
//! differently, `#[serde(skip_serializing)]` leaves out a field that the reader expects. A self-describing format
//! carries that, or fails. Another one would silently deliver a different value. So the written bytes are read as the
//! receiver would read them, and compared with the writer's notes: the kinds of pieces, and the names of fields.
//! Variants are read once by number and once by name, which must choose the same.

use std::{
    any::TypeId,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{PoisonError, RwLock},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::What,
    fault::{ANOTHER_CODEC, Fault, Reason},
    format::{Format, Traits},
    names,
    notes::Mark,
    observed::Forms,
    read::{Reading, Seed},
    state::{DEPTH_MAX, may_be_too_deep},
    steps::{ByName, Steps},
    write,
    write::{Observed, Writing},
};
use crate::proto::ids::IdMap;

/// What has been read back of each type and format: as many forms as a program's types have, up to a limit.
static KNOWN: RwLock<Option<IdMap<(TypeId, TypeId), Known>>> = RwLock::new(None);

/// What has been read back of one type.
#[derive(Debug, Default)]
struct Known {
    forms: Forms,
    /// The most stack that reading took for one level.
    level_bytes: usize,
    /// Whether reading has counted more compounds than writing, so that it may nest up to twice as deep.
    is_deeper: bool,
}

/// The most remembered forms of one type. Derived code has a few for each place within it; hand-written code may have
/// any number, such as one for each set of fields. Other forms are read back each time.
const FORMS_MAX: usize = 65_536;

/// A type's two halves in a format, with a value to send. Behind a `dyn`, so that the checks are compiled once.
trait Halves {
    fn traits(&self) -> &'static Traits;

    /// Writes the value. Returns its bytes, and what was noted of it.
    fn write(&self) -> Result<(Vec<u8>, Writing), Fault>;

    /// Reads the value back, and returns the cost of that.
    fn read(&self, bytes: &[u8], steps: Option<&Steps<'_>>) -> (Result<Box<dyn ReadValue>, Fault>, Cost);
}

/// A value that was read back.
trait ReadValue {
    /// Writes it again.
    fn write(&self) -> Result<Vec<u8>, Fault>;
}

/// A value in the format `F`, which its receiver reads as an `O`.
struct Sent<'v, F, O, T: ?Sized> {
    value: &'v T,
    what: What,
    format: PhantomData<F>,
    half: PhantomData<fn() -> O>,
}

impl<'v, F, O, T: ?Sized> Sent<'v, F, O, T> {
    fn new(value: &'v T, what: What) -> Self {
        Self { value, what, format: PhantomData, half: PhantomData }
    }
}

impl<F, O, T> Halves for Sent<'_, F, O, T>
where
    F: Format + 'static,
    O: Serialize + DeserializeOwned + 'static,
    T: Serialize + ?Sized,
{
    fn traits(&self) -> &'static Traits {
        &F::TRAITS
    }

    fn write(&self) -> Result<(Vec<u8>, Writing), Fault> {
        let writing = Writing::new(F::TRAITS, self.what, true);
        match write::<F, T>(self.value, &writing, Vec::new()) {
            Ok(bytes) => Ok((bytes, writing)),
            Err(fault) => Err(fault),
        }
    }

    fn read(&self, bytes: &[u8], steps: Option<&Steps<'_>>) -> (Result<Box<dyn ReadValue>, Fault>, Cost) {
        let reading = Reading::new(F::TRAITS, self.what).beside(steps);
        let seed = Seed { inner: PhantomData::<O>, reading: &reading };
        let read: Result<Box<dyn ReadValue>, Fault> = match F::read(seed, bytes) {
            Ok(value) => Ok(Box::new(Read::<F, O> { value, what: self.what, format: PhantomData })),
            Err(error) => Err(reading.recover(error)),
        };
        (read, Cost { level_bytes: reading.level_bytes_max(), compounds: reading.compounds() })
    }
}

struct Read<F, O> {
    value: O,
    what: What,
    format: PhantomData<F>,
}

impl<F: Format, O: Serialize> ReadValue for Read<F, O> {
    fn write(&self) -> Result<Vec<u8>, Fault> {
        write::<F, O>(&self.value, &Writing::new(F::TRAITS, self.what, false), Vec::new())
    }
}

/// Checks that the value can be read as an `O`.
pub(super) fn check<F, O, T>(value: &T, what: What, observed: &Observed<'_>) -> Result<(), Fault>
where
    F: Format + 'static,
    O: Serialize + DeserializeOwned + 'static,
    T: Serialize + ?Sized,
{
    check_halves(&Sent::<F, O, T>::new(value, what), (TypeId::of::<O>(), TypeId::of::<F>()), observed)
}

fn check_halves(halves: &dyn Halves, key: (TypeId, TypeId), observed: &Observed<'_>) -> Result<(), Fault> {
    if is_known(key, observed) {
        return Ok(());
    }
    let read_back = caught(halves)?;
    if !read_back.is_changing {
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default().entry(key).or_default();
        known.level_bytes = known.level_bytes.max(read_back.level_bytes);
        known.is_deeper |= read_back.is_deeper;
        remember(&mut known.forms, observed.seen.take_forms());
    }
    Ok(())
}

/// Checks that the value can be read back in another format.
pub(super) fn carry<F, O, T>(value: &T, what: What) -> Result<(), Fault>
where
    F: Format + 'static,
    O: Serialize + DeserializeOwned + 'static,
    T: Serialize + ?Sized,
{
    caught(&Sent::<F, O, T>::new(value, what)).map(drop)
}

/// Reads a value back, and catches a panic: the reader's half is code that a sender does not expect to run.
fn caught(halves: &dyn Halves) -> Result<ReadBack, Fault> {
    catch_unwind(AssertUnwindSafe(|| compare(halves))).unwrap_or_else(|_| {
        Err(Fault::rule("a `Serialize`, `Deserialize` or `Drop` panicked while the value was read back"))
    })
}

fn remember(known: &mut Forms, forms: Forms) {
    let room = FORMS_MAX.saturating_sub(known.len());
    let new: Vec<_> = forms.into_iter().filter(|form| !known.contains(form)).take(room).collect();
    known.extend(new);
}

/// Whether its forms are known, and decide that it can be read: they do not tell how many levels and how much stack a
/// deep value takes, nor how large in memory elements are that take no bytes.
fn is_known(key: (TypeId, TypeId), observed: &Observed<'_>) -> bool {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.as_ref().and_then(|known| known.get(&key)).is_some_and(|known| {
        let levels_max = if known.is_deeper { DEPTH_MAX / 2 } else { usize::MAX };
        !observed.has_empty_elements
            && observed.seen.are_all_in(&known.forms)
            && !may_be_too_deep(observed.levels, known.level_bytes)
            && observed.levels <= levels_max
    })
}

/// A value that has been read back.
#[derive(Debug)]
pub(super) struct ReadBack {
    /// Whether another value of the same forms may differ.
    is_changing: bool,
    level_bytes: usize,
    /// Whether its reader counts more compounds than its writer, as within `untagged`: then it may nest them deeper.
    is_deeper: bool,
}

/// The cost of reading a value.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// The most stack that one level took.
    level_bytes: usize,
    compounds: u64,
}

/// Reads a value back, and compares both halves.
#[cfg(test)]
pub(super) fn read_back<F, O, T>(value: &T, what: What) -> Result<ReadBack, Fault>
where
    F: Format + 'static,
    O: Serialize + DeserializeOwned + 'static,
    T: Serialize + ?Sized,
{
    compare(&Sent::<F, O, T>::new(value, what))
}

fn compare(halves: &dyn Halves) -> Result<ReadBack, Fault> {
    let (bytes, writing) = halves.write()?;
    let compounds = writing.observed().compounds;
    let notes = writing.into_notes();
    let by_number = Steps::new(&notes, ByName::None);
    let (read_by_number, cost) = read(halves, &bytes, &by_number);
    let read_by_number = match notes.has_variants() {
        true => compare_names(halves, &bytes, &by_number, read_by_number),
        false => read_by_number,
    }?;
    // Where several parts may have changed, their order counts.
    if notes.has_number_for_variant() && !read_by_number.write().is_ok_and(|others| others == bytes) {
        return Err(number_for_variant());
    }
    if notes.has_other_names() && !stays_as_it_is(halves, bytes, read_by_number) {
        return Err(other_field());
    }
    Ok(ReadBack {
        is_changing: notes.is_changing() || !by_number.are_read_alike(),
        level_bytes: cost.level_bytes,
        is_deeper: cost.compounds > compounds,
    })
}

/// Reads the variants by their names too, which must choose the same ones as their numbers.
fn compare_names(
    halves: &dyn Halves,
    bytes: &[u8],
    by_number: &Steps<'_>,
    read_by_number: Result<Box<dyn ReadValue>, Fault>,
) -> Result<Box<dyn ReadValue>, Fault> {
    let notes = by_number.notes();
    let by_name = Steps::new(notes, ByName::All);
    let (read_by_name, _) = read(halves, bytes, &by_name);
    for (index, mark) in by_number.differences(&by_name) {
        let (read_in_part, _) = read(halves, bytes, &Steps::new(notes, ByName::One(index)));
        match (&read_by_number, read_in_part) {
            (Ok(by_number), Ok(in_part)) if are_written_alike(&**by_number, &*in_part) => {}
            _ => return Err(another_variant(mark)),
        }
    }
    match (read_by_number, read_by_name) {
        (Ok(read), Ok(_)) => Ok(read),
        (Err(fault), Ok(_)) => Err(numbered_differently(fault)),
        (Err(fault), Err(_)) => Err(fault),
        (Ok(read), Err(fault)) => match fault.reason() {
            Reason::UnknownVariant(_) => Err(fault.map_reason(|reason| Reason::Rule(renamed(&reason)))),
            // A hand-written reader may know its variants only by number; then there is nothing to compare.
            _ => Ok(read),
        },
    }
}

/// Whether two values are equal except for the order of unordered parts, such as the entries of a `HashMap`. A reader
/// that distinguishes names from numbers still returns the same value.
fn are_written_alike(one: &dyn ReadValue, other: &dyn ReadValue) -> bool {
    one.write().is_ok_and(|one| other.write().is_ok_and(|other| sorted(one) == sorted(other)))
}

/// The bytes, whatever the order of unordered parts.
fn sorted(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.sort_unstable();
    bytes
}

/// Whether a value that was read from these bytes is written as the same again, and again, except for the order of
/// unordered parts. If each half skips another field, each round moves values to other fields.
fn stays_as_it_is(halves: &dyn Halves, mut bytes: Vec<u8>, mut value: Box<dyn ReadValue>) -> bool {
    for _ in 0..ROUNDS {
        let Ok(again) = value.write() else { return false };
        if again == bytes {
            return true;
        }
        if sorted(again.clone()) != sorted(bytes) {
            return false;
        }
        let (Ok(read), _) = halves.read(&again, None) else { return false };
        (bytes, value) = (again, read);
    }
    true
}

/// Rounds that a value with unordered parts is written and read. A field that moves mostly shows in the first: a default
/// value takes its place.
const ROUNDS: usize = 2;

/// The value, and what it cost to read it.
fn read(halves: &dyn Halves, bytes: &[u8], steps: &Steps<'_>) -> (Result<Box<dyn ReadValue>, Fault>, Cost) {
    let (read, cost) = halves.read(bytes, Some(steps));
    let read = read.map_err(|fault| cannot_read_back(halves.traits(), fault));
    // The differing fields explain more than the error that they caused.
    (steps.check_fields().and(read), cost)
}

fn cannot_read_back(traits: &Traits, fault: Fault) -> Fault {
    let type_name =
        fault.type_name().map_or("the value".to_owned(), |name| format!("`{}`", names::without_options(name)));
    let blamed = fault.blamed();
    // The inside of a type shows nothing of what is missing before it.
    let of = blamed.filter(|_| !traits.is_self_describing).map_or(type_name.clone(), |of| of.to_string());
    let fault = fault.map_reason(|reason| match reason {
        Reason::Rule(_) | Reason::NeedsNames | Reason::OtherKind { .. } => reason,
        Reason::Missing(field) if traits.is_self_describing => Reason::Rule(format!(
            "{type_name} cannot be read back from what it writes (the field `{field}` is missing): give the field \
             `#[serde(default)]` if it is left out on purpose, or else write it always, under the name that is read"
        )),
        // With names, the library's text already says this.
        Reason::UnknownVariant(_) if !traits.is_self_describing => reason,
        Reason::UnknownVariant(_) => Reason::Rule(renamed(&reason)),
        Reason::Refused(text) if ["i128 is not supported", "u128 is not supported"].contains(&&*text) => Reason::Rule(format!(
            "{type_name} has a 128-bit integer within `#[serde(untagged)]`, `#[serde(tag)]` or `#[serde(flatten)]`, and \
             serde reads none there: make it a text{ANOTHER_CODEC}"
        )),
        Reason::Refused(text) => Reason::Rule(format!(
            "the `Deserialize` of {type_name} refuses what its `Serialize` writes ({text}): send a value that both \
             take{ANOTHER_CODEC}"
        )),
        other => Reason::Rule(format!(
            "{of} cannot be read back from what it writes ({}): its `Serialize` and `Deserialize` disagree in this \
             codec, as with `#[serde(skip_serializing)]`{}: make them agree{ANOTHER_CODEC}",
            Fault::new(other),
            if traits.is_self_describing { BUFFERS } else { "" },
        )),
    });
    match fault.reason() {
        Reason::OtherKind { .. } => {
            let text = fault.to_string();
            fault.map_reason(|_| {
                Reason::Rule(format!(
                    "{text}: the `Serialize` and `Deserialize` of a type around it disagree, as with \
                     `#[serde(skip_serializing)]` or with `into` and `from` of different types; make them agree{ANOTHER_CODEC}"
                ))
            })
        }
        _ => fault,
    }
}

/// The error for a field of which each half skips one.
fn other_field() -> Fault {
    Fault::rule(format!(
        "a field would arrive as another one: both halves of a struct have as many fields, and not the same, as with \
         `#[serde(skip_serializing)]` on one and `#[serde(skip_deserializing)]` on another: give both halves the same \
         fields and names; nor can this be told from a renamed field beside a reader that changes what it \
         reads{ANOTHER_CODEC}"
    ))
}

/// The error for a number that is read as a variant, or the reverse.
fn number_for_variant() -> Fault {
    Fault::rule(format!(
        "a variant would arrive as another one: one half of an enum writes or reads it as a number, and the other one as a \
         variant, as with `into` without `from`; make both halves alike{ANOTHER_CODEC}"
    ))
}

fn another_variant(mark: &Mark) -> Fault {
    mark.blame(Fault::rule(format!(
        "the variant `{}` of `{}` would arrive as another one: {SKIPPED_VARIANT}{ANOTHER_CODEC}",
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
        Reason::Rule(format!(
            "a variant of `{type_name}` would arrive as another one: {SKIPPED_VARIANT}{ANOTHER_CODEC}"
        ))
    })
}

/// A cause that users cannot see in their types.
const BUFFERS: &str = ", or serde's buffer for `untagged`, `tag` and `flatten` changes a part of it, such as an address or the \
                       key of a map";

const SKIPPED_VARIANT: &str = "its reader counts variants differently, as after one with `#[serde(skip)]`; put skipped \
                               variants last";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_kept_up_to_a_number() {
        let mut known = Forms::default();
        for form in 0..2 * FORMS_MAX as u64 {
            remember(&mut known, [form, 1].into_iter().collect());
        }
        assert_eq!(known.len(), FORMS_MAX);
        assert!(known.contains(&0) && known.contains(&(FORMS_MAX as u64 - 1)));
    }
}
