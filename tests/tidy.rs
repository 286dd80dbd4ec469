//! The directions of the house, held by a search: who may use whom, and what is done in one place only.
//!
//! `violations` is a pure function over a tree of texts. One test runs it over this repository; the others plant one violation
//! each and see that it is found, so no rule can fall asleep. A rule that is wrong is changed here, with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Path from the root, with `/`, -> text.
type Tree = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: String,
    /// From 1; 0 when the file as a whole is meant.
    line: usize,
    rule: Rule,
    /// What stands there.
    found: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}: {}: {}", self.file, self.line, self.found, self.rule.sentence())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    Directions,
    Rooms,
    VendorNamed,
    VendorUses,
    VendorDependencies,
    ConnectorSleeps,
    Tasks,
    Clients,
    Clocks,
    Entropies,
    Backoff,
    OneDeliverer,
    Printing,
    Names,
    Readmes,
    FirstLines,
}

impl Rule {
    const ALL: [Self; 16] = [
        Self::Directions,
        Self::Rooms,
        Self::VendorNamed,
        Self::VendorUses,
        Self::VendorDependencies,
        Self::ConnectorSleeps,
        Self::Tasks,
        Self::Clients,
        Self::Clocks,
        Self::Entropies,
        Self::Backoff,
        Self::OneDeliverer,
        Self::Printing,
        Self::Names,
        Self::Readmes,
        Self::FirstLines,
    ];

    fn sentence(self) -> &'static str {
        match self {
            Self::Directions => {
                "a room uses only the rooms below it (ROOMS in tests/tidy.rs): main > cli > daemon > everything; \
                 http, reconcile > pipeline, store, lms, domain, config; reconcile, pipeline > store, lms, mapping, domain; \
                 store, lms, mapping > domain. Hand the thing in from daemon.rs, or move the type down to domain"
            }
            Self::Rooms => "every module below src/ stands in ROOMS of tests/tidy.rs, with what it may use",
            Self::VendorNamed => {
                "only src/connectors.rs names a vendor crate: all others speak to the traits of learnsync_sdk, so that a \
                 connector costs one folder and two lines"
            }
            Self::VendorUses => {
                "a connector uses of ours only learnsync_sdk (and learnsync_testkit in its tests): it knows nothing of the \
                 daemon, nor of other connectors"
            }
            Self::VendorDependencies => {
                "a connector's Cargo.toml names of ours only learnsync-sdk, and learnsync-testkit below [dev-dependencies]"
            }
            Self::ConnectorSleeps => {
                "a connector never waits: it answers with the kind of error, and the daemon decides when to come back"
            }
            Self::Tasks => {
                "only daemon.rs, the command line and tests start tasks and threads (the exceptions stand in STARTS_TASKS of \
                 tests/tidy.rs, each with its reason): whoever starts one must also end it, in order"
            }
            Self::Clients => {
                "only daemon.rs, the command line and tests build HTTP clients: time-outs, roots of trust and user agent are \
                 set in one place. Take the client that is handed in"
            }
            Self::Clocks => "only daemon.rs, the command line and tests make a SystemClock: take a domain::time::Clock",
            Self::Entropies => {
                "only daemon.rs, the command line and tests make a Generator: take a domain::chance::Entropy"
            }
            Self::Backoff => {
                "only src/lms/absorb/client.rs uses backoff: the crate is unmaintained (RUSTSEC-2025-0012), so it must be easy \
                 to replace; deliveries wait by pipeline::retry"
            }
            Self::OneDeliverer => {
                "only src/pipeline/deliver.rs writes to a target: a durable `sending` must stand before every write"
            }
            Self::Printing => "only the command line prints: all else logs with tracing, or returns a value",
            Self::Names => {
                "no module is named utils, helpers, common or misc: a module is named after what it is for, in the words of the \
                 house"
            }
            Self::Readmes => "every top-level folder has a README.md: what is here, how do I add one, how do I test it",
            Self::FirstLines => "a source file opens with one //! line that says what it is for",
        }
    }
}

