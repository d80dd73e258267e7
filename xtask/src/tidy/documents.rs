//! Rules of documents: links lead somewhere, the architecture fits its pages.

use std::path::{Component, Path, PathBuf};

use super::{File, Finding};

/// Longer than this and nobody reads it.
const ARCHITECTURE_LINES_MAX: usize = 200;

/// Checks a Markdown file; `exists` tells whether a path relative to the workspace does.
pub(super) fn check(file: &File, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if file.path == "ARCHITECTURE.md" && lines > ARCHITECTURE_LINES_MAX {
        let rule = format!("{lines} lines, at most {ARCHITECTURE_LINES_MAX}");
        findings.push(Finding::new(&file.path, 0, rule));
    }
    let dir = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let mut in_code = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in links(line) {
            let leads = resolve(dir, target).is_some_and(|path| exists(&path));
            if !leads {
                let rule = format!("the link to {target:?} leads nowhere");
                findings.push(Finding::new(&file.path, number, rule));
            }
        }
    }
    findings
}

/// The relative targets of the links `[…](target)` and `[…](target "title")` in a line, without
/// their `#anchor`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?;
        let target = target.split([' ', '#']).next()?;
        let is_relative =
            !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
        is_relative.then_some(target)
    })
}

/// A link's target relative to the workspace; `None` if it leads out of it.
fn resolve(dir: &Path, target: &str) -> Option<PathBuf> {
    let from = match target.strip_prefix('/') {
        Some(absolute) => PathBuf::from(absolute),
        None => dir.join(target),
    };
    let mut path = PathBuf::new();
    for component in from.components() {
        match component {
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        let known = ["docs/a.md", "README.md", "docs"];
        let file = File { path: path.into(), text: text.into() };
        let exists = |path: &Path| known.iter().any(|known| path == Path::new(known));
        check(&file, exists).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn relative_links_lead_somewhere() {
        assert!(broken("docs/b.md", "[a](a.md#part) and [up](../README.md) [/](/docs)").is_empty());
        assert!(broken("b.md", "[x](https://example.org/a) [here](#part)").is_empty());
        assert_eq!(
            broken("docs/b.md", "see\n[a](gone.md)\n"),
            ["docs/b.md:2: the link to \"gone.md\" leads nowhere"]
        );
        assert_eq!(broken("b.md", "[out](../elsewhere.md)").len(), 1);
        assert_eq!(broken("b.md", "[a](docs/a.md \"title\") [b](no)").len(), 1);
        assert!(broken("b.md", "```\n[a](gone.md)\n```\n").is_empty());
    }

    #[test]
    fn the_architecture_has_200_lines() {
        assert!(broken("ARCHITECTURE.md", &"a\n".repeat(200)).is_empty());
        assert_eq!(broken("ARCHITECTURE.md", &"a\n".repeat(201)).len(), 1);
        assert!(broken("docs/a.md", &"a\n".repeat(201)).is_empty());
    }
}
