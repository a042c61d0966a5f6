//! The first value of each form of its types is read back before it leaves.
//!
//! serde's two halves of a type need not agree: `#[serde(skip)]` on a variant makes its reader count the variants after it
//! differently, `#[serde(skip_serializing)]` leaves out a field that the reader expects. A format that names what it
//! writes carries that, or fails. One that does not would deliver another value, without a word. So what is written is
//! read as its reader would, side by side with the names of what was written; and variants once by their numbers and once by
//! their names, which must give the same.

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
    observed::{Forms, Marks, Tally, Type, Variant},
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
    // The reader's half is code that no sender expects to run.
    let result = catch_unwind(AssertUnwindSafe(|| read_back::<F, O, T>(value, what)));
    result.unwrap_or_else(|_| {
        Err(Fault::rule("a `Serialize`, `Deserialize` or `Drop` panicked while it was read back"))
    })?;
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    remember(known.get_or_insert_default().entry(key).or_default(), forms);
    Ok(())
}

/// Forms that are kept of each type and format: more than the types of a program have, unless their values choose which
/// fields they leave out. Those beyond are read back each time.
const FORMS_MAX: usize = 1 << 14;

fn remember(known: &mut Forms, forms: Forms) {
    let room = FORMS_MAX.saturating_sub(known.len());
    let new: Vec<_> = forms.into_iter().filter(|form| !known.contains(form)).take(room).collect();
    known.extend(new);
}

fn is_known(key: (TypeId, TypeId), forms: &Forms) -> bool {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.as_ref().and_then(|known| known.get(&key)).is_some_and(|known| forms.is_subset(known))
}

pub(super) fn read_back<F, O, T>(value: &T, what: What) -> Result<(), Fault>
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
    let read = |by_name: &[bool]| read::<F, O>(&bytes, what, Some(Steps::new(&marks, by_name)));
    match marks.variants().next() {
        None => read(&[]).map(drop),
        Some(_) => read_both_ways(&marks, read, |value| tally_of::<F, O>(value, what)),
    }
}

/// Reads the variants once by their numbers, once by their names, and then some by these and some by those.
fn read_both_ways<O>(
    marks: &Marks,
    read: impl Fn(&[bool]) -> Result<O, Fault>,
    tally: impl Fn(&O) -> Result<Tally, Fault>,
) -> Result<(), Fault> {
    match (read(&[]), read(&vec![true; marks.len()])) {
        (Ok(by_number), Ok(by_name)) => {
            let by_number = tally(&by_number)?;
            compare(marks, &by_number, &tally(&by_name)?)?;
            halves(marks).try_for_each(|half| {
                let partly = read(&half).map_err(numbered_differently)?;
                compare(marks, &by_number, &tally(&partly)?)
            })
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

/// Choices of marks, such that one of them distinguishes any two variants of one type. If two variants change places,
/// both are in the value however all are read; where but one of them is read by its name, one is there twice.
fn halves(marks: &Marks) -> impl Iterator<Item = Vec<bool>> {
    let mut counts = HashMap::<Type, usize>::new();
    let number = |mark: usize| {
        let mark = marks.get(mark).filter(|mark| mark.variant.is_some())?;
        let count = counts.entry(mark.of).or_default();
        *count += 1;
        Some(*count - 1)
    };
    let numbers: Vec<_> = (0..marks.len()).map(number).collect();
    let last = numbers.iter().flatten().copied().max().unwrap_or_default();
    let bits = usize::BITS - last.leading_zeros();
    (0..bits).map(move |bit| numbers.iter().map(|number| number.is_some_and(|number| number >> bit & 1 == 1)).collect())
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
        Reason::Missing(field) if F::TRAITS.is_self_describing => Reason::Rule(format!(
            "`{type_name}` cannot be read back from what it writes (the field `{field}` is missing): give the field \
             `#[serde(default)]` if it is left out on purpose, or else write it always, under the name that is read"
        )),
        other => Reason::Rule(format!(
            "`{type_name}` cannot be read back from what it writes ({}): its `Serialize` and `Deserialize` disagree in this \
             codec, as with `#[serde(skip_serializing)]`; {instead}",
            Fault::new(other)
        )),
    })
}

fn tally_of<F: Format, O: Serialize>(value: &O, what: What) -> Result<Tally, Fault> {
    let mut marks = Marks::default();
    write::<F, O>(value, what, Some(&mut marks))?;
    Ok(marks.into_tally())
}

/// Compares the variants of the same bytes, read by number and by name. Their order says nothing: a `HashMap` has another
/// one each time.
fn compare(written: &Marks, by_number: &Tally, by_name: &Tally) -> Result<(), Fault> {
    let is_moved = |(variant, count): &(&Variant, &usize)| by_number.get(*variant) != Some(*count);
    let missing = || by_number.iter().find(|(variant, _)| !by_name.contains_key(*variant));
    let moved = by_name.iter().filter(is_moved).max_by_key(|(variant, _)| !by_number.contains_key(*variant));
    let Some((&(_, name, variant), _)) = moved.or_else(missing) else { return Ok(()) };
    let fault =
        Fault::rule(format!("the variant `{variant}` of `{name}` would arrive as another one: {SKIPPED_VARIANT}"));
    let place = written.variants().find(|mark| (mark.name, mark.variant) == (name, Some(variant)));
    Err(match place {
        Some(place) => place.blame(fault),
        None => fault,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_kept_up_to_a_number() {
        let mut known = Forms::default();
        for form in 0..2 * FORMS_MAX as u64 {
            remember(&mut known, Forms::from_iter([form, 1]));
        }
        assert_eq!(known.len(), FORMS_MAX);
        assert!(known.contains(&0) && known.contains(&(FORMS_MAX as u64 - 1)));
    }
}