/// Every room (module of the crate), and the rooms that it may use. All may use `learnsync_sdk`.
const ROOMS: [(&str, &[&str]); 17] = [
    ("main", &["cli"]),
    // lib.rs is the list of rooms and uses none.
    ("lib", &[]),
    ("cli", &ALL_BUT_CLI),
    // Puts what the store holds into words; who prints them is above it.
    ("explain", &["pipeline", "store", "domain", "config"]),
    ("daemon", &ALL_BELOW_DAEMON),
    ("http", &["fail_point", "pipeline", "store", "lms", "domain", "config", "telemetry"]),
    ("reconcile", &["fail_point", "pipeline", "store", "lms", "mapping", "domain", "config", "telemetry"]),
    ("pipeline", &["fail_point", "store", "lms", "mapping", "domain", "config", "telemetry"]),
    ("mapping", &["domain", "config"]),
    ("store", &["fail_point", "domain"]),
    // The client counts its calls.
    ("lms", &["domain", "telemetry"]),
    ("sandbox", &["domain"]),
    // A policy's words are the domain's.
    ("config", &["domain"]),
    ("domain", &[]),
    // Only debug builds have any.
    ("fail_point", &[]),
    ("connectors", &[]),
    ("telemetry", &[]),
];
const ALL_BELOW_DAEMON: [&str; 12] = [
    "fail_point",
    "http",
    "reconcile",
    "pipeline",
    "mapping",
    "store",
    "lms",
    "sandbox",
    "config",
    "domain",
    "connectors",
    "telemetry",
];
const ALL_BUT_CLI: [&str; 14] = [
    "fail_point",
    "explain",
    "daemon",
    "http",
    "reconcile",
    "pipeline",
    "mapping",
    "store",
    "lms",
    "sandbox",
    "config",
    "domain",
    "connectors",
    "telemetry",
];

/// Where tasks and threads may be started: path prefix, reason.
const STARTS_TASKS: [(&str, &str); 7] = [
    ("src/daemon", "starts everything in order and stops it in reverse"),
    ("src/cli/", "one command is one program"),
    ("src/http/server.rs", "one task a connection, counted and waited for by the server itself"),
    ("src/http/admin.rs", "the same for questions: one task each, at most 16"),
    ("src/store/writer.rs", "the one thread that owns the writable connection; ended and joined with the store"),
    ("src/sandbox/", "stands in for other people's servers, which have a life of their own"),
    ("connectors/file/", "a disk blocks: one blocking piece of work a call, awaited by it, and by the next one"),
];
/// Where HTTP clients may be built.
const BUILDS_CLIENTS: [(&str, &str); 3] = [
    ("src/daemon", "the one factory"),
    ("src/cli/", "commands that speak to a running daemon"),
    ("src/sandbox/", "sends webhooks as the LMS would"),
];
/// Where the machine's clock may be taken.
const MAKES_CLOCKS: [(&str, &str); 4] = [
    ("src/daemon", "builds the real things"),
    ("src/cli/", "builds the real things for commands without a daemon"),
    ("src/sandbox/", "stands in for other people's servers, which have their own clock"),
    ("src/domain/time.rs", "defines it"),
];
/// Where the machine's randomness may be taken.
const MAKES_ENTROPY: [(&str, &str); 4] = [
    ("src/daemon", "builds the real things"),
    ("src/cli/", "builds the real things for commands without a daemon"),
    ("src/sandbox/", "stands in for other people's servers"),
    ("src/domain/chance.rs", "defines it"),
];
/// Where something may be printed.
const PRINTS: [(&str, &str); 3] = [
    ("src/main.rs", "the last error"),
    ("src/cli/", "its answers are printed"),
    ("src/sandbox/demo.rs", "the demo tells its story on the terminal"),
];
/// Top-level folders without a README.md.
const WITHOUT_README: [(&str, &str); 1] =
    [("src", "it has its own page, src/ARCHITECTURE.md, and a //! line in each file")];

const NAMELESS: [&str; 6] = ["util", "utils", "helper", "helpers", "common", "misc"];

fn violations(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, text) in tree {
        check_name(file, &mut found);
        if file.starts_with("connectors/") && file.ends_with("/Cargo.toml") {
            check_dependencies(file, text, &mut found);
        }
        if file.ends_with(".rs") && is_source(file) {
            check_first_line(file, text, &mut found);
        }
        if file.ends_with(".rs") {
            let source = Source::read(file, text);
            check_vendors(tree, &source, &mut found);
            if is_source(file) {
                check_directions(&source, &mut found);
                check_seams(&source, &mut found);
            }
        }
    }
    check_readmes(tree, &mut found);
    found.sort();
    // One line may break a rule in several words; it is one thing to mend.
    found.dedup_by(|next, first| (&next.file, next.line, next.rule) == (&first.file, first.line, first.rule));
    found
}

/// Sources that run in production: those of the crate and of the connectors, without test files and without the test kit.
fn is_source(file: &str) -> bool {
    let is_test = file.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "examples");
    let is_kit = file.starts_with("connectors/testkit/");
    (file.starts_with("src/") || (file.starts_with("connectors/") && file.contains("/src/"))) && !is_test && !is_kit
}

fn allowed(file: &str, list: &[(&str, &str)]) -> bool {
    list.iter().any(|(prefix, _reason)| file.starts_with(prefix))
}

