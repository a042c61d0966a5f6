//! The promises on several hosts: containers with addresses of their own that are killed, frozen, cut off and rolled.
//!
//! Without a Docker engine they are skipped, with a line that says so. Each test has containers and networks of its own
//! and checks their logs: the calls of the clients, the runs of the workers. The message of a failed test says where
//! its containers' logs are.

mod crew;
mod cuts;
mod freezes;
mod happy;
mod kills;
mod links;
mod names;
mod rolls;

use std::{
    fs::{File, TryLockError},
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    pin::Pin,
    process::{self, ExitCode},
    thread,
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::{
    signal::{
        ctrl_c,
        unix::{SignalKind, signal},
    },
    time::timeout,
};
use xero_tests::{
    containers::{
        engine::{Absence, Engine, come_to_an_end},
        stack::{Stack, TEST_MAX, sweep, sweep_until_quiet},
    },
    scene::runtime,
};

/// A test.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    /// The Compose file, from the repository's root.
    file: &'static str,
    /// Environment variables for the Compose file.
    settings: &'static [(&'static str, &'static str)],
    play: for<'a> fn(&'a mut Stack) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
}

/// A test that plays this function's story with these settings of the stack.
macro_rules! scenario {
    ($module:ident::$name:ident $(, $setting:literal = $value:expr)* $(,)?) => {
        scenario!(STACK, $module::$name $(, $setting = $value)*)
    };
    ($file:expr, $module:ident::$name:ident $(, $setting:literal = $value:expr)*) => {
        Scenario {
            name: stringify!($name),
            file: $file,
            settings: &[$(($setting, $value)),*],
            play: |stack| Box::pin($module::$name(stack)),
        }
    };
}

const SCENARIOS: &[Scenario] = &[
    // The longest first, so that nothing waits for them at the end.
    scenario!(rolls::rolling_restart_at_1000_calls_a_second_fails_no_call, "XERO_RATE" = "550"),
    scenario!(
        links::late_packets_expire_no_peer,
        "XERO_LINK" = "--latency 200 --jitter 100",
        "XERO_BACKENDS" = links::BACKENDS,
        "XERO_FRONTENDS" = links::FRONTENDS,
    ),
    scenario!(
        links::lost_packets_expire_no_peer,
        "XERO_RATE" = "150",
        "XERO_BROKER" = links::PATIENT_BROKER,
        "XERO_WORKER" = links::PATIENT_WORKER,
        "XERO_FRONTENDS" = links::PATIENT_FRONTENDS,
    ),
    scenario!(
        links::narrow_link_expires_no_peer,
        "XERO_LINK" = "--bytes-per-second 65536",
        "XERO_RATE" = "10",
        "XERO_BACKENDS" = links::BACKENDS,
        "XERO_FRONTENDS" = links::FRONTENDS,
    ),
    scenario!(rolls::workers_come_and_go_under_load_and_no_call_fails, "XERO_RATE" = "150"),
    scenario!(happy::HERE, happy::twenty_pings_and_every_example_between_two_containers),
    scenario!(happy::every_method_through_two_brokers, "XERO_BROKER" = "demo-broker", "XERO_WORKER" = "demo-worker",),
    scenario!(kills::killed_workers_cost_no_idempotent_call, "XERO_RATE" = "400"),
    scenario!(kills::killed_brokers_cost_no_idempotent_call, "XERO_RATE" = "400"),
    scenario!(kills::killed_client_costs_the_other_nothing, "XERO_RATE" = "200"),
    scenario!(freezes::frozen_worker_is_noticed_and_comes_back, "XERO_RATE" = "200"),
    scenario!(freezes::frozen_broker_is_noticed_and_comes_back, "XERO_RATE" = "200"),
    scenario!(freezes::frozen_client_finds_its_brokers_again),
    scenario!(cuts::worker_that_is_cut_off_is_noticed_and_comes_back, "XERO_RATE" = "200"),
    scenario!(cuts::broker_that_is_cut_off_is_noticed_and_comes_back, "XERO_RATE" = "200"),
    scenario!(cuts::client_that_is_cut_off_finds_its_brokers_again),
    scenario!(cuts::worker_cut_off_one_way_is_noticed, "XERO_RATE" = "200"),
    scenario!(cuts::broker_cut_off_one_way_is_noticed, "XERO_RATE" = "200"),
    scenario!(cuts::client_cut_off_one_way_ends_its_calls),
    scenario!(names::worker_may_start_before_its_brokers_names_resolve),
    scenario!(names::broker_may_return_with_another_address),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TESTS_AT_ONCE);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(Err("nothing is run"))).exit_code();
    }
    let engine = match runtime(1).block_on(Engine::find()) {
        Ok(engine) => engine,
        Err(Absence::Nowhere(reason)) => {
            eprintln!("the container tests are SKIPPED, as there is no Docker engine: {reason}");
            return libtest_mimic::run(&arguments, trials(Err("no Docker engine"))).exit_code();
        }
        Err(Absence::Unusable(reason)) => return refuse(&format!("there is a Docker engine, but: {reason}")),
    };
    match prepare(&engine) {
        Ok(_lock) => libtest_mimic::run(&arguments, trials(Ok(&engine))).exit_code(),
        Err(mistake) => refuse(&mistake),
    }
}

