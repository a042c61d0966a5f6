//! The library's imports run one way: down the list of its rooms, and in no circle between files of a room.
//!
//! Only a file and the chapters in its folder may import each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The folders and files of `xero/src`, from the top down: each may import from those below it.
const ROOMS: [&str; 14] = [
    "lib",
    "private",
    "client",
    "worker",
    "broker",
    "config",
    "info",
    "error",
    "guide",
    "wire",
    "codec",
    "transport",
    "io",
    "proto",
];

#[test]
fn imports_run_down_the_rooms() {
    let library = Library::read();
    let level = |module: &str| {
        let room = room_of(module);
        ROOMS.iter().position(|known| *known == room).unwrap_or_else(|| panic!("{room} is not in the list of rooms"))
    };
    let up = library.imports.iter().filter(|(from, to)| level(from) > level(to));
    let up: Vec<_> = up.map(|(from, to)| format!("{from} imports from {to}")).collect();
    assert!(up.is_empty(), "imports run up: {up:#?}");
}

#[test]
fn files_of_a_room_import_in_no_circle() {
    let library = Library::read();
    let circles: Vec<_> = library.circles().into_iter().map(|circle| circle.join(" → ")).collect();
    assert!(circles.is_empty(), "files import each other: {circles:#?}");
}

#[test]
fn every_form_of_an_import_is_read() {
    let modules = ["a", "a::b", "a::c", "d"].map(str::to_owned).into();
    let read = |text: &str| imports_of("a::b", text, &modules).into_iter().collect::<Vec<_>>();
    assert_eq!(read("use crate::d;"), ["d"]);
    assert_eq!(read("pub(crate) use crate::{\n    a::{c::{self, X}, Y},\n    d::*,\n};"), ["a", "a::c", "d"]);
    assert_eq!(read("    use super::{c::X as Z};"), ["a::c"]);
    assert_eq!(read("use super::{c as _};\nuse super::super::d::X;"), ["a::c", "d"]);
    assert_eq!(read("fn f() -> crate::d::X { super::c::g() }"), ["a::c", "d"]);
    assert_eq!(read("// crate::d\n/// [it](crate::d)\npub(in crate::d) fn f() {}\nuse std::fmt;"), [""; 0]);
    assert_eq!(read("use super::c;\n\n#[cfg(test)]\nmod tests {\n    use crate::d;\n}"), ["a::c"]);
    assert_eq!(imports_of("a", "pub use self::{b::X, c::Y};", &modules).len(), 2);
}

/// The files of the library, by their module paths.
struct Library {
    modules: BTreeSet<String>,
    /// The imports of each file.
    imports: BTreeSet<(String, String)>,
}

impl Library {
    fn read() -> Self {
        let files = sources(&root());
        let modules: BTreeSet<_> = files.iter().map(|file| module_of(file)).collect();
        assert!(modules.len() > 80, "these are not all files of the library: {modules:?}");
        let mut imports = BTreeSet::new();
        for file in &files {
            let (module, text) = (module_of(file), fs::read_to_string(root().join(file)).expect("a source"));
            imports.extend(imports_of(&module, &text, &modules).into_iter().map(|to| (module.clone(), to)));
        }
        Self { modules, imports }
    }

    /// One circle for each file that is in any, shortest first.
    fn circles(&self) -> Vec<Vec<&str>> {
        let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let is_chapter = |from: &str, to: &str| from.strip_prefix(to).is_some_and(|rest| rest.starts_with("::"));
        for (from, to) in &self.imports {
            if room_of(from) == room_of(to) && !is_chapter(from, to) {
                below.entry(from).or_default().push(to);
            }
        }
        let mut circles: Vec<_> = self.modules.iter().filter_map(|module| circle_through(module, &below)).collect();
        circles.sort_by_key(Vec::len);
        circles
    }
}