/// The vendor of a file below `connectors/<vendor>/`; none for the sdk and the test kit.
fn folder_of_connector(file: &str) -> Option<&str> {
    file.strip_prefix("connectors/")?.split_once('/').map(|(folder, _)| folder)
}

fn check_name(file: &str, found: &mut Vec<Violation>) {
    if !file.ends_with(".rs") {
        return;
    }
    for part in file.split('/') {
        let name = part.strip_suffix(".rs").unwrap_or(part);
        if NAMELESS.contains(&name) {
            found.push(Violation { file: file.to_owned(), line: 0, found: part.to_owned(), rule: Rule::Names });
        }
    }
}

fn check_first_line(file: &str, text: &str, found: &mut Vec<Violation>) {
    // An empty file is a room that is not built yet.
    if !text.trim().is_empty() && !text.starts_with("//! ") {
        let line = text.lines().next().unwrap_or_default().to_owned();
        found.push(Violation { file: file.to_owned(), line: 1, found: line, rule: Rule::FirstLines });
    }
}

fn check_readmes(tree: &Tree, found: &mut Vec<Violation>) {
    let folders: BTreeSet<&str> =
        tree.keys().filter_map(|file| file.split_once('/')).map(|(folder, _)| folder).collect();
    for folder in folders {
        let is_excused = WITHOUT_README.iter().any(|(name, _reason)| *name == folder);
        if !is_excused && !tree.contains_key(&format!("{folder}/README.md")) {
            let file = format!("{folder}/README.md");
            found.push(Violation { file, line: 0, found: "no such file".to_owned(), rule: Rule::Readmes });
        }
    }
}

fn check_dependencies(file: &str, text: &str, found: &mut Vec<Violation>) {
    let folder = folder_of_connector(file).unwrap_or_default();
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => panic!("{file} is not TOML: {error}"),
    };
    let mut sections: Vec<(&str, &toml::Value)> = table.iter().map(|(name, value)| (name.as_str(), value)).collect();
    // [target.'cfg(...)'.dependencies]
    for target in table.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values) {
        sections.extend(target.as_table().into_iter().flatten().map(|(name, value)| (name.as_str(), value)));
    }
    for (section, dependencies) in sections {
        let may_use: &[&str] = match (section, folder) {
            ("dependencies" | "build-dependencies" | "dev-dependencies", "sdk") => &[],
            ("dev-dependencies", _) => &["learnsync-sdk", "learnsync-testkit"],
            ("dependencies" | "build-dependencies", _) => &["learnsync-sdk"],
            _ => continue,
        };
        for (name, value) in dependencies.as_table().into_iter().flatten() {
            // `other = { package = "learnsync-sdk" }` is a dependency on the sdk.
            let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(name);
            let is_ours = package == "learnsync" || package.starts_with("learnsync-");
            if is_ours && !may_use.contains(&package) {
                let line = text.lines().position(|line| line.starts_with(name.as_str())).map_or(0, |line| line + 1);
                let found_here = format!("[{section}] {package}");
                found.push(Violation {
                    file: file.to_owned(),
                    line,
                    found: found_here,
                    rule: Rule::VendorDependencies,
                });
            }
        }
    }
}

fn check_vendors(tree: &Tree, source: &Source, found: &mut Vec<Violation>) {
    let is_crate = |name: &str| tree.contains_key(&format!("connectors/{name}/Cargo.toml"));
    let own = folder_of_connector(source.file);
    for path in &source.paths {
        let first = path.first();
        let Some(name) = first.strip_prefix("learnsync_").filter(|name| is_crate(name)) else {
            if own.is_some() && first == "learnsync" && (path.parts.len() > 1 || path.is_use) {
                found.push(source.violation(path, Rule::VendorUses));
            }
            continue;
        };
        match own {
            // A crate's own tests and examples name it.
            Some(folder) if name == folder => {}
            Some("sdk") => found.push(source.violation(path, Rule::VendorUses)),
            Some(_) if name == "sdk" || (name == "testkit" && !is_source(source.file)) => {}
            Some(_) => found.push(source.violation(path, Rule::VendorUses)),
            None if name == "sdk" || source.file == "src/connectors.rs" => {}
            None if name == "testkit" && source.file.starts_with("tests/") => {}
            None => found.push(source.violation(path, Rule::VendorNamed)),
        }
    }
}

fn check_directions(source: &Source, found: &mut Vec<Violation>) {
    let Some(own) = source.file.strip_prefix("src/").map(room_of_file) else { return };
    let Some((_, may_use)) = ROOMS.iter().find(|(room, _)| *room == own) else {
        let file = source.file.to_owned();
        found.push(Violation { file, line: 0, found: own.to_owned(), rule: Rule::Rooms });
        return;
    };
    for path in &source.paths {
        let Some(room) = source.room_named_by(path) else { continue };
        if !ROOMS.iter().any(|(known, _)| *known == room) {
            found.push(source.violation(path, Rule::Rooms));
        } else if room != own && !may_use.contains(&room) {
            found.push(source.violation(path, Rule::Directions));
        }
    }
}

