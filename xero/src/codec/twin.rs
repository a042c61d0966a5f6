//! The first value of each form of its types is read back before it leaves.
//!
//! serde's two halves of a type need not agree: `#[serde(skip)]` on a variant makes its reader count the variants after it
//! differently, `#[serde(skip_serializing)]` leaves out a field that the reader expects. A format that names what it
//! writes carries that, or fails. One that does not would deliver another value, without a word. So what is written is
//! read as its reader would, side by side with the names of what was written; and variants once by their numbers and once by
//! their names, which must give the same.

use std::{
    any::TypeId,
    collections::{BTreeSet, HashMap},
    marker::PhantomData,
    sync::{PoisonError, RwLock},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::What,
    fault::{Fault, Reason},
    format::Format,
    observed::{Forms, Mark, Marks},
    read::{Reading, Seed},
    steps::Steps,
    write,
};

/// The forms that have been read back, of each type and format: as many as a program's types have.
static KNOWN: RwLock<Option<HashMap<(TypeId, TypeId), Forms>>> = RwLock::new(None);

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
    read_back::<F, O, T>(value, what)?;
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().entry(key).or_default().extend(forms);
    Ok(())
}

fn is_known(key: (TypeId, TypeId), forms: &Forms) -> bool {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.as_ref().and_then(|known| known.get(&key)).is_some_and(|known| forms.is_subset(known))
}

fn read_back<F, O, T>(value: &T, what: What) -> Result<(), Fault>
where
    F: Format,
    O: Serialize + DeserializeOwned,
    T: Serialize + ?Sized,
{
    let mut marks = Marks::default();
    let (bytes, _) = write::<F, T>(value, what, Some(&mut marks))?;
    if F::TRAITS.is_self_describing {
        return read::<F, O>(&bytes, what, None).map(drop);
    }
    let by_number = read::<F, O>(&bytes, what, Some(Steps::new(&marks, false)));
    if marks.variants().next().is_none() {
        return by_number.map(drop);
    }
    match (by_number, read::<F, O>(&bytes, what, Some(Steps::new(&marks, true)))) {
        (Ok(by_number), Ok(by_name)) => {
            compare(&marks, &marks_of::<F, O>(&by_number, what)?, &marks_of::<F, O>(&by_name, what)?)
        }
        (Err(fault), Ok(_)) => Err(numbered_differently(fault)),
        (Err(fault), Err(_)) => Err(fault),
        (Ok(_), Err(fault)) => match fault.reason() {
            Reason::UnknownVariant(_) => Err(fault.map_reason(|reason| Reason::Rule(renamed(&reason)))),
            // A hand-written reader may know its variants by number alone; then there is nothing to compare.
            _ => Ok(()),
        },
    }
}

fn read<F: Format, O: DeserializeOwned>(bytes: &[u8], what: What, steps: Option<Steps<'_>>) -> Result<O, Fault> {
    let reading = Reading::new(F::TRAITS, what).beside(steps);
    let seed = Seed { inner: PhantomData, reading: &reading };
    F::read(seed, bytes).map_err(|error| cannot_read_back::<F>(reading.recover(error)))
}

fn cannot_read_back<F: Format>(fault: Fault) -> Fault {
    let type_name = fault.type_name().unwrap_or_else(|| "the value".to_owned());
    let instead = match F::TRAITS.is_self_describing {
        true => "use another codec for it",
        false => "use MessagePack or JSON for it",
    };
    fault.map_reason(|reason| match reason {
        Reason::Rule(_) | Reason::NeedsNames | Reason::UnknownVariant(_) => reason,
        other => Reason::Rule(format!(
            "`{type_name}` cannot be read back from what it writes ({}): its `Serialize` and `Deserialize` disagree in this \
             codec, as with `#[serde(skip_serializing)]`; {instead}",
            Fault::new(other)
        )),
    })
}

fn marks_of<F: Format, O: Serialize>(value: &O, what: What) -> Result<Marks, Fault> {
    let mut marks = Marks::default();
    write::<F, O>(value, what, Some(&mut marks))?;
    Ok(marks)
}

/// Compares the variants of the same bytes, read by number and by name.
fn compare(written: &Marks, by_number: &Marks, by_name: &Marks) -> Result<(), Fault> {
    let names = |mark: &Mark| (mark.name, mark.variant);
    let by_number: BTreeSet<_> = by_number.variants().map(names).collect();
    let Some(moved) = by_name.variants().find(|mark| !by_number.contains(&names(mark))) else { return Ok(()) };
    let fault = Fault::rule(format!(
        "the variant `{}` of `{}` would arrive as another one: {SKIPPED_VARIANT}",
        moved.variant.unwrap_or_default(),
        moved.name,
    ));
    let place = written.variants().find(|mark| names(mark) == names(moved));
    Err(place.unwrap_or(moved).blame(fault))
}

/// What is written under a name that its reader does not know.
fn renamed(reason: &Reason) -> String {
    let unknown = if let Reason::UnknownVariant(text) = reason { text } else { "it is unknown" };
    format!(
        "a variant has another name for its reader, so that its number cannot be trusted ({unknown}): give it one name for \
         both sides"
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
