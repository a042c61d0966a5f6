//! The program that plays the roles of container tests, as processes on this machine: its records can be checked.

use std::collections::BTreeSet;

use uuid::Uuid;
use xero_tests::{
    load::{
        account::Account,
        record::{Record, micros_now},
        role::STARTED,
        terms::{Disturbance, Fault, Terms},
    },
    process::Process,
    scene::{Port, eventually, run},
};

#[test]
fn records_of_a_broker_two_workers_and_a_load_are_sound_through_a_kill_and_a_slow_link() {
    run(async {
        let began_at = micros_now();
        let [front, back] = [(); 2].map(|()| Port::reserve());
        let mut broker = crew(&["broker", &front.endpoint(), &back.endpoint()]);
        let mut link = crew(&["link", &format!("127.0.0.1:0={}", address(&back)), "--latency", "20", "--jitter", "10"]);
        let late = format!("tcp://{}", link.line(STARTED).await);
        let (mut killed, mut late) = (crew(&["worker", &back.endpoint()]), crew(&["worker", &late]));
        let ids = [id(&killed).await, id(&late).await];
        eventually("the broker has both", async || workers(&broker).last() == Some(&BTreeSet::from(ids))).await;
        let mut load = crew(&["load", &front.endpoint(), "--rate", "300", "--seed", "7", "--first", "1_000"]);
        eventually("both have run many calls", async || runs(&killed) > 100 && runs(&late) > 100).await;
        let kill = micros_now();
        killed.kill();
        eventually("the broker has one", async || workers(&broker).last() == Some(&BTreeSet::from([ids[1]]))).await;
        let so_far = runs(&late);
        eventually("that one has run many more", async || runs(&late) > so_far + 300).await;
        for process in [&mut load, &mut late, &mut link, &mut broker] {
            process.terminate();
            assert!(process.ended().await.success());
        }

        let records = records_of(&[("load", &load), ("killed", &killed), ("late", &late)]);
        let killed = Disturbance { victim: "killed".to_owned(), fault: Fault::Killed, time: kill..kill + 1_000_000 };
        let terms = Terms::default().disturbed(killed);
        let judge = |records: &[(&'static str, Record)]| Account::of(7, &terms, records.iter().cloned());
        let account = judge(&records);
        let ledger = account.ledger();
        assert!(ledger.violations().is_empty(), "{account}");
        assert!(ledger.made > 300 && ledger.replies > ledger.made / 2, "{ledger}");
        assert_eq!(workers(&load).last().map(BTreeSet::len), Some(1), "it is connected to one broker");
        assert!(moments(&records).all(|at| (began_at..=micros_now()).contains(&at)));
        // A missing run, a missing end of a call, and an extra run are all found.
        assert!(
            !judge(&without(&records, |record| matches!(record, Record::Ran { .. }))).ledger().violations().is_empty()
        );
        let unended = judge(&without(&records, |record| matches!(record, Record::Ended { .. })));
        assert!(!unended.ledger().violations().is_empty(), "{unended}");
        let twice = judge(&[&records[..], &all_runs(&records)].concat());
        assert!(!twice.ledger().violations().is_empty(), "{twice}");
    });
}

#[test]
fn load_without_a_worker_begins_no_call_and_exits_with_0() {
    run(async {
        let mut load = crew(&["load", "--bind", "tcp://127.0.0.1:0", "--rate", "1000"]);
        load.says(STARTED).await;
        eventually("it has looked for workers", async || workers(&load).last() == Some(&BTreeSet::new())).await;
        assert!(!records(&load).iter().any(|record| matches!(record, Record::Begun { .. })));
        load.terminate();
        assert!(load.ended().await.success());
    });
}

#[test]
fn load_of_short_texts_gets_through_a_narrow_link() {
    run(async {
        let port = Port::reserve();
        let mut load = crew(&["load", "--bind", &port.endpoint(), "--rate", "500", "--text-max", "10"]);
        // A tenth of the bandwidth that the usual texts need: with those, calls would wait until they expire.
        let mut link = crew(&["link", &format!("127.0.0.1:0={}", address(&port)), "--bytes-per-second", "200_000"]);
        let mut worker = crew(&["worker", &format!("tcp://{}", link.line(STARTED).await)]);
        eventually("it has run many calls", async || runs(&worker) > 1_000).await;
        for process in [&mut load, &mut worker, &mut link] {
            process.terminate();
            assert!(process.ended().await.success());
        }
        Account::of(1, &Terms::default(), records_of(&[("load", &load), ("worker", &worker)])).assert_kept();
    });
}

#[test]
fn role_continues_without_standard_input() {
    run(async {
        let mut worker = crew(&["worker", &Port::reserve().endpoint()]);
        worker.says(STARTED).await;
        worker.close_input();
        let caller = crew(&["caller", "--bind", "tcp://127.0.0.1:0"]);
        let endpoint = caller.line(STARTED).await;
        let second = crew(&["worker", &endpoint]);
        eventually("another is served meanwhile", async || runs(&second) > 100).await;
        assert_eq!(worker.status(), None);
        worker.terminate();
        assert!(worker.ended().await.success());
    });
}

fn crew(arguments: &[&str]) -> Process {
    Process::start(env!("CARGO_BIN_EXE_crew"), arguments)
}

fn address(port: &Port) -> String {
    port.endpoint().trim_start_matches("tcp://").to_owned()
}

async fn id(process: &Process) -> Uuid {
    process.line(STARTED).await.parse().expect("an id")
}

fn records(process: &Process) -> Vec<Record> {
    Record::all_in(&process.said()).collect()
}

fn runs(process: &Process) -> usize {
    records(process).iter().filter(|record| matches!(record, Record::Ran { .. })).count()
}

/// The sets of workers that it has had, in order.
fn workers(process: &Process) -> Vec<BTreeSet<Uuid>> {
    let ids = |record| match record {
        Record::Workers { ids, .. } => Some(ids.into_iter().collect()),
        _ => None,
    };
    let mut sets: Vec<_> = records(process).into_iter().filter_map(ids).collect();
    sets.dedup();
    sets
}

/// Each with its owner's name.
fn records_of(processes: &[(&'static str, &Process)]) -> Vec<(&'static str, Record)> {
    processes.iter().flat_map(|(name, process)| records(process).into_iter().map(|record| (*name, record))).collect()
}

fn without(records: &[(&'static str, Record)], is_left_out: impl Fn(&Record) -> bool) -> Vec<(&'static str, Record)> {
    let first = records.iter().position(|(_, record)| is_left_out(record)).expect("there is one");
    [&records[..first], &records[first + 1..]].concat()
}

fn all_runs(records: &[(&'static str, Record)]) -> Vec<(&'static str, Record)> {
    records.iter().filter(|(_, record)| matches!(record, Record::Ran { .. })).cloned().collect()
}

fn moments(records: &[(&'static str, Record)]) -> impl Iterator<Item = u64> {
    records.iter().map(|(_, record)| match record {
        Record::Started { at, .. }
        | Record::Begun { at, .. }
        | Record::Ended { at, .. }
        | Record::Ran { at, .. }
        | Record::Workers { at, .. } => *at,
    })
}