/// `store/log.rs` and `store/mod.rs` lie in `store`, `daemon.rs` is `daemon`.
fn room_of_file(below_src: &str) -> &str {
    below_src.split_once('/').map_or_else(|| below_src.strip_suffix(".rs").unwrap_or(below_src), |(room, _)| room)
}

fn check_seams(source: &Source, found: &mut Vec<Violation>) {
    let file = source.file;
    let imports_client = source
        .paths
        .iter()
        .any(|path| path.is_use && path.parts.windows(2).any(|window| window == ["reqwest", "Client"]));
    for path in &source.paths {
        let names = |words: &[&str]| path.parts.windows(words.len()).any(|window| window == words);
        let starts_a_task = names(&["tokio", "spawn"])
            || names(&["task", "spawn"])
            || names(&["thread", "spawn"])
            || names(&["thread", "Builder"])
            || ["spawn_blocking", "spawn_local", "JoinSet", "TaskTracker"].iter().any(|word| names(&[word]));
        if starts_a_task && !allowed(file, &STARTS_TASKS) {
            found.push(source.violation(path, Rule::Tasks));
        }
        // A room may have a Client of its own; reqwest's is meant.
        let is_reqwests = imports_client || path.first() == "reqwest";
        let makes_client = names(&["Client", "new"]) || names(&["Client", "builder"]);
        let is_client = (is_reqwests && makes_client) || names(&["ClientBuilder"]);
        if is_client && !allowed(file, &BUILDS_CLIENTS) {
            found.push(source.violation(path, Rule::Clients));
        }
        if names(&["SystemClock"]) && !allowed(file, &MAKES_CLOCKS) {
            found.push(source.violation(path, Rule::Clocks));
        }
        if names(&["Generator", "from_os"]) && !allowed(file, &MAKES_ENTROPY) {
            found.push(source.violation(path, Rule::Entropies));
        }
        let is_backoff = path.first() == "backoff" && (path.parts.len() > 1 || path.is_use);
        if is_backoff && file != "src/lms/absorb/client.rs" {
            found.push(source.violation(path, Rule::Backoff));
        }
        let sleeps = names(&["time", "sleep"]) || names(&["thread", "sleep"]) || names(&["time", "interval"]);
        if sleeps && file.starts_with("connectors/") {
            found.push(source.violation(path, Rule::ConnectorSleeps));
        }
        let is_macro = path.next == "!" && path.parts.len() == 1;
        if is_macro && ["println", "print", "eprintln", "eprint"].contains(&path.first()) && !allowed(file, &PRINTS) {
            found.push(source.violation(path, Rule::Printing));
        }
        let is_call = path.after_dot && path.first() == "deliver" && path.next == "(";
        if is_call && file.starts_with("src/") && file != "src/pipeline/deliver.rs" {
            found.push(source.violation(path, Rule::OneDeliverer));
        }
        if path.previous == "mod" && NAMELESS.contains(&path.first()) {
            found.push(source.violation(path, Rule::Names));
        }
    }
}

// ---- Reading a source file: enough of Rust to know its paths ----------------------------------------------------------------

struct Source<'a> {
    file: &'a str,
    paths: Vec<Usage>,
}

/// One path as it stands in the code, groups of a `use` resolved: `use a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Usage {
    line: usize,
    parts: Vec<String>,
    is_use: bool,
    after_dot: bool,
    /// The token before the path, and the one after it.
    previous: String,
    next: String,
    /// How many inline modules it stands in.
    inline_depth: usize,
}

impl Usage {
    fn first(&self) -> &str {
        self.parts.first().map_or("", String::as_str)
    }
}

struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
    }
}

impl<'a> Source<'a> {
    fn read(file: &'a str, text: &str) -> Self {
        let tokens = without_tests(tokens(&blanked(text)));
        Self { file, paths: usages(&tokens) }
    }

    fn violation(&self, path: &Usage, rule: Rule) -> Violation {
        Violation { file: self.file.to_owned(), line: path.line, found: path.parts.join("::"), rule }
    }

