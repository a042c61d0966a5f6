//! The first value of each shape is read back before it leaves.
//!
//! serde's two halves of a type need not agree: `#[serde(skip)]` on a variant makes its reader count the variants after it
//! differently, `#[serde(skip_serializing)]` leaves out a field that the reader expects. A format that names what it
//! writes carries that, or fails. One that does not would deliver another value, without a word. So what is written is
//! read as its reader would, once by the numbers of variants and once by their names, and both must give the same.

use std::{
    any,
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::What,
    fault::{Fault, Reason},
    format::Format,
    observed::{Mark, Marks},
    read::{Reading, Seed},
    steps::Steps,
    write,
};

/// The shapes that have been read back, in order, of each type by the address and length of its name: this is looked at for
/// each value, and a name that the compiler keeps twice is checked twice.
static KNOWN: RwLock<BTreeMap<(usize, usize), Vec<u64>>> = RwLock::new(BTreeMap::new());

/// Shapes that are kept of a type. A recursive type has new ones without end; after so many they are like the others.
const KNOWN_MAX: usize = 1024;

/// Checks that a value with these shapes arrives at whoever reads an `O`.
pub(super) fn check<F, O, T>(value: &T, what: What, shapes: Vec<u64>) -> Result<(), Fault>
where
    F: Format,
    O: Serialize + DeserializeOwned,
    T: Serialize + ?Sized,
{
    let type_name = any::type_name::<O>();
    let key = (type_name.as_ptr() as usize, type_name.len());
    if is_known(key, &shapes) {
        return Ok(());
    }
    read_back::<F, O, T>(value, what)?;
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = known.entry(key).or_default();
    known.extend(shapes);
    known.sort_unstable();
    known.dedup();
    Ok(())
}

fn is_known(key: (usize, usize), shapes: &[u64]) -> bool {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let of_type = known.get(&key);
    of_type
        .is_some_and(|known| known.len() >= KNOWN_MAX || shapes.iter().all(|shape| known.binary_search(shape).is_ok()))
}

fn read_back<F, O, T>(value: &T, what: What) -> Result<(), Fault>
where
    F: Format,
    O: Serialize + DeserializeOwned,
    T: Serialize + ?Sized,
{
    let mut marks = Marks::default();
    let (bytes, _) = write::<F, T>(value, what, Some(&mut marks))?;
    let by_number = read::<F, O>(&bytes, what, Steps::new(&marks, false));
    if marks.variants().next().is_none() {
        return by_number.map(drop);
    }
    // A reader may know its variants by number alone; then there is nothing to compare.
    match (by_number, read::<F, O>(&bytes, what, Steps::new(&marks, true))) {
        (Ok((by_number, true)), Ok((by_name, true))) => {
            compare(&marks_of::<F, O>(&by_number, what)?, &marks_of::<F, O>(&by_name, what)?)
        }
        (Err(fault), Ok(_)) => Err(numbered_differently(fault)),
        (Err(fault), Err(_)) => Err(fault),
        (Ok(_), _) => Ok(()),
    }
}

fn read<F: Format, O: DeserializeOwned>(bytes: &[u8], what: What, steps: Steps<'_>) -> Result<(O, bool), Fault> {
    let reading = Reading::new(F::TRAITS, what).beside(steps);
    let seed = Seed { inner: std::marker::PhantomData, reading: &reading };
    let value = F::read(seed, bytes).map_err(|error| cannot_read_back(reading.recover(error)))?;
    Ok((value, reading.is_in_step()))
}

fn cannot_read_back(fault: Fault) -> Fault {
    let type_name = fault.type_name().unwrap_or_else(|| "the type".to_owned());
    fault.map_reason(|reason| match reason {
        Reason::Rule(_) | Reason::NeedsNames => reason,
        other => Reason::Rule(format!(
            "`{type_name}` cannot be read back from what it writes ({}): its `Serialize` and `Deserialize` disagree, as with \
             `#[serde(skip_serializing)]`; use MessagePack or JSON for it",
            Fault::new(other)
        )),
    })
}

fn marks_of<F: Format, O: Serialize>(value: &O, what: What) -> Result<Marks, Fault> {
    let mut marks = Marks::default();
    write::<F, O>(value, what, Some(&mut marks))?;
    Ok(marks)
}

/// The variants of the same bytes, read by number and by name.
fn compare(by_number: &Marks, by_name: &Marks) -> Result<(), Fault> {
    let mut counts = BTreeMap::<&Mark, isize>::new();
    by_name.variants().for_each(|mark| *counts.entry(mark).or_default() += 1);
    by_number.variants().for_each(|mark| *counts.entry(mark).or_default() -= 1);
    match counts.into_iter().find(|(_, count)| *count > 0) {
        Some((Mark::Variant { name, variant }, _)) => Err(Fault::rule(format!(
            "the variant `{variant}` of `{name}` would arrive as another one: {SKIPPED_VARIANT}"
        ))),
        _ => Ok(()),
    }
}

/// What is read by name and not by number.
fn numbered_differently(fault: Fault) -> Fault {
    let type_name = fault.type_name().unwrap_or_else(|| "the type".to_owned());
    fault.map_reason(|_| {
        Reason::Rule(format!("a variant of `{type_name}` would arrive as another one: {SKIPPED_VARIANT}"))
    })
}

const SKIPPED_VARIANT: &str = "its reader counts variants differently, as after one with `#[serde(skip)]`; use MessagePack \
                               or JSON for it, or put skipped variants last";
