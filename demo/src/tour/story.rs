//! The tour in plain words, with timings.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use tokio::time::Instant;

/// Reports what happens, with the time since the tour began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Story {
    began: Instant,
}

impl Story {
    pub(super) fn begin() -> Self {
        line(format_args!("A tour of Xero. Each line begins with the seconds since the start."));
        Self { began: Instant::now() }
    }

    pub(super) fn title(&self, title: &str) {
        line(format_args!("\n{title}"));
    }

    pub(super) fn say(&self, text: impl fmt::Display) {
        line(format_args!("  {:6.3}  {text}", self.began.elapsed().as_secs_f64()));
    }

    pub(super) fn end(&self) {
        line(format_args!("\nEverything went as described, in {:.1} s.", self.began.elapsed().as_secs_f64()));
    }
}

/// A duration in readable form.
pub(super) fn time(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        seconds if seconds < 0.1 => format!("{:.1} ms", seconds * 1e3),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

fn line(text: fmt::Arguments<'_>) {
    // A tour without readers is still checked by its exit code.
    let _ = writeln!(io::stdout(), "{text}");
}
