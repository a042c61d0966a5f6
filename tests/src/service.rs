//! The service that tests call, and the file in which it notes its work for them.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use tokio::time::sleep;
use uuid::Uuid;
use xero::Context;

/// The methods that tests need of a worker.
#[xero::service]
pub trait Probe {
    /// `pong`.
    #[xero(idempotent)]
    async fn ping(&self) -> String;
    /// Returns the same text.
    #[xero(idempotent)]
    async fn echo(&self, text: &str) -> String;
    /// The sum of two numbers.
    #[xero(idempotent)]
    async fn add(&self, left: i64, right: i64) -> i64;
    /// `pong`, from the I/O thread.
    #[xero(idempotent, inline)]
    async fn ping_inline(&self) -> String;
    /// Names the worker that serves the call.
    #[xero(idempotent)]
    async fn whoami(&self, cx: &Context) -> Whoami;
    /// Notes `KEY begin`, waits, and notes `KEY end`, or `KEY dropped` if it is cancelled before. At most once.
    async fn work(&self, cx: &Context, key: &str, millis: u64) -> Whoami;
    /// The same, and may run again.
    #[xero(idempotent)]
    async fn work_again(&self, cx: &Context, key: &str, millis: u64) -> Whoami;
    /// Sends the partial replies 0, 1, 2 …, then their number.
    async fn progress(&self, cx: &Context, steps: u32) -> u32;
    /// Sends partial replies of this size until nobody takes them any more; returns how many went out.
    async fn flood(&self, cx: &Context, key: &str, size: usize) -> u32;
    /// Returns the mistake as its error, or as its value.
    async fn fail(&self, mistake: Mistake, as_error: bool) -> Result<Mistake, Mistake>;
    /// Panics with the message.
    async fn panic(&self, message: &str) -> u32;
    /// Notes `KEY begin`, then blocks its thread, which procedures should not do.
    async fn block(&self, key: &str, millis: u64) -> u64;
    /// Blocks a thread of the blocking pool until its caller no longer waits.
    #[xero(blocking)]
    async fn block_until_unwanted(&self, cx: &Context, key: &str) -> u32;
    /// A value that cannot be encoded.
    async fn unencodable(&self) -> Unencodable;
    /// The procedure's view of its call.
    async fn context(&self, cx: &Context) -> Seen;
    /// This many bytes.
    async fn bytes(&self, size: usize) -> Vec<u8>;
    /// The number of received bytes.
    async fn length(&self, bytes: &[u8]) -> usize;
    /// A method whose own timeout is short.
    #[xero(timeout = "150ms")]
    async fn hurried(&self, millis: u64) -> u64;
}

/// A second service for the same worker.
#[xero::service]
pub trait Second {
    /// Twice the number.
    async fn double(&self, number: i64) -> i64;
}

/// Another version of [`Probe`], as a caller from an older or newer build has it.
pub mod elsewhere {
    /// A service by the same name, with other types and more methods.
    #[xero::service(name = "Probe")]
    pub trait Elsewhere {
        /// Takes texts instead of numbers.
        #[xero(idempotent)]
        async fn add(&self, left: String, right: String) -> String;
        /// Returns a number instead of a text.
        async fn echo(&self, text: String) -> u64;
        /// A method that the other version lacks.
        async fn subtract(&self, left: i64, right: i64) -> i64;
    }
}

/// The worker that served a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whoami {
    /// The worker's id.
    pub worker: Uuid,
    /// Its process.
    pub process: u32,
    /// The attempt at the call.
    pub attempt: u8,
}

/// A method's own error, with values that some codecs are known to lose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Mistake {
    /// With a moment and its time zone.
    Late(Moment),
    /// With the error that caused it.
    Caused {
        /// The cause.
        by: Box<Self>,
        /// The place.
        at: String,
    },
    /// With nothing.
    Plain,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(_) => f.write_str("too late"),
            Self::Caused { at, .. } => write!(f, "a mistake at {at}"),
            Self::Plain => f.write_str("a plain mistake"),
        }
    }
}

impl Error for Mistake {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Caused { by, .. } => Some(by),
            Self::Late(_) | Self::Plain => None,
        }
    }
}

/// A moment in a calendar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds since 1970, possibly negative.
    pub seconds: i64,
    /// The fraction of a second.
    pub nanos: u32,
    /// Minutes east of Greenwich.
    pub offset: i16,
    /// The zone's name.
    pub zone: Option<String>,
}

/// A procedure's view of its call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `Service.method`.
    pub method: String,
    /// The codec's name.
    pub codec: String,
    /// 1 for the first attempt.
    pub attempt: u8,
    /// The remaining time.
    pub remaining: Duration,
    /// The metadata of the call.
    pub metadata: BTreeMap<String, Vec<u8>>,
}

/// A value that cannot be encoded.
#[derive(Debug, Deserialize)]
pub struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("made so that it cannot be encoded"))
    }
}

/// Serves [`Probe`] and [`Second`].
#[derive(Clone, Debug, Default)]
pub struct Prober {
    journal: Option<Arc<Journal>>,
}

