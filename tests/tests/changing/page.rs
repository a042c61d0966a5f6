//! The guide's page and its rows.

use std::{collections::BTreeSet, fs, path::Path};

use xero::Codec;

const PAGE: &str = include_str!("../../../xero/src/guide/changing_a_service.md");

/// An old client calls a new worker; an old writer is read by a new reader.
pub(crate) const OLD_FIRST: usize = 0;
/// A new client calls an old worker; a new writer is read by an old reader.
pub(crate) const NEW_FIRST: usize = 1;

/// The page's words for the outcome of a call.
const WORDS: [&str; 11] = [
    "works",
    "another value",
    "refused",
    "`SignatureMismatch`",
    "`InvalidArguments`",
    "`InvalidReply`",
    "`UnknownMethod`",
    "`NoWorker`",
    "`DeadlineExceeded`",
    "`Refused`",
    "`Application`",
];

/// A row of the page, and the observed outcomes of its change.
pub(crate) struct Row {
    key: &'static str,
    /// For an old client or writer, then a new one; each in bincode and postcard, then in MessagePack and JSON.
    cells: [String; 4],
    seen: [BTreeSet<&'static str>; 4],
}

impl Row {
    /// The row with this key.
    #[track_caller]
    pub(crate) fn of(key: &'static str) -> Self {
        let row = rows().find(|row| row.contains(&format!("<!-- {key} -->")));
        let row = row.unwrap_or_else(|| panic!("the page has no row for {key}"));
        let cells: Vec<_> = row.split(" | ").map(str::to_owned).collect();
        let cells = <[String; 4]>::try_from(cells[1..5].to_vec()).expect("four cells");
        Self { key, cells, seen: Default::default() }
    }

    pub(crate) fn key(&self) -> &'static str {
        self.key
    }

    /// Notes the outcome of a call.
    pub(crate) fn see(&mut self, direction: usize, codec: Codec, word: &'static str) {
        self.seen[2 * direction + usize::from(codec.is_self_describing())].insert(word);
    }

    /// Compares the cells with the outcomes.
    #[track_caller]
    pub(crate) fn check(self) {
        let Self { key, cells, seen } = self;
        let words = |cell: &String| WORDS.into_iter().filter(|word| cell.contains(word)).collect::<BTreeSet<_>>();
        let said = cells.each_ref().map(words);
        assert!(said == seen, "{key}: the page says\n{cells:?}, and observed was\n{seen:?}");
    }
}

/// The rows of the page's tables, without the heads.
fn rows() -> impl Iterator<Item = &'static str> {
    let heads = ["|---", "| change |"];
    PAGE.lines().filter(move |line| line.starts_with('|') && !heads.iter().any(|head| line.starts_with(head)))
}

#[test]
fn every_row_of_the_page_has_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/changing");
    for row in rows() {
        let key = row.split("<!-- ").nth(1).and_then(|rest| rest.split(" -->").next());
        let (file, test) =
            key.and_then(|key| key.split_once("::")).unwrap_or_else(|| panic!("no test's name in {row}"));
        let source =
            fs::read_to_string(folder.join(format!("{file}.rs"))).unwrap_or_else(|error| panic!("{row}: {error}"));
        assert!(source.contains(&format!("\"{file}::{test}\"")), "no test of {file}.rs holds the row {row}");
    }
}
