//! What each codec takes to write and to read five typical values, and the size that they have in it. It prints the table
//! that the crate's guide shows. Run by hand: `cargo bench -p xero-tests --bench codecs`.
//!
//! Behind each time stands its ratio to the codec's own library in the same run, called without what Xero puts around it.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    hint::black_box,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;
use xero::{Codec, Value};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    paid: bool,
    amount: f64,
    note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pixel {
    r: u8,
    g: u8,
    b: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Node {
    Text(String),
    Number(i64),
    List(Vec<Self>),
    Element { name: String, attributes: BTreeMap<String, String>, children: Vec<Self> },
}

fn main() {
    // Cargo calls benchmarks with this to see that they run.
    let time = if std::env::args().any(|argument| argument == "--test") { 1 } else { 300 };
    let time = Duration::from_millis(time);
    println!("| value | codec | bytes | write | × | read | × |\n|---|---|---:|---:|---:|---:|---:|");
    let order = Order {
        id: 4_711,
        customer: "Ada Lovelace".to_owned(),
        paid: true,
        amount: 12.5,
        note: Some("gift".to_owned()),
    };
    row("an order: a struct of five fields", &order, time);
    let pixels: Vec<_> = (0..1_000).map(|n| Pixel { r: n as u8, g: (n / 3) as u8, b: 200 }).collect();
    row("1,000 pixels: a list of structs", &pixels, time);
    row("a text of 1 KiB", &"sixteen letters ".repeat(64), time);
    row("1 MiB of bytes (`serde_bytes`)", &ByteBuf::from(vec![200_u8; 1 << 20]), time);
    row("a document: enums, maps, 5 levels", &document(4), time);
}

fn document(depth: usize) -> Node {
    let attributes = BTreeMap::from([("class".to_owned(), "wide".to_owned()), ("id".to_owned(), depth.to_string())]);
    let children = match depth {
        0 => vec![Node::Text("some text".to_owned()), Node::Number(-3), Node::List(vec![Node::Number(70_000)])],
        _ => (0..3).map(|_| document(depth - 1)).collect(),
    };
    Node::Element { name: "section".to_owned(), attributes, children }
}

fn row<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T, time: Duration) {
    for codec in Codec::available() {
        let written = Value::encode(codec, value).expect("is written");
        assert_eq!(&written.decode::<T>().expect("is read"), value, "{codec}");
        let bytes = written.bytes();
        let [write, bare_write, read, bare_read] = interleaved(
            time,
            [
                &mut || drop(black_box(Value::encode(codec, black_box(value)))),
                &mut || drop(black_box(write_bare(codec, black_box(value)))),
                &mut || drop(black_box(black_box(&written).decode::<T>())),
                &mut || drop(black_box(read_bare::<T>(codec, black_box(bytes)))),
            ],
        );
        let (size, write_ratio, read_ratio) = (bytes.len(), write / bare_write, read / bare_read);
        let (write, read) = (shown(write), shown(read));
        println!("| {name} | {codec} | {size} | {write} | {write_ratio:.2} | {read} | {read_ratio:.2} |");
    }
}

/// The median of each function's time in seconds, taken in turn so that what disturbs one disturbs all.
fn interleaved<const N: usize>(time: Duration, mut functions: [&mut dyn FnMut(); N]) -> [f64; N] {
    let calls = functions.each_mut().map(|function| calls_in(time / 30, function));
    let mut samples = [const { Vec::new() }; N];
    for _ in 0..15 {
        for ((function, calls), samples) in functions.iter_mut().zip(calls).zip(&mut samples) {
            let start = Instant::now();
            (0..calls).for_each(|_| function());
            samples.push(start.elapsed().as_secs_f64() / f64::from(calls));
        }
    }
    samples.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    })
}

/// How many calls take so long; at least one.
fn calls_in(time: Duration, function: &mut dyn FnMut()) -> u32 {
    let (start, mut calls) = (Instant::now(), 0);
    while calls == 0 || start.elapsed() < time {
        function();
        calls += 1;
    }
    calls
}

fn shown(seconds: f64) -> String {
    match seconds * 1e9 {
        nanos if nanos < 1_000.0 => format!("{nanos:.0} ns"),
        nanos if nanos < 1_000_000.0 => format!("{:.1} µs", nanos / 1e3),
        nanos => format!("{:.1} ms", nanos / 1e6),
    }
}

fn write_bare<T: Serialize>(codec: Codec, value: &T) -> Vec<u8> {
    match codec {
        Codec::Bincode => bincode::serde::encode_to_vec(value, bincode::config::standard()).expect("is written"),
        Codec::MessagePack => rmp_serde::to_vec_named(value).expect("is written"),
        Codec::Json => serde_json::to_vec(value).expect("is written"),
        Codec::Postcard => postcard::to_allocvec(value).expect("is written"),
        other => panic!("{other} is not measured"),
    }
}

fn read_bare<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> T {
    match codec {
        Codec::Bincode => bincode::serde::decode_from_slice(bytes, bincode::config::standard()).expect("is read").0,
        Codec::MessagePack => rmp_serde::from_slice(bytes).expect("is read"),
        Codec::Json => serde_json::from_slice(bytes).expect("is read"),
        Codec::Postcard => postcard::from_bytes(bytes).expect("is read"),
        other => panic!("{other} is not measured"),
    }
}