impl Prober {
    /// A prober that notes its work there.
    pub fn noting(journal: &Arc<Journal>) -> Self {
        Self { journal: Some(Arc::clone(journal)) }
    }

    fn note(&self, key: &str, what: &str) {
        if let Some(journal) = &self.journal {
            journal.note(key, what);
        }
    }

    async fn work_for(&self, cx: &Context, key: &str, millis: u64) -> Whoami {
        self.note(key, "begin");
        let mut note = NoteOnDrop { prober: self, key, what: "dropped" };
        sleep(Duration::from_millis(millis)).await;
        note.what = "end";
        whoami(cx)
    }
}

struct NoteOnDrop<'a> {
    prober: &'a Prober,
    key: &'a str,
    what: &'static str,
}

impl Drop for NoteOnDrop<'_> {
    fn drop(&mut self) {
        self.prober.note(self.key, self.what);
    }
}

fn whoami(cx: &Context) -> Whoami {
    Whoami { worker: cx.worker_id(), process: std::process::id(), attempt: cx.attempt() }
}

#[xero::worker]
impl Probe for Prober {
    async fn ping(&self) -> String {
        "pong".to_owned()
    }

    async fn echo(&self, text: &str) -> String {
        text.to_owned()
    }

    async fn add(&self, left: i64, right: i64) -> i64 {
        left.wrapping_add(right)
    }

    async fn ping_inline(&self) -> String {
        "pong".to_owned()
    }

    async fn whoami(&self, cx: &Context) -> Whoami {
        whoami(cx)
    }

    async fn work(&self, cx: &Context, key: &str, millis: u64) -> Whoami {
        self.work_for(cx, key, millis).await
    }

    async fn work_again(&self, cx: &Context, key: &str, millis: u64) -> Whoami {
        self.work_for(cx, key, millis).await
    }

    async fn progress(&self, cx: &Context, steps: u32) -> u32 {
        for step in 0..steps {
            let _ = cx.partial(&step).await;
        }
        steps
    }

    async fn flood(&self, cx: &Context, key: &str, size: usize) -> u32 {
        self.note(key, "begin");
        let _note = NoteOnDrop { prober: self, key, what: "end" };
        let piece = "x".repeat(size);
        let mut sent = 0;
        while cx.partial(&piece).await.is_ok() {
            sent += 1;
        }
        sent
    }

    async fn fail(&self, mistake: Mistake, as_error: bool) -> Result<Mistake, Mistake> {
        if as_error { Err(mistake) } else { Ok(mistake) }
    }

    async fn panic(&self, message: &str) -> u32 {
        panic!("{message}")
    }

    async fn block(&self, key: &str, millis: u64) -> u64 {
        self.note(key, "begin");
        block_thread(Duration::from_millis(millis));
        millis
    }

    async fn block_until_unwanted(&self, cx: &Context, key: &str) -> u32 {
        self.note(key, "begin");
        let mut rounds = 0;
        while !cx.is_cancelled() {
            block_thread(Duration::from_millis(5));
            rounds += 1;
        }
        self.note(key, "end");
        rounds
    }

    async fn unencodable(&self) -> Unencodable {
        Unencodable
    }

    async fn context(&self, cx: &Context) -> Seen {
        Seen {
            method: format!("{}.{}", cx.service(), cx.method()),
            codec: cx.codec().to_string(),
            attempt: cx.attempt(),
            remaining: cx.remaining(),
            metadata: cx.metadata().iter().map(|(key, value)| (key.clone(), value.to_vec())).collect(),
        }
    }

    async fn bytes(&self, size: usize) -> Vec<u8> {
        vec![7; size]
    }

    async fn length(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    async fn hurried(&self, millis: u64) -> u64 {
        sleep(Duration::from_millis(millis)).await;
        millis
    }
}

#[xero::worker]
impl Second for Prober {
    async fn double(&self, number: i64) -> i64 {
        number.wrapping_mul(2)
    }
}

/// Blocks the thread, as code that knows nothing of tasks does.
// The tests prove that nothing depends on procedures not doing this.
#[allow(clippy::disallowed_methods)]
pub fn block_thread(time: Duration) {
    thread::sleep(time);
}

/// A file in which procedures note what they do, in this process or another.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    is_ours: bool,
}

impl Journal {
    /// A new one, removed when dropped.
    pub fn new() -> Arc<Self> {
        let path = std::env::temp_dir().join(format!("xero-journal-{}", Uuid::new_v4()));
        fs::write(&path, "").expect("the directory for temporary files can be written to");
        Arc::new(Self { path, is_ours: true })
    }

    /// A journal that another process has made.
    pub fn at(path: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), is_ours: false })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How often that was noted.
    pub fn count(&self, key: &str, what: &str) -> usize {
        let line = format!("{key} {what}");
        fs::read_to_string(&self.path).expect("the journal can be read").lines().filter(|found| *found == line).count()
    }

    fn note(&self, key: &str, what: &str) {
        // One write in append mode, so that several processes can share the file.
        let file = OpenOptions::new().append(true).open(&self.path);
        let _ = file.and_then(|mut file| file.write_all(format!("{key} {what}\n").as_bytes()));
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}
