//! The command lines of the long-running programs: their help names every option, and mistakes are errors.

use xero_tests::program::{explains, names, refuses, run};

const CHAOS: &str = env!("CARGO_BIN_EXE_chaos");
const COSTS: &str = env!("CARGO_BIN_EXE_costs");
const INSTRUCTIONS: &str = env!("CARGO_BIN_EXE_instructions");
const CREW: &str = env!("CARGO_BIN_EXE_crew");
const SOAK: &str = env!("CARGO_BIN_EXE_soak");

#[test]
fn chaos_explains_its_options() {
    explains(CHAOS, &["--topology", "--seconds", "--seed", "--rate", "--workers", "--log"]);
}

#[test]
fn soak_explains_its_options() {
    explains(SOAK, &["--topology", "--calls", "--concurrency", "--workers", "--seed"]);
}

#[test]
fn costs_explains_its_options() {
    explains(COSTS, &["--brief"]);
}

#[test]
fn costs_refuses_unknown_options() {
    refuses(COSTS, &["--short"], "--short");
}

#[test]
fn instructions_explains_its_options() {
    explains(INSTRUCTIONS, &["--record"]);
}

#[test]
fn instructions_refuses_unknown_options() {
    refuses(INSTRUCTIONS, &["--records"], "--records");
}

#[test]
fn crew_explains_its_roles_and_their_options() {
    explains(CREW, &["worker", "broker", "caller", "load", "link"]);
    explains_role("worker", &["--journal", "--interval", "--credits", "--backoff", "--drain"]);
    explains_role("broker", &["--interval", "--attempts", "--credits", "--drain", "--tells"]);
    explains_role("caller", &["--bind", "--interval", "--concurrency", "--text", "--reply", "--millis"]);
    explains_role("load", &["--bind", "--rate", "--seed", "--first", "--text-max", "--interval", "--attempts"]);
    explains_role("link", &["--latency", "--jitter", "--bytes-per-second", "--seed"]);
}

#[test]
fn chaos_refuses_unknown_options_and_values_out_of_range() {
    refuses(CHAOS, &["--second", "5"], "--second");
    refuses(CHAOS, &["--seconds"], "--seconds");
    refuses(CHAOS, &["direct"], "direct");
    refuses(CHAOS, &["--topology", "star"], "direct, brokered");
    refuses(CHAOS, &["--seed", "pi"], "from 0 to 2^64 - 1");
    for seconds in ["0", "-1", "86401", "x", "1.5"] {
        refuses(CHAOS, &["--seconds", seconds], "from 1 to 86400");
    }
    for rate in ["0", "-1", "10001", "many"] {
        refuses(CHAOS, &["--rate", rate], "from 1 to 10000");
    }
    for workers in ["0", "1", "51", "some"] {
        refuses(CHAOS, &["--workers", workers], "from 2 to 50");
    }
}

#[test]
fn soak_refuses_unknown_options_and_values_out_of_range() {
    refuses(SOAK, &["--seconds", "5"], "--seconds");
    refuses(SOAK, &["--topology", "star"], "direct, brokered");
    refuses(SOAK, &["--seed", "-1"], "from 0 to 2^64 - 1");
    for calls in ["0", "-1", "18446744073709551616", "x"] {
        refuses(SOAK, &["--calls", calls], "from 1 to 2^64 - 1");
    }
    for concurrency in ["0", "-1", "1001", "x"] {
        refuses(SOAK, &["--concurrency", concurrency], "from 1 to 1000");
    }
    for workers in ["0", "-1", "51", "x"] {
        refuses(SOAK, &["--workers", workers], "from 1 to 50");
    }
}

#[test]
fn crew_refuses_unknown_roles_and_options_and_values_out_of_range() {
    refuses(CREW, &["waiter"], "waiter");
    let endpoint = "tcp://127.0.0.1:5560";
    for role in ["worker", "caller", "load", "link"] {
        refuses(CREW, &[role], "required");
        refuses(CREW, &[role, endpoint, "--waits"], "--waits");
    }
    refuses(CREW, &["broker", endpoint], "<BACKEND>");
    refuses(CREW, &["worker", endpoint, "--interval", "0"], "from 1 to 2^64 - 1");
    refuses(CREW, &["worker", endpoint, "--backoff", "20"], "as in 100..2000");
    refuses(CREW, &["broker", endpoint, "tcp://127.0.0.1:5561", "--attempts", "256"], "from 1 to 255");
    refuses(CREW, &["caller", endpoint, "--concurrency", "0"], "from 1 to 1000");
    refuses(CREW, &["load", endpoint, "--rate", "0"], "from 1 to 10000");
    refuses(CREW, &["load", endpoint, "--text-max", "314160"], "from 0 to 314159");
    refuses(CREW, &["link", "0.0.0.0:5560"], "HOST:PORT=HOST:PORT");
    refuses(CREW, &["link", "0.0.0.0:0=broker-1:5560", "--latency", "-1"], "from 0 to 60000");
}

#[test]
fn crew_refuses_endpoints_and_settings_that_its_role_cannot_have() {
    refuses(CREW, &["worker", "127.0.0.1"], "127.0.0.1");
    refuses(CREW, &["worker", "tcp://127.0.0.1:5561", "--journal", "nowhere/at/all"], "No such file");
    refuses(CREW, &["broker", "tcp://*:0", "tcp://203.0.113.1:5561"], "203.0.113.1");
    refuses(CREW, &["load", "--bind", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0"], "--bind takes one");
    refuses(CREW, &["link", "203.0.113.1:5560=broker-1:5560"], "203.0.113.1:5560");
}

/// `crew ROLE --help` explains each of these options on a line of its own, and has an example.
fn explains_role(role: &str, options: &[&str]) {
    let output = run(CREW, &[role, "--help"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let help = String::from_utf8_lossy(&output.stdout);
    names(&help, options);
    assert!(help.contains(&format!("\nExample:\n    crew {role} ")), "{help}");
}
