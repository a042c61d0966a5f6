//! The common part of this package's command lines.

use std::{
    fmt,
    io::{self, Write},
    ops::RangeInclusive,
    process,
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Reads a whole number within these bounds; `_` may separate its digits.
pub fn whole_number<T: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.replace('_', "").parse().ok().filter(|number| bounds.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| advice(&bounds))
    }
}

/// Logs go to standard error, from `info` on or as `RUST_LOG` says.
pub fn log_to_standard_error() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    // If the process has a subscriber already, logs go there.
    let _ = logs.try_init();
}

/// The exit code that shells give a program whose reader is gone: 128 and the number of SIGPIPE.
pub const READER_GONE: i32 = 141;

/// Prints a line. Ends the program if its reader has enough, as in `simulate --seed 3 | head`: without a verdict, so not
/// as a success.
///
/// # Panics
/// When standard output cannot be written for another reason.
pub fn print_line(line: impl fmt::Display) {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(READER_GONE),
        written => written.unwrap_or_else(|error| panic!("cannot write to standard output: {error}")),
    }
}

fn advice(bounds: &RangeInclusive<u64>) -> String {
    match (bounds.start(), bounds.end()) {
        (least, &u64::MAX) => format!("give a whole number from {least} to 2^64 - 1"),
        (least, most) => format!("give a whole number from {least} to {most}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_number_is_within_its_bounds_and_may_have_underscores() {
        let read = whole_number::<u32>(1..=1_000);
        assert_eq!(read("1"), Ok(1));
        assert_eq!(read("1_000"), Ok(1_000));
        for wrong in ["0", "1001", "-1", "1.5", "x", "", "_", "99999999999999999999"] {
            assert_eq!(read(wrong), Err("give a whole number from 1 to 1000".to_owned()), "{wrong}");
        }
    }

    #[test]
    fn bound_of_the_type_itself_is_named_in_short() {
        let read = whole_number::<u64>(0..=u64::MAX);
        assert_eq!(read("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(read("18446744073709551616"), Err("give a whole number from 0 to 2^64 - 1".to_owned()));
    }
}
