//! Rules of packages: layers, forbidden dependencies, shared lints.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{File, Finding};

/// Packages below this layer know no async runtime, but for those in [`RUNTIME_PACKAGES`].
const RUNTIME_LAYER: u64 = 3;

/// The seams to the runtime and the transport over them.
const RUNTIME_PACKAGES: [&str; 2] = ["duramen-env", "duramen-net"];

/// Packages that may know the Raft library: the one that binds it, and tests.
const RAFT_PACKAGES: [&str; 2] = ["duramen-raft", "duramen-tests"];

/// Checks the layer table and the dependencies of every package.
pub(super) fn check(metadata: &Value) -> Vec<Finding> {
    let layers = layers(metadata);
    let mut findings = Vec::new();
    for package in array(&metadata["packages"]) {
        let name = text(&package["name"]);
        let Some(layer) = layers.get(name) else {
            findings.push(Finding::new(name, 0, "not in [workspace.metadata.layers]"));
            continue;
        };
        for dependency in array(&package["dependencies"]) {
            // Tests may look anywhere.
            if dependency["kind"] == "dev" {
                continue;
            }
            findings.extend(check_edge(&layers, (name, *layer), text(&dependency["name"])));
        }
    }
    findings
}

fn check_edge(
    layers: &BTreeMap<&str, u64>,
    (name, layer): (&str, u64),
    dependency: &str,
) -> Option<Finding> {
    let rule = match layers.get(dependency) {
        Some(below) if *below >= layer => {
            format!("in layer {layer} cannot depend on {dependency} in layer {below}")
        }
        None if dependency.starts_with("tokio")
            && layer < RUNTIME_LAYER
            && !RUNTIME_PACKAGES.contains(&name) =>
        {
            format!(
                "in layer {layer} cannot depend on {dependency}: layers below {RUNTIME_LAYER} know no runtime"
            )
        }
        None if dependency.starts_with("openraft") && !RAFT_PACKAGES.contains(&name) => {
            format!("cannot depend on {dependency}: only duramen-raft knows it")
        }
        _ => return None,
    };
    Some(Finding::new(name, 0, rule))
}

fn layers(metadata: &Value) -> BTreeMap<&str, u64> {
    let table = metadata["metadata"]["layers"].as_object();
    let entries = table.into_iter().flatten();
    entries.filter_map(|(name, layer)| Some((name.as_str(), layer.as_u64()?))).collect()
}

/// Checks that a package takes the workspace's lints.
pub(super) fn check_manifest(file: &File) -> Option<Finding> {
    let is_package = file.path.ends_with("Cargo.toml")
        && file.text.lines().any(|line| line.trim() == "[package]");
    // A package outside the workspace has no lints to take.
    let stands_alone = file.text.lines().any(|line| line.trim() == "[workspace]");
    let takes = file.text.replace([' ', '\r'], "").contains("[lints]\nworkspace=true\n");
    (is_package && !stands_alone && !takes)
        .then(|| Finding::new(&file.path, 0, "needs [lints] workspace = true"))
}

/// Checks that arithmetic is checked in what is shipped: a number that wraps would go on as data.
pub(super) fn check_profile(file: &File) -> Option<Finding> {
    let line = |line: &str| line.replace([' ', '\r'], "");
    if let Some(place) = file.text.lines().position(|text| line(text) == "overflow-checks=false") {
        return Some(Finding::new(&file.path, place + 1, "overflow checks stay on"));
    }
    let mut section = String::new();
    let is_on = file.text.lines().any(|text| {
        if text.starts_with('[') {
            section = text.trim().to_owned();
        }
        section == "[profile.release]" && line(text) == "overflow-checks=true"
    });
    (file.path == "Cargo.toml" && !is_on)
        .then(|| Finding::new(&file.path, 0, "needs overflow-checks = true in [profile.release]"))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The rules broken by packages with these dependencies.
    fn broken(packages: &[(&str, &[&str])]) -> Vec<String> {
        let dependency = |name: &&str| match name.strip_suffix(" (dev)") {
            Some(name) => json!({ "name": name, "kind": "dev" }),
            None => json!({ "name": name, "kind": null }),
        };
        let package = |(name, dependencies): &(&str, &[&str])| {
            let dependencies: Vec<Value> = dependencies.iter().map(dependency).collect();
            json!({ "name": name, "dependencies": dependencies })
        };
        let layers = json!({
            "duramen-types": 0, "duramen-env": 1, "duramen-record": 1, "duramen-log": 2,
            "duramen-raft": 3, "duramen-broker": 4,
        });
        let packages: Vec<Value> = packages.iter().map(package).collect();
        let metadata = json!({ "packages": packages, "metadata": { "layers": layers } });
        check(&metadata).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_package_depends_on_lower_layers_only() {
        assert!(broken(&[("duramen-log", &["duramen-types", "duramen-env", "bytes"])]).is_empty());
        assert_eq!(
            broken(&[("duramen-record", &["duramen-env"])]),
            ["duramen-record: in layer 1 cannot depend on duramen-env in layer 1"]
        );
        assert_eq!(broken(&[("duramen-log", &["duramen-broker"])]).len(), 1);
        assert!(broken(&[("duramen-log", &["duramen-broker (dev)"])]).is_empty());
    }

    #[test]
    fn every_package_has_a_layer() {
        assert_eq!(broken(&[("new", &[])]), ["new: not in [workspace.metadata.layers]"]);
    }

    #[test]
    fn the_low_layers_know_no_runtime() {
        assert_eq!(broken(&[("duramen-log", &["tokio"])]).len(), 1);
        assert_eq!(broken(&[("duramen-record", &["tokio-util"])]).len(), 1);
        assert!(broken(&[("duramen-env", &["tokio"]), ("duramen-raft", &["tokio"])]).is_empty());
    }

    #[test]
    fn one_package_knows_the_raft_library() {
        assert!(broken(&[("duramen-raft", &["openraft"])]).is_empty());
        assert_eq!(broken(&[("duramen-broker", &["openraft"])]).len(), 1);
    }

    #[test]
    fn a_package_takes_the_lints_of_the_workspace() {
        let manifest = |text: &str| {
            check_manifest(&File { path: "crates/a/Cargo.toml".into(), text: text.into() })
        };
        assert!(manifest("[package]\nname = \"a\"\n").is_some());
        assert!(manifest("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n").is_none());
        assert!(manifest("[workspace]\nmembers = []\n").is_none());
    }

    #[test]
    fn a_release_checks_its_arithmetic() {
        let broken = |text: &str| {
            check_profile(&File { path: "Cargo.toml".into(), text: text.into() })
                .map(|finding| finding.to_string())
        };
        assert_eq!(broken("[profile.release]\noverflow-checks = true\n"), None);
        for missing in ["", "[profile.release]\n[profile.dev]\noverflow-checks = true\n"] {
            let needs = "Cargo.toml: needs overflow-checks = true in [profile.release]";
            assert_eq!(broken(missing).as_deref(), Some(needs));
        }
        let off = "[profile.release]\noverflow-checks = true\n[profile.release.package.a]\n\
                   overflow-checks = false\n";
        assert_eq!(broken(off).as_deref(), Some("Cargo.toml:4: overflow checks stay on"));
    }
}