/// The shortest way from a file back to itself.
fn circle_through<'a>(start: &'a str, below: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![start]];
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in below.get(way[way.len() - 1]).into_iter().flatten() {
                let way = [&way[..], &[*next]].concat();
                if *next == start {
                    return Some(way);
                }
                if seen.insert(*next) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

/// The files that a file imports from, except itself.
fn imports_of(module: &str, text: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let code = code_of(text);
    let paths = uses(&code).into_iter().chain(inline_paths(&code));
    let files = paths.filter_map(|path| file_of(&absolute(module, &path)?, modules));
    files.filter(|file| file != module).collect()
}

/// The text without documentation, other comments and tests, which end a file.
fn code_of(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("//") && !line.contains("doc = \"");
    let lines: Vec<_> = text.lines().filter(is_code).collect();
    let is_test = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{') && pair[1].contains("mod ");
    let end = lines.windows(2).position(is_test).unwrap_or(lines.len());
    lines[..end].join("\n").replace("pub(in crate", "pub(in ")
}

/// The paths of every `use`, one for each name.
fn uses(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (start, _) in code.match_indices("use ") {
        if code[..start].ends_with(['\n', ' ', '{']) || start == 0 {
            let tree: Vec<_> = code[start + 4..].split(';').next().unwrap_or_default().split_whitespace().collect();
            spread("", &tree.join(" "), &mut paths);
        }
    }
    paths
}

/// Takes `a::{b, c::d}` apart.
fn spread(before: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((path, rest)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree);
        return paths.push(format!("{before}{name}"));
    };
    let mut depth = 0;
    let before = format!("{before}{path}");
    let branches = rest.trim_end().strip_suffix('}').unwrap_or(rest).split(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    branches.map(str::trim).filter(|branch| !branch.is_empty()).for_each(|branch| spread(&before, branch, paths));
}

/// The paths that code names without importing them.
fn inline_paths(code: &str) -> Vec<String> {
    let starts = ["crate::", "super::"].into_iter().flat_map(|start| code.match_indices(start));
    let starts = starts.filter(|(start, _)| !code[..*start].ends_with("::"));
    let path =
        |(start, _): (usize, &str)| code[start..].chars().take_while(|it| it.is_alphanumeric() || "_:".contains(*it));
    // Those that end in a brace are imports, which are read as such.
    starts.map(|start| path(start).collect()).filter(|path: &String| !path.ends_with("::")).collect()
}

/// The path from the root of the crate; `None` for one of another crate.
fn absolute(module: &str, path: &str) -> Option<Vec<String>> {
    let mut segments = path.split("::").filter(|segment| !segment.is_empty()).peekable();
    let mut base: Vec<_> = if module == "lib" { Vec::new() } else { module.split("::").collect() };
    match segments.next()? {
        "crate" => base.clear(),
        "self" => {}
        "super" => drop(base.pop()),
        _ => return None,
    }
    while segments.next_if_eq(&"super").is_some() {
        base.pop();
    }
    Some(base.into_iter().chain(segments).map(str::to_owned).collect())
}

/// The file that holds what the path names.
fn file_of(path: &[String], modules: &BTreeSet<String>) -> Option<String> {
    (1..=path.len()).rev().map(|count| path[..count].join("::")).find(|path| modules.contains(path))
}

fn room_of(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// `client::call` for `client/call.rs`, `client` for `client/mod.rs`.
fn module_of(file: &Path) -> String {
    let path = file.with_extension("");
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).filter(|name| name != "mod").collect();
    names.join("::")
}

/// The sources below a folder, without those of tests, by their paths from the library's root.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_test = |path: &PathBuf| path.file_stem().is_some_and(|name| name == "tests");
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs") && !is_test(path));
    let files = files.map(|path| path.strip_prefix(root()).expect("below the root").to_owned());
    let below = folders.iter().filter(|folder| !is_test(folder)).flat_map(|folder| sources(folder));
    files.chain(below).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../xero/src")
}
