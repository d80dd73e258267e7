//! Rules of files: sizes, first lines, words that do not belong.

use super::{File, Finding};

/// Lines of a file before its tests.
const LINES_MAX: usize = 500;

/// A file that must be longer says so and why.
const LONGER: &str = "//! Longer than 500 lines: ";

/// Where Rust files follow the house style.
const RUST_DIRS: [&str; 4] = ["crates/", "tests/", "benches/", "xtask/"];

/// Where the Raft library may be named: by the one crate that binds it, by tests, by these rules.
const RAFT_DIRS: [&str; 3] = ["crates/duramen-raft/", "tests/", "xtask/"];

/// The one crate with unsafe code, and the program that stands in for the system's clock.
const UNSAFE_DIRS: [&str; 2] = ["crates/duramen-env/", "tests/src/bin/duramen-sim.rs"];

// These are in two parts so that this file does not break its own rules.
const LATER: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
const ATTRIBUTES: [&str; 2] = [concat!("#[", "ignore"), concat!("#[should_", "panic")];
const UNSAFE: [&str; 5] = [
    concat!("unsafe", " {"),
    concat!("unsafe", " fn"),
    concat!("unsafe", " impl"),
    concat!("unsafe", " extern"),
    concat!("unsafe", "_code"),
];
/// Words of the machines that this was written on.
const FORBIDDEN: [&str; 3] = [concat!("fa", "rm-"), concat!("/wo", "rk/"), concat!(".lib", "rary")];

/// Checks the rules of every text file.
pub(super) fn check_text(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let mut broken = |rule: String| findings.push(Finding::new(&file.path, number, rule));
        if line.ends_with([' ', '\t']) {
            broken("trailing whitespace".into());
        }
        for word in FORBIDDEN.iter().filter(|word| line.contains(**word)) {
            broken(format!("{word:?} does not belong here"));
        }
    }
    findings
}

/// Checks the rules of a Rust file.
pub(super) fn check_rust(file: &File) -> Vec<Finding> {
    if !is_below(file, &RUST_DIRS) {
        return Vec::new();
    }
    let mut findings = check_shape(file);
    for (number, line) in (1..).zip(file.text.lines()) {
        let mut broken = |rule: String| findings.push(Finding::new(&file.path, number, rule));
        for word in LATER.iter().filter(|word| line.contains(**word)) {
            broken(format!("{word}: do it, or write an issue"));
        }
        for attribute in ATTRIBUTES.iter().filter(|attribute| line.contains(**attribute)) {
            broken(format!("{attribute}]: a test runs, and says what it expects"));
        }
        if line.trim_start().starts_with("//") {
            continue;
        }
        if !is_below(file, &UNSAFE_DIRS) && UNSAFE.iter().any(|word| line.contains(word)) {
            broken("unsafe code outside duramen-env".into());
        }
        if !is_below(file, &RAFT_DIRS) && line.contains("openraft") {
            broken("only duramen-raft names openraft".into());
        }
    }
    findings
}

fn check_shape(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = file.text.lines().find(|line| !line.starts_with("#!"));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        findings.push(Finding::new(&file.path, 1, "the first line says what the file is for: //!"));
    }
    if file.path.ends_with("/mod.rs") {
        findings.push(Finding::new(&file.path, 0, "foo.rs and foo/, not foo/mod.rs"));
    }
    let lines = lines_before_tests(file);
    if lines > LINES_MAX && !file.text.lines().any(|line| line.starts_with(LONGER)) {
        let rule = format!("{lines} lines, at most {LINES_MAX} before the tests");
        findings.push(Finding::new(&file.path, 0, rule));
    }
    findings
}

/// The lines up to an inline test module; none if the whole file is one.
fn lines_before_tests(file: &File) -> usize {
    if file.path.contains("/src/")
        && (file.path.ends_with("/tests.rs") || file.path.contains("/tests/"))
    {
        return 0;
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let starts_tests = |pair: &[&str]| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    };
    lines.windows(2).position(starts_tests).unwrap_or(lines.len())
}

fn is_below(file: &File, dirs: &[&str]) -> bool {
    dirs.iter().any(|dir| file.path.starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(path: &str, text: &str) -> Vec<String> {
        let file = File { path: path.into(), text: text.into() };
        check_rust(&file).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_line_says_what_the_file_is_for() {
        let path = "crates/a/src/lib.rs";
        assert!(rust(path, "//! A.\nfn a() {}\n").is_empty());
        assert!(rust(path, "#![no_std]\n//! A.\n").is_empty());
        assert_eq!(
            rust(path, "fn a() {}\n"),
            ["crates/a/src/lib.rs:1: the first line says what the file is for: //!"]
        );
        assert_eq!(rust(path, "").len(), 1);
        assert!(rust("examples/a.rs", "").is_empty(), "not a place of the house style");
    }

    #[test]
    fn a_file_has_500_lines_before_its_tests() {
        let path = "crates/a/src/long.rs";
        let code = |lines: usize| format!("//! A.\n{}", "// x\n".repeat(lines - 1));
        assert!(rust(path, &code(500)).is_empty());
        assert_eq!(rust(path, &code(501)).len(), 1);
        let tests =
            format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", code(500), "// x\n".repeat(900));
        assert!(rust(path, &tests).is_empty());
        let early = format!("//! A.\n#[cfg(test)]\nmod tests;\n{}", code(500));
        assert_eq!(rust(path, &early).len(), 1, "a test module elsewhere ends nothing");
        assert!(rust("crates/a/src/long/tests.rs", &code(900)).is_empty());
        assert_eq!(rust("tests/src/main.rs", &code(501)).len(), 1);
        let reason = format!("//! A.\n{LONGER}one table.\n{}", code(900));
        assert!(rust(path, &reason).is_empty());
    }

    #[test]
    fn some_words_do_not_belong_in_code() {
        let one = |text: &str| rust("crates/a/src/a.rs", &format!("//! A.\n{text}\n")).len();
        for word in LATER {
            assert_eq!(one(&format!("// {word} later")), 1);
        }
        for attribute in ATTRIBUTES {
            assert_eq!(one(&format!("{attribute}]")), 1);
        }
        assert_eq!(one("let a = 1; // why"), 0);
    }

    #[test]
    fn what_is_unsafe_and_openraft_have_one_home() {
        let text = |word: &str| format!("//! A.\nlet a = {word} a();\n");
        for word in UNSAFE {
            assert_eq!(rust("crates/duramen-log/src/a.rs", &text(word)).len(), 1, "{word}");
            assert!(rust("crates/duramen-env/src/a.rs", &text(word)).is_empty());
        }
        let raft = text("openraft::a;");
        assert_eq!(rust("crates/duramen-broker/src/a.rs", &raft).len(), 1);
        assert!(rust("crates/duramen-raft/src/a.rs", &raft).is_empty());
        assert!(rust("tests/src/a.rs", &raft).is_empty());
        assert!(rust("crates/duramen-log/src/a.rs", "//! A.\n// not openraft\n").is_empty());
    }

    #[test]
    fn no_file_is_named_mod() {
        assert_eq!(rust("crates/a/src/a/mod.rs", "//! A.\n").len(), 1);
        assert!(rust("crates/a/src/a.rs", "//! A.\n").is_empty());
    }

    #[test]
    fn lines_end_where_they_end() {
        let text = |text: &str| check_text(&File { path: "a.md".into(), text: text.into() });
        assert_eq!(text("a \n\tb\nc\t\n").len(), 2);
        for word in FORBIDDEN {
            assert_eq!(text(&format!("see {word}x\n")).len(), 1);
        }
        assert!(text("a\n").is_empty());
    }
}