fn refuse(mistake: &str) -> ExitCode {
    eprintln!("the container tests cannot be run: {mistake}");
    ExitCode::FAILURE
}

/// Builds the images, and removes leftovers of this run and earlier ones. Only one run at a time has the lock.
fn prepare(engine: &Engine) -> Result<File, String> {
    let lock = lock().map_err(|error| error.to_string())?;
    sweep_when_interrupted();
    runtime(1).block_on(async {
        sweep().await?;
        for (file, services) in [(happy::HERE, &["worker"][..]), (STACK, &["worker-1", "faults"])] {
            let file = xero_tests::containers::repository().join(file);
            let file = file.to_str().ok_or("the repository's path is not Unicode")?;
            let built = engine.compose_aloud(&[&["--file", file, "build"], services].concat()).await;
            built.map_err(|mistake| format!("{mistake}\n{ADVICE}"))?;
        }
        Ok(lock)
    })
}

fn lock() -> io::Result<File> {
    // One lock for each user, because others may not open it.
    let name = format!("xero-container-tests-{}.lock", rustix::process::getuid().as_raw());
    let file = File::create(std::env::temp_dir().join(name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another run of these tests to end");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(file)
}

fn sweep_when_interrupted() {
    thread::spawn(|| {
        runtime(1).block_on(async {
            let mut terminated = signal(SignalKind::terminate()).expect("signals can be listened for");
            tokio::select! {
                interrupted = ctrl_c() => interrupted.expect("signals can be listened for"),
                _ = terminated.recv() => {}
            }
            eprintln!("interrupted: removing the containers");
            come_to_an_end();
            sweep_until_quiet().await;
        });
        process::exit(130);
    });
}

/// The tests on that engine, or the reason for skipping them.
fn trials(engine: Result<&Engine, &'static str>) -> Vec<Trial> {
    let trial = |scenario: &Scenario| {
        let (scenario, engine) = (*scenario, engine.cloned());
        Trial::ignorable_test(scenario.name, move || match engine {
            Ok(engine) => scenario.run(&engine),
            Err(reason) => Ok(Completion::ignored_with(reason)),
        })
    };
    SCENARIOS.iter().map(trial).collect()
}

impl Scenario {
    /// Plays it, and always removes its containers.
    fn run(self, engine: &Engine) -> Result<Completion, Failed> {
        let settings = self.settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("container-logs").join(self.name);
        let mut stack = Stack::new(engine, self.name, self.file, settings, logs.clone());
        let runtime = runtime(1);
        let play = async {
            let played = timeout(TEST_MAX, (self.play)(&mut stack)).await;
            played.unwrap_or_else(|_| panic!("it has not ended within {TEST_MAX:?}"));
        };
        let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play)));
        let removed = runtime.block_on(stack.down(played.is_err()));
        let mut mistakes = Vec::new();
        if let Err(panic) = &played {
            mistakes.push(format!("{}\nwhat each container has said: {}", message(&**panic), logs.display()));
        }
        mistakes.extend(removed.err());
        if mistakes.is_empty() { Ok(Completion::Completed) } else { Err(mistakes.join("\n").into()) }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it has panicked")
}

/// The stack of brokers, workers and clients.
const STACK: &str = "tests/containers/docker-compose.yml";

/// Most tests spend their time waiting: for leases to end, or for half a minute to pass.
const TESTS_AT_ONCE: usize = 4;

/// The remedy when images cannot be built.
const ADVICE: &str = "where the images that Dockerfile builds on cannot be pulled, `deploy/base-images` makes them";