    /// The room that a path names from the top of the crate; none for paths that stay below, or lead into another crate.
    fn room_named_by<'p>(&self, path: &'p Usage) -> Option<&'p str> {
        let part = |index: usize| path.parts.get(index).map(String::as_str);
        match path.first() {
            "crate" => part(1),
            // main.rs is a crate of its own, which calls the library by its name.
            "learnsync" if self.file == "src/main.rs" => part(1),
            "super" => {
                let ups = path.parts.iter().take_while(|part| *part == "super").count();
                (ups == self.depth() + path.inline_depth).then(|| part(ups)).flatten()
            }
            _ => None,
        }
        .filter(|room| *room != "*")
    }

    /// How many modules deep the file lies: `lib.rs` 0, `store/mod.rs` 1, `store/log.rs` 2.
    fn depth(&self) -> usize {
        let below = self.file.strip_prefix("src/").unwrap_or(self.file);
        match below {
            "lib.rs" | "main.rs" => 0,
            _ => below.split('/').filter(|part| *part != "mod.rs").count(),
        }
    }
}

/// The text with comments and the insides of strings as spaces; line ends stay.
fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut index = 0;
    while index < chars.len() {
        let end = match (at(index), at(index + 1)) {
            ('/', '/') => (index..chars.len()).find(|next| at(*next) == '\n').unwrap_or(chars.len()),
            ('/', '*') => end_of_block_comment(&chars, index),
            ('"', _) => end_of_string(&chars, index),
            ('r', '"' | '#') if !follows_word(&chars, index) => end_of_raw_string(&chars, index),
            ('b' | 'c', 'r') if !follows_word(&chars, index) => end_of_raw_string(&chars, index + 1),
            ('\'', '\\') => {
                (index + 3..chars.len()).find(|next| at(*next) == '\'').map_or(chars.len(), |next| next + 1)
            }
            ('\'', _) if at(index + 2) == '\'' => index + 3,
            _ => index,
        };
        if end <= index {
            out.push(at(index));
            index += 1;
            continue;
        }
        out.extend(chars[index..end.min(chars.len())].iter().map(|letter| if *letter == '\n' { '\n' } else { ' ' }));
        index = end;
    }
    out
}

