//! The serving processes: a program whose first argument is a role plays that role.

use std::{io::Read, process, thread};

use clap::Parser;

use super::role::{BROKER, CALLER, Role, WORKER};
use crate::scene::show_logs;

/// Plays the role in the arguments, and ends the process with it or with its standard input. Returns if there is no
/// role.
pub fn play() {
    let role = std::env::args().nth(1).unwrap_or_default();
    if ![WORKER, BROKER, CALLER].contains(&&*role) {
        return;
    }
    let Child { role } = Child::parse();
    show_logs();
    thread::spawn(|| {
        // Nobody writes to it: this ends when the process that started this one does.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        process::exit(3);
    });
    if let Err(failure) = role.play(false) {
        eprintln!("{failure}");
        process::exit(failure.exit_code().into());
    }
    process::exit(0);
}

#[derive(Debug, Parser)]
struct Child {
    #[command(subcommand)]
    role: Role,
}
