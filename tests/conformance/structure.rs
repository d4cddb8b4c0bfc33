//! Structure of the runner's source: no import circles, and no long files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The longest file of the runner.
const LINES_MAX: usize = 500;

fn runner() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/runner")
}

/// All files below a folder, with their texts.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let text = fs::read_to_string(&path).expect("text");
            found.push((path, text));
        }
    }
    found.sort();
    found
}

/// The modules that a text names after `root::`, its tests and comments left out.
fn uses(text: &str, root: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code
        .lines()
        .map(|l| l.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(&format!("{root}::")) {
        let rest = &code[at + root.len() + 2..];
        let mut depth = 0;
        let mut word = String::new();
        let mut is_first = true;
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => is_first = true,
                c if c.is_alphanumeric() || c == '_' => {
                    word.push(c);
                    continue;
                }
                _ => {}
            }
            if !word.is_empty() {
                if is_first {
                    found.insert(std::mem::take(&mut word));
                }
                is_first = c == ',' && depth == 1;
                word.clear();
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// A way from a module back to itself.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    for start in uses.keys() {
        let mut open = vec![vec![start.clone()]];
        let mut seen = BTreeSet::new();
        while let Some(way) = open.pop() {
            for next in way
                .last()
                .and_then(|last| uses.get(last))
                .into_iter()
                .flatten()
            {
                if next == start {
                    return Some(format!("{} -> {start}", way.join(" -> ")));
                }
                if seen.insert(next.clone()) {
                    open.push([way.as_slice(), std::slice::from_ref(next)].concat());
                }
            }
        }
    }
    None
}

/// What each module of a folder uses of the others; `parent` is the file that
/// declares them.
fn graph(folder: &Path, parent: &str, root: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in files(folder) {
        let below = path.strip_prefix(folder).expect("below the folder");
        let first = below.iter().next().expect("a name").to_string_lossy();
        if first != parent {
            let module = first.trim_end_matches(".rs").to_owned();
            graph.entry(module).or_default().extend(uses(&text, root));
        }
    }
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for (module, used) in &mut graph {
        used.retain(|name| name != module && modules.contains(name));
    }
    graph
}

#[test]
fn no_module_of_the_runner_depends_on_itself() {
    let modules = graph(&runner(), "main.rs", "crate");
    assert!(modules["run"].contains("play"), "{modules:?}");
    assert_eq!(circle(&modules), None);
    let modules = graph(&runner().join("transcript"), "mod.rs", "super");
    assert!(modules["parse"].contains("person"), "{modules:?}");
    assert_eq!(circle(&modules), None);
}

/// Every duration is one that `--timeout-scale` multiplies. A signal's are none of the
/// target's.
#[test]
fn every_duration_of_the_runner_can_be_scaled() {
    let mut found = 0;
    for (path, text) in files(&runner()) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_literal = |at: &usize| code[*at..].starts_with(|c: char| c.is_ascii_digit());
        let durations = ["from_secs(", "from_millis(", "from_micros("]
            .iter()
            .flat_map(|word| code.match_indices(word).map(|(at, _)| at + word.len()))
            .filter(is_literal)
            .count();
        let may_have = path.ends_with("timing.rs") || path.ends_with("interrupt.rs");
        assert!(durations == 0 || may_have, "{}", path.display());
        found += durations;
    }
    assert!(found > 10, "the durations were not found");
}

#[test]
fn no_file_of_the_runner_is_long() {
    for (path, text) in files(&runner()) {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}