fn follows_word(chars: &[char], index: usize) -> bool {
    // `b"` and `br"` begin a string too: the letter before is then no word of its own.
    index > 0 && (chars[index - 1].is_alphanumeric() || chars[index - 1] == '_')
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut index) = (0_usize, start);
    while index < chars.len() {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => (depth, index) = (depth + 1, index + 2),
            ('*', Some('/')) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < chars.len() {
        match chars[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    chars.len()
}

/// The end of `r#"..."#` that begins at its `r`; the start itself when it is none (a raw identifier, an ordinary word).
fn end_of_raw_string(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|letter| **letter == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return 0;
    }
    let mut index = start + 2 + hashes;
    while index < chars.len() {
        let closes = chars[index] == '"'
            && chars[index + 1..].iter().take(hashes).filter(|letter| **letter == '#').count() == hashes;
        if closes {
            return index + 1 + hashes;
        }
        index += 1;
    }
    chars.len()
}

/// Words, `::`, and all other signs one by one.
fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
            let length = if is_word(first) {
                rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { line: number + 1, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Leaves out what stands behind `#[cfg(test)]`: a module with its braces, or one item.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    let mut matched = 0;
    while let Some(token) = rest.next() {
        matched = match token.text.as_str() {
            text if text == MARK[matched] => matched + 1,
            text => usize::from(text == MARK[0]),
        };
        kept.push(token);
        if matched < MARK.len() {
            continue;
        }
        matched = 0;
        kept.truncate(kept.len() - MARK.len());
        let mut depth = 0_usize;
        for skipped in rest.by_ref() {
            match skipped.text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            // The item ends with its body, or with a semicolon; an attribute between ends with neither.
            if depth == 0 && matches!(skipped.text.as_str(), "}" | ";") {
                break;
            }
        }
    }
    kept
}

fn usages(tokens: &[Token]) -> Vec<Usage> {
    let mut found = Vec::new();
    // The brace depths at which inline modules began.
    let (mut modules, mut depth) = (Vec::new(), 0_usize);
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
        match token.text.as_str() {
            "{" => {
                if index >= 2 && text(index - 2) == "mod" {
                    modules.push(depth);
                }
                depth += 1;
            }
            "}" => {
                depth = depth.saturating_sub(1);
                if modules.last() == Some(&depth) {
                    modules.pop();
                }
            }
            _ => {}
        }
        let leads = text(index) == "::" && tokens.get(index + 1).is_some_and(Token::is_word);
        if !token.is_word() && !leads {
            index += 1;
            continue;
        }
        let previous = if index > 0 { text(index - 1) } else { "" };
        let start = Usage {
            previous: previous.to_owned(),
            is_use: previous == "use",
            after_dot: previous == ".",
            inline_depth: modules.len(),
            ..Usage::default()
        };
        index = read_path(tokens, if leads { index + 1 } else { index }, &start, &mut found);
    }
    found
}

/// Reads one path from its first word, and pushes each leaf; answers where it ends.
fn read_path(tokens: &[Token], mut index: usize, start: &Usage, found: &mut Vec<Usage>) -> usize {
    let mut path = start.clone();
    while let Some(token) = tokens.get(index) {
        if token.is_word() || token.text == "*" {
            path.line = token.line;
            path.parts.push(token.text.clone());
            index += 1;
        } else if token.text == "{" && !path.parts.is_empty() {
            return read_group(tokens, index + 1, &path, found);
        } else {
            break;
        }
        match tokens.get(index) {
            Some(next) if next.text == "::" => index += 1,
            _ => break,
        }
    }
    path.next = tokens.get(index).map(|token| token.text.clone()).unwrap_or_default();
    found.push(path);
    index
}

fn read_group(tokens: &[Token], mut index: usize, prefix: &Usage, found: &mut Vec<Usage>) -> usize {
    while let Some(token) = tokens.get(index) {
        match token.text.as_str() {
            "}" => return index + 1,
            _ if token.is_word() || token.text == "*" => index = read_path(tokens, index, prefix, found),
            _ => index += 1,
        }
        // `b as c` inside a group: the new name is no path.
        if tokens.get(index).is_some_and(|token| token.text == "as") {
            index += 2;
        }
    }
    index
}

// ---- The rules at work ------------------------------------------------------------------------------------------------------

fn tree_of(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
}

/// A small house in order, to plant violations in.
fn healthy_tree() -> Tree {
    tree_of(&[
        ("README.md", "# A house"),
        ("src/main.rs", "//! The command.\nfn main() { learnsync::cli::run() }"),
        ("src/lib.rs", "//! The rooms.\npub mod cli;\npub mod daemon;"),
        ("src/daemon.rs", "//! Builds.\nuse crate::store::Store;\nfn f() { tokio::spawn(g()); Client::builder(); }"),
        ("src/connectors.rs", "//! The list.\nuse learnsync_acme::Acme;\nuse learnsync_sdk::ConnectorType;"),
        ("src/store/mod.rs", "//! The ledger.\nuse crate::domain::{event::RawEvent, time::Clock};\nmod log;"),
        ("src/store/log.rs", "//! The log.\nuse super::Store;\nuse super::super::domain::time::Clock;"),
        ("src/pipeline/deliver.rs", "//! Writes.\nasync fn f() { connector.deliver(&batch).await; }"),
        ("src/lms/absorb/client.rs", "//! Reads.\nuse backoff::ExponentialBackoff;"),
        ("src/http/mod.rs", ""),
        ("connectors/README.md", "# Connectors"),
        ("connectors/sdk/Cargo.toml", "[dependencies]\nserde = \"1\""),
        ("connectors/sdk/src/lib.rs", "//! The sdk."),
        ("connectors/testkit/Cargo.toml", "[dependencies]\nlearnsync-sdk.workspace = true"),
        ("connectors/testkit/src/lib.rs", "//! The kit.\nuse learnsync_sdk::Connector;"),
        (
            "connectors/acme/Cargo.toml",
            "[dependencies]\nlearnsync-sdk.workspace = true\n[dev-dependencies]\nlearnsync-testkit.workspace = true",
        ),
        ("connectors/acme/src/lib.rs", "//! Acme.\nuse learnsync_sdk::Connector;"),
        ("connectors/acme/tests/suite.rs", "use learnsync_acme::Acme;\nuse learnsync_testkit::suite;"),
        ("connectors/other/Cargo.toml", "[dependencies]\nlearnsync-sdk.workspace = true"),
        ("connectors/other/src/lib.rs", "//! Other."),
        ("tests/README.md", "# Tests"),
        ("tests/it/main.rs", "fn f() { tokio::spawn(g()); println!(); }"),
    ])
}

fn planted(file: &str, text: &str) -> Vec<Violation> {
    let mut tree = healthy_tree();
    tree.insert(file.to_owned(), text.to_owned());
    violations(&tree)
}

/// One planted violation a line: the rule, the file, its text, the line where it must be found.
const PLANTED: [(Rule, &str, &str, usize); 41] = [
    (Rule::Directions, "src/store/log.rs", "//! x\nuse crate::pipeline::plan;", 2),
    (Rule::Directions, "src/store/log.rs", "//! x\nuse crate::{domain::event, lms::Lms};", 2),
    (Rule::Directions, "src/store/log.rs", "//! x\nuse crate::{\n    domain,\n    lms::{Lms, LmsError as _},\n};", 4),
    (Rule::Directions, "src/store/log.rs", "//! x\nfn f() -> crate::lms::Lms {}", 2),
    (Rule::Directions, "src/store/log.rs", "//! x\nuse super::super::lms::Lms;", 2),
    (Rule::Directions, "src/store/mod.rs", "//! x\nuse super::lms;", 2),
    (Rule::Directions, "src/store/mod.rs", "//! x\nmod inner {\n    use super::super::lms::Lms;\n}", 3),
    (Rule::Directions, "src/main.rs", "//! x\nfn main() { learnsync::daemon::run() }", 2),
    (Rule::Directions, "src/lib.rs", "//! x\npub mod store;\npub use crate::store::Store;", 3),
    (Rule::Directions, "src/daemon.rs", "//! x\nuse crate::cli::Run;", 2),
    (Rule::Rooms, "src/queue/mod.rs", "//! A room that nobody knows.", 0),
    (Rule::Rooms, "src/store/log.rs", "//! x\nuse crate::Store;", 2),
    (Rule::VendorNamed, "src/daemon.rs", "//! x\nuse learnsync_acme::Acme;", 2),
    (Rule::VendorNamed, "tests/it/main.rs", "fn f() { ::learnsync_acme::build() }", 1),
    (Rule::VendorUses, "connectors/acme/src/lib.rs", "//! x\nuse learnsync::store::Store;", 2),
    (Rule::VendorUses, "connectors/acme/src/lib.rs", "//! x\nuse learnsync_other::Other;", 2),
    (Rule::VendorUses, "connectors/acme/src/lib.rs", "//! x\nuse learnsync_testkit::suite;", 2),
    (Rule::VendorUses, "connectors/testkit/src/lib.rs", "//! x\nuse learnsync_acme::Acme;", 2),
    (Rule::VendorUses, "connectors/sdk/src/lib.rs", "//! x\nuse learnsync_testkit::suite;", 2),
    (Rule::VendorDependencies, "connectors/acme/Cargo.toml", "[dependencies]\nlearnsync = { path = \"../..\" }", 2),
    (Rule::VendorDependencies, "connectors/acme/Cargo.toml", "[dependencies]\nlearnsync-testkit.workspace = true", 2),
    (
        Rule::VendorDependencies,
        "connectors/acme/Cargo.toml",
        "[dev-dependencies]\nkit = { package = \"learnsync-other\", path = \"../other\" }",
        2,
    ),
    (Rule::VendorDependencies, "connectors/sdk/Cargo.toml", "[dependencies]\nlearnsync-testkit.workspace = true", 2),
    (Rule::ConnectorSleeps, "connectors/acme/src/lib.rs", "//! x\nasync fn f() { tokio::time::sleep(d).await }", 2),
    (Rule::Tasks, "src/pipeline/worker.rs", "//! x\nfn f() { tokio::spawn(g()); }", 2),
    (Rule::Tasks, "src/pipeline/worker.rs", "//! x\nuse tokio::{sync::Notify, spawn};", 2),
    (Rule::Tasks, "src/pipeline/worker.rs", "//! x\nuse tokio::task::JoinSet;", 2),
    (Rule::Tasks, "src/store/log.rs", "//! x\nfn f() { std::thread::spawn(g); }", 2),
    (Rule::Tasks, "connectors/acme/src/lib.rs", "//! x\nfn f() { tokio::task::spawn_blocking(g); }", 2),
    (Rule::Clients, "src/lms/absorb/client.rs", "//! x\nfn f() { reqwest::Client::builder() }", 2),
    (Rule::Clients, "connectors/acme/src/lib.rs", "//! x\nuse reqwest::ClientBuilder;", 2),
    (Rule::Clocks, "src/store/log.rs", "//! x\nuse crate::domain::time::{Clock, SystemClock};", 2),
    (Rule::Entropies, "src/store/log.rs", "//! x\nfn f() { Generator::from_os() }", 2),
    (Rule::Backoff, "src/pipeline/retry.rs", "//! x\nuse backoff;", 2),
    (Rule::Backoff, "connectors/acme/src/lib.rs", "//! x\nfn f() { backoff::retry(g) }", 2),
    (
        Rule::OneDeliverer,
        "src/reconcile/mod.rs",
        "//! x\nasync fn f() {\n    target\n        .deliver(&b).await;\n}",
        4,
    ),
    (Rule::Printing, "src/pipeline/plan.rs", "//! x\nfn f() { println!(); }", 2),
    (Rule::Names, "src/store/utils.rs", "//! x", 0),
    (Rule::Names, "src/store/mod.rs", "//! x\nmod helpers {}", 2),
    (Rule::Readmes, "packaging/build.sh", "#!/bin/sh", 0),
    (Rule::FirstLines, "src/store/log.rs", "use super::Store;", 1),
];

#[test]
fn every_planted_violation_is_found_at_its_line_and_nothing_else_is() {
    for (rule, file, text, line) in PLANTED {
        let found = planted(file, text);
        let places: Vec<(Rule, usize)> = found.iter().map(|violation| (violation.rule, violation.line)).collect();
        assert_eq!(places, [(rule, line)], "planted in {file}:\n{text}\nfound: {found:#?}");
        assert!(found[0].to_string().ends_with(rule.sentence()), "{} does not explain itself", found[0]);
    }
}

#[test]
fn no_rule_is_without_a_planted_violation() {
    for rule in Rule::ALL {
        assert!(PLANTED.iter().any(|(planted, ..)| *planted == rule), "{rule:?} is never seen to fail");
    }
}

#[test]
fn a_house_in_order_has_no_violations() {
    assert_eq!(violations(&healthy_tree()), []);
}

#[test]
fn each_room_may_use_exactly_what_its_line_lists() {
    for (own, may_use) in ROOMS {
        let file = match own {
            "main" | "lib" | "daemon" | "connectors" | "telemetry" => format!("src/{own}.rs"),
            _ => format!("src/{own}/planted.rs"),
        };
        for (room, _) in ROOMS {
            let found = planted(&file, &format!("//! x\nuse crate::{room}::Thing;"));
            let is_allowed = own == room || may_use.contains(&room);
            assert_eq!(found.is_empty(), is_allowed, "{own} uses {room}: {found:#?}");
        }
    }
}

#[test]
fn what_stands_in_comments_strings_and_tests_is_no_use() {
    let text = r##"//! x
// use crate::pipeline::plan;
/* use crate::pipeline::plan; /* nested */ println!(); */
const A: &str = "use crate::pipeline; \" tokio::spawn";
const B: &str = r#"println!("crate::pipeline::x")"#;
const C: &[u8] = b"\"crate::pipeline::x";
const QUOTE: char = '"';
const TICK: char = '\'';
fn f<'a>(a: &'a str) -> &'a str { a }
#[cfg(test)]
use crate::pipeline::plan;
#[cfg(test)]
#[expect(dead_code, reason = "planted")]
mod tests {
    use crate::pipeline::plan;
    #[test]
    fn spawns() { tokio::spawn(async {}); }
}
"##;
    assert_eq!(planted("src/store/log.rs", text), []);
    let after = format!("{text}\nuse crate::pipeline::plan;");
    let found = planted("src/store/log.rs", &after);
    assert_eq!(found.len(), 1, "what follows the tests counts again: {found:#?}");
    assert_eq!(found[0].line, text.lines().count() + 2);
}

