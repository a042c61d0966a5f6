//! The processes that serve: a program that is started with a role as its first argument plays it.

use std::{io::Read, process, thread};

use clap::Parser;

use super::role::{BROKER, CALLER, Role, WORKER};
use crate::scene::show_logs;

/// Plays the role that the arguments name, and ends the process with it or with its standard input. Returns when they
/// name none.
pub fn play() {
    let role = std::env::args().nth(1).unwrap_or_default();
    if ![WORKER, BROKER, CALLER].contains(&&*role) {
        return;
    }
    let Child { role } = Child::parse();
    show_logs();
    thread::spawn(|| {
        // Nothing is ever said to it: this ends when the process that has started this one does.
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
