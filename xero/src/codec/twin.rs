//! The first value of each form of its types is read back before it leaves.
//!
//! serde's two halves of a type need not agree: `#[serde(skip)]` on a variant makes its reader count the variants after it
//! differently, `#[serde(skip_serializing)]` leaves out a field that the reader expects. A format that names what it
//! writes carries that, or fails. One that does not would deliver another value, without a word. So what is written is
//! read as its reader would, side by side with what was written: the kinds of pieces, and the names of fields. Variants are
//! read once by their numbers and once by their names, which must choose the same.

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
    steps::Steps,
    write,
};

/// The forms that have been read back, of each type and format: as many as a program's types have, up to a limit.
static KNOWN: RwLock<Option<HashMap<(TypeId, TypeId), Forms>>> = RwLock::new(None);

/// Forms of one type that are remembered. Derived code has a few for each type within it; one that is written by hand may
/// have any number, such as one for each set of fields. What is not remembered is read back each time.
const FORMS_MAX: usize = 16_384;

/// Checks that a value of these forms arrives at whoever reads an `O`.
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
    let notes = catch_unwind(AssertUnwindSafe(|| read_back::<F, O, T>(value, what)));
    let notes =
        notes.unwrap_or_else(|_| Err(Fault::rule("its `Deserialize` panics when it reads back what is written")))?;
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default().entry(key).or_default();
    if known.len() + forms.len() <= FORMS_MAX {
        known.extend(notes.without_changing(forms));
    }
    Ok(())
}

fn is_known(key: (TypeId, TypeId), forms: &Forms) -> bool {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.as_ref().and_then(|known| known.get(&key)).is_some_and(|known| forms.is_subset(known))
}

/// Gives what was noted while the value was written.
pub(super) fn read_back<F, O, T>(value: &T, what: What) -> Result<Notes, Fault>
where
    F: Format,
    O: DeserializeOwned,
    T: Serialize + ?Sized,
{
    let mut notes = Notes::default();
    let (bytes, _) = write::<F, T>(value, what, Some(&mut notes))?;
    let by_number = Steps::new(&notes, false);
    let read_by_number = read::<F, O>(&bytes, what, &by_number);
    if !notes.has_variants() {
        return read_by_number.map(|()| notes);
    }
    let by_name = Steps::new(&notes, true);
    let read_by_name = read::<F, O>(&bytes, what, &by_name);
    if let Some(mark) = by_number.first_difference(&by_name) {
        return Err(another_variant(mark));
    }
    match (read_by_number, read_by_name) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(fault), Ok(())) => Err(numbered_differently(fault)),
        (Err(fault), Err(_)) => Err(fault),
        (Ok(()), Err(fault)) => match fault.reason() {
            Reason::UnknownVariant(_) => Err(fault.map_reason(|reason| Reason::Rule(renamed(&reason)))),
            // A hand-written reader may know its variants by number alone; then there is nothing to compare.
            _ => Ok(()),
        },
    }
    .map(|()| notes)
}

fn read<F: Format, O: DeserializeOwned>(bytes: &[u8], what: What, steps: &Steps<'_>) -> Result<(), Fault> {
    let reading = Reading::new(F::TRAITS, what).beside(steps);
    let seed = Seed { inner: PhantomData::<O>, reading: &reading };
    let read = F::read(seed, bytes).map(drop).map_err(|error| reading.recover(error));
    // Which fields are not the same says more than what came of it.
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
        Reason::OtherKind { .. } => Reason::Rule(format!(
            "{}: the `Serialize` and `Deserialize` of a type around it disagree, as with `#[serde(skip_serializing)]` or \
             with `into` and `from` of different types; {instead}",
            Fault::new(reason)
        )),
        // Where names are written, the words of its library are these already.
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

/// What is written under a name that its reader does not know.
fn renamed(reason: &Reason) -> String {
    let unknown = if let Reason::UnknownVariant(text) = reason { text } else { "it is unknown" };
    format!(
        "a variant has another name for its reader, or none, so that another one would arrive ({unknown}): give it one name \
         for both sides, and skip it on both or on neither"
    )
}

/// What is read by name and not by number.
fn numbered_differently(fault: Fault) -> Fault {
    let type_name = fault.type_name().unwrap_or_else(|| "an enum".to_owned());
    fault.map_reason(|_| {
        Reason::Rule(format!("a variant of `{type_name}` would arrive as another one: {SKIPPED_VARIANT}"))
    })
}

const SKIPPED_VARIANT: &str = "its reader counts variants differently, as after one with `#[serde(skip)]`; use MessagePack \
                               or JSON for it, or put skipped variants last";