#[test]
fn names_that_only_look_like_ours_are_no_use() {
    let text = "//! x\nfn f() { let backoff = 1; let learnsync_version = 2; self.deliveries(); shutdown::deliver(3); }\n\
                pub(crate) struct Spawned;\npub(in crate::store) fn g() {}";
    assert_eq!(planted("src/store/log.rs", text), []);
}

#[test]
fn a_client_of_a_rooms_own_is_no_http_client_but_an_imported_one_is() {
    let own = "//! x\nuse super::client::Client;\nfn f() { Client::new(wire) }";
    assert_eq!(planted("src/lms/absorb/mod.rs", own), []);
    let imported = "//! x\nuse reqwest::{Client, StatusCode};\nfn f() { Client::builder() }";
    let found = planted("src/lms/absorb/mod.rs", imported);
    assert_eq!(
        found.iter().map(|violation| (violation.rule, violation.line)).collect::<Vec<_>>(),
        [(Rule::Clients, 3)]
    );
}

#[test]
fn this_repository_has_no_violations() {
    let tree = read_tree(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(tree.contains_key("src/lib.rs") && tree.contains_key("tests/tidy.rs"), "the tree was not read");
    let found = violations(&tree);
    let lines: Vec<String> = found.iter().map(Violation::to_string).collect();
    assert!(found.is_empty(), "\n{}\n", lines.join("\n"));
}

/// Reads the repository: all paths, and the texts of the files that a rule reads.
fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository can be listed") {
            let path = entry.expect("a folder of the repository can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Cargo marks its target folders with this tag, wherever they lie.
            if name.starts_with('.') || path.join("CACHEDIR.TAG").exists() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_read = name.ends_with(".rs") || name == "Cargo.toml";
            let text = if is_read { std::fs::read_to_string(&path).expect("sources are UTF-8") } else { String::new() };
            let below = path.strip_prefix(root).expect("it lies below the root").to_string_lossy().replace('\\', "/");
            tree.insert(below, text);
        }
    }
    tree
}
