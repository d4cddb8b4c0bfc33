//! What the tree promises about itself: the schema's rules and those who cite
//! them, and the walls between the parts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use chat::wire::SCHEMA;

/// MUSTs that no line of the server or the client can enforce.
const NOT_CITED: [(&str, &str); 0] = [];

/// The parts that know no IO, no clock and no chance, so that they can be
/// simulated; and what they must not mention.
const PURE: [&str; 55] = [
    "src/session",
    "src/room",
    "src/cluster",
    "src/name.rs",
    "src/text.rs",
    "src/filter.rs",
    "src/token_bucket.rs",
    "src/password/mod.rs",
    "src/log",
    "src/frame.rs",
    "src/limits",
    "src/limits.rs",
    "src/server/eviction.rs",
    "src/server/expiry.rs",
    "src/server/followers.rs",
    "src/server/address_limiter.rs",
    "src/server/proxy_header.rs",
    "src/server/read_buffer.rs",
    "src/server/reply_buffer.rs",
    "src/server/slow_consumer.rs",
    "src/client/wrap.rs",
    "src/client/sanitize.rs",
    "src/config_file.rs",
    "src/client/app/config.rs",
    "src/client/app/json.rs",
    "src/client/app/json_input.rs",
    "src/client/app/line_messages.rs",
    "src/nearest.rs",
    "src/client/app/time_format.rs",
    "src/client/app/screen/attention.rs",
    "src/client/app/screen/cells.rs",
    "src/client/app/screen/choose.rs",
    "src/client/app/screen/colour.rs",
    "src/client/app/screen/command.rs",
    "src/client/app/screen/composer.rs",
    "src/client/app/screen/draw.rs",
    "src/client/app/screen/events.rs",
    "src/client/app/screen/find.rs",
    "src/client/app/screen/history.rs",
    "src/client/app/screen/keys.rs",
    "src/client/app/screen/link.rs",
    "src/client/app/screen/log.rs",
    "src/client/app/screen/model.rs",
    "src/client/app/screen/notify.rs",
    "src/client/app/screen/outbox.rs",
    "src/client/app/screen/rows.rs",
    "src/client/app/screen/run.rs",
    "src/client/app/screen/scroll.rs",
    "src/client/app/screen/search.rs",
    "src/client/app/screen/sequence.rs",
    "src/client/app/screen/settings.rs",
    "src/client/app/screen/view_list.rs",
    "src/client/app/screen/views.rs",
    "src/client/resume.rs",
    "src/client/follow.rs",
];
const IMPURE: [&str; 12] = [
    "tokio",
    "socket2",
    "std::net",
    "std::io",
    "std::fs",
    "std::env",
    "Instant",
    "SystemTime",
    "getrandom",
    "HashMap",
    "HashSet",
    "tracing",
];

/// The one module that may have unsafe code.
const UNSAFE: &str = "src/log/segment.rs";

struct Rule {
    text: String,
}

/// The rules as the schema's head says they are written.
fn rules() -> Vec<(String, Rule)> {
    let mut rules: Vec<(String, Rule)> = Vec::new();
    let mut is_open = false;
    for line in SCHEMA.lines() {
        let Some(comment) = line.trim_start().strip_prefix("//").map(str::trim) else {
            is_open = false;
            continue;
        };
        let id = comment.split_once(": ").map(|(id, _)| id);
        if let Some(id) = id.filter(|id| is_rule_id(id)) {
            let text = comment[id.len() + 2..].to_owned();
            rules.push((id.to_owned(), Rule { text }));
            is_open = true;
        } else if comment.is_empty() {
            is_open = false;
        } else if is_open && let Some((_, rule)) = rules.last_mut() {
            rule.text.push(' ');
            rule.text.push_str(comment);
        }
    }
    rules
}

/// `CHAT-AREA-1`.
fn is_rule_id(word: &str) -> bool {
    let mut parts = word.split('-');
    parts.next() == Some("CHAT")
        && parts
            .next()
            .is_some_and(|area| !area.is_empty() && area.chars().all(|c| c.is_ascii_uppercase()))
        && parts
            .next()
            .is_some_and(|number| number.parse::<u32>().is_ok())
        && parts.next().is_none()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` that git would track, with their texts. Generated
/// and binary files are no text.
fn texts(folder: &str) -> Vec<(PathBuf, String)> {
    let mut texts = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(path) = open.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if ["__pycache__", "node_modules", "target"].contains(&&*name) || name.starts_with('.')
            {
                continue;
            }
            let entries = fs::read_dir(&path).expect("a folder of the project");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).expect("below the root");
            texts.push((path.to_owned(), text));
        }
    }
    texts.sort();
    texts
}

/// The ids that a text cites.
fn cited(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .map(|word| word.trim_end_matches('-'))
        .filter(|word| is_rule_id(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_rule_has_its_own_id_a_subject_and_one_word_of_weight() {
    let rules = rules();
    assert!(rules.len() > 80, "the schema's rules were not found");
    let mut seen = BTreeSet::new();
    for (id, rule) in &rules {
        assert!(seen.insert(id), "{id} stands twice in the schema");
        let weights = rule
            .text
            .split(|c: char| !c.is_ascii_alphabetic())
            .filter(|word| ["MUST", "SHOULD", "MAY"].contains(word))
            .count();
        assert_eq!(
            weights, 1,
            "{id} has {weights} words of weight: {}",
            rule.text
        );
        assert!(
            rule.text.starts_with("A server ") || rule.text.starts_with("A client "),
            "{id} begins with neither end: {}",
            rule.text
        );
        assert!(
            rule.text.ends_with('.'),
            "{id} is no sentence: {}",
            rule.text
        );
    }
}

#[test]
fn every_id_that_is_cited_is_in_the_schema() {
    let known: BTreeSet<_> = rules().into_iter().map(|(id, _)| id).collect();
    let mut places = 0;
    for folder in [
        "src",
        "tests",
        "conformance",
        "benches",
        "docs",
        "fuzz/bodies",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
        "SECURITY.md",
        "proto",
    ] {
        if !root().join(folder).exists() {
            continue;
        }
        for (path, text) in texts(folder) {
            if path == Path::new("tests/tidy.rs") {
                continue;
            }
            for id in cited(&text) {
                assert!(
                    known.contains(&id),
                    "{} cites {id}, which is no rule",
                    path.display()
                );
                places += 1;
            }
        }
    }
    assert!(places > 100, "the citations were not found");
}

#[test]
fn every_must_is_cited_by_code() {
    let mut citations: BTreeMap<String, usize> = BTreeMap::new();
    for (path, text) in texts("src") {
        if path.extension().is_some_and(|extension| extension == "rs") {
            for id in cited(&text) {
                *citations.entry(id).or_default() += 1;
            }
        }
    }
    let excused: BTreeSet<_> = NOT_CITED.iter().map(|&(id, _)| id).collect();
    let mut missing = Vec::new();
    for (id, rule) in rules() {
        if !rule.text.contains("MUST") {
            continue;
        }
        let is_cited = citations.contains_key(&id);
        assert!(
            !(is_cited && excused.contains(id.as_str())),
            "{id} is cited, so it needs no excuse"
        );
        if !is_cited && !excused.contains(id.as_str()) {
            missing.push(format!("{id}: {}", rule.text));
        }
    }
    assert!(missing.is_empty(), "no code cites\n{}", missing.join("\n"));
}

/// The lines of a text that are code.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
}

#[test]
fn the_rules_know_no_io_no_clock_and_no_chance() {
    let mut files = 0;
    for part in PURE {
        if !root().join(part).exists() {
            panic!("{part} is gone: a wall around nothing");
        }
        for (path, text) in texts(part) {
            // Tests may use what they like.
            if path.ends_with("tests.rs") {
                continue;
            }
            files += 1;
            for (number, line) in code(&text) {
                for word in IMPURE {
                    assert!(
                        !line.contains(word),
                        "{}:{number} mentions {word}",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(files >= PURE.len());
}

#[test]
fn unsafe_code_stands_in_one_module() {
    let mut is_found = false;
    for (path, text) in texts("src") {
        let has_unsafe = code(&text).any(|(_, line)| {
            line.contains("unsafe {") || line.contains("unsafe impl") || line.contains("unsafe fn")
        });
        is_found |= has_unsafe;
        assert_eq!(has_unsafe, path == Path::new(UNSAFE), "{}", path.display());
    }
    assert!(is_found);
}

#[test]
fn the_suite_shares_nothing_with_the_server_but_the_schema() {
    if !root().join("conformance").exists() {
        return;
    }
    for (path, text) in texts("conformance") {
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        for (number, line) in code(&text) {
            for (index, _) in line.match_indices("chat::") {
                let rest = &line[index + "chat::".len()..];
                let is_other = line[..index]
                    .chars()
                    .next_back()
                    .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
                // How an address, a file and a capture are written, which certificate is
                // trusted and how QUIC connects is no part of the protocol.
                let is_shared = ["wire", "files", "capture", "address", "pin", "tls", "quic"]
                    .iter()
                    .any(|name| rest.starts_with(name));
                assert!(
                    is_other || is_shared,
                    "{}:{number} uses more of the library than the schema's types: {line}",
                    path.display()
                );
            }
        }
    }
}

/// What a `use` names, one path each, `{...}` written out.
fn paths_of(import: &str) -> Vec<String> {
    let Some((head, group)) = import.split_once('{') else {
        return vec![import.trim().to_owned()];
    };
    let group = group.trim_end().trim_end_matches('}');
    let mut members = vec![String::new()];
    let mut depth = 0;
    for c in group.chars() {
        match c {
            ',' if depth == 0 => members.push(String::new()),
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                members.last_mut().expect("never empty").push(c);
            }
        }
    }
    let whole = |member: &String| format!("{}{}", head.trim(), member.trim());
    members
        .iter()
        .map(whole)
        .flat_map(|path| paths_of(&path))
        .collect()
}

/// The modules of the library, each with the modules that it imports, tests aside.
fn imports() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let module = |path: &Path| -> Vec<String> {
        let path = path.with_extension("");
        let names = path
            .iter()
            .skip(1)
            .map(|it| it.to_string_lossy().into_owned());
        names
            .filter(|name| name != "mod" && name != "lib")
            .collect()
    };
    let texts: Vec<_> = texts("src")
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|it| it == "rs"))
        .collect();
    let modules: BTreeSet<_> = texts.iter().map(|(path, _)| module(path)).collect();
    let mut imports = BTreeMap::new();
    for (path, text) in &texts {
        let here = module(path);
        let text = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        let code: String = code(text).map(|(_, line)| format!("{line} ")).collect();
        let named = code
            .split(';')
            .filter_map(|item| item.rsplit_once("use ").map(|(_, import)| import))
            .flat_map(paths_of);
        let mut edges = BTreeSet::new();
        for import in named {
            let mut target = here.clone();
            for (index, word) in import.split("::").enumerate() {
                match word.trim() {
                    "crate" => target.clear(),
                    "self" => {}
                    "super" => drop(target.pop()),
                    // Another crate, or a child named without `self`.
                    _ if index == 0 => break,
                    name => target.push(name.to_owned()),
                }
            }
            // The longest part of the path that is a module; the rest is in it.
            while !modules.contains(&target) && target.pop().is_some() {}
            edges.insert(target);
        }
        imports.insert(here, edges);
    }
    imports
}

/// A module may know what it consists of and what it is part of; of two others, at most
/// one knows the other, whatever stands between them.
#[test]
fn no_modules_import_each_other() {
    let imports = imports();
    assert!(imports.len() > 40, "the modules were not found");
    for start in imports.keys() {
        let is_kin = |a: &[String], b: &[String]| a.starts_with(b) || b.starts_with(a);
        let mut reached = BTreeMap::new();
        let mut open = vec![start];
        while let Some(module) = open.pop() {
            for next in &imports[module] {
                if !is_kin(module, next)
                    && imports.contains_key(next)
                    && !reached.contains_key(next)
                {
                    reached.insert(next, module);
                    open.push(next);
                }
            }
        }
        let mut way = vec![start.join("::")];
        let mut at = start;
        while let Some(&before) = reached.get(at) {
            way.push(before.join("::"));
            at = before;
            if at == start || way.len() > imports.len() {
                break;
            }
        }
        assert!(!reached.contains_key(start), "a circle, backwards: {way:?}");
    }
}

#[test]
fn the_proofs_that_the_threat_model_names_exist() {
    let model = fs::read_to_string(root().join("SECURITY.md")).expect("a threat model");
    let code: String = ["src", "tests"]
        .into_iter()
        .flat_map(texts)
        .map(|(_, text)| text)
        .collect();
    let is_test = |word: &&str| {
        word.matches('_').count() > 1 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let mut named = 0;
    for name in model.split('`').filter(is_test) {
        named += 1;
        let is_there = code.contains(&format!("fn {name}("));
        assert!(is_there, "SECURITY.md names {name}, which is no test");
    }
    assert!(named > 20, "the names were not found");
}

/// The pages for people, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let top = fs::read_dir(root()).expect("the project");
    let top = top.map(|entry| entry.expect("an entry").file_name());
    let folders = ["docs", "conformance", "benches", "examples", "fuzz"].map(Into::into);
    let mut pages: Vec<_> = top
        .filter(|name| Path::new(name).extension() == Some("md".as_ref()))
        .chain(folders)
        .flat_map(|name| texts(&name.to_string_lossy()))
        .collect();
    pages.retain(|(path, _)| path.extension() == Some("md".as_ref()));
    pages
}

/// The lines of a page outside its blocks of code, with their numbers.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    page.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((index + 1, line))
    })
}

/// What stands in backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The anchors of a page's headings, as forges make them.
fn anchors(page: &str) -> BTreeSet<String> {
    prose(page)
        .filter_map(|(_, line)| Some(line.strip_prefix('#')?.trim_start_matches('#')))
        .map(|heading| {
            let heading = heading.trim().to_lowercase().replace(' ', "-");
            heading
                .chars()
                .filter(|&c| c.is_alphanumeric() || c == '-' || c == '_')
                .collect()
        })
        .collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut links = 0;
    for (page, text) in pages() {
        for (number, line) in prose(&text) {
            for link in line.split("](").skip(1) {
                let link = link.split(')').next().unwrap_or_default();
                if link.contains("://") {
                    continue;
                }
                links += 1;
                let at = format!("{}:{number} links to {link}", page.display());
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = match path {
                    "" => root().join(&page),
                    path => root().join(&page).with_file_name("").join(path),
                };
                assert!(target.exists(), "{at}, which is not there");
                if !anchor.is_empty() {
                    let target = fs::read_to_string(&target).expect("a page with headings");
                    assert!(anchors(&target).contains(anchor), "{at}: no such heading");
                }
            }
        }
    }
    assert!(links > 30, "the links were not found");
}

#[test]
fn every_path_that_a_page_names_exists() {
    let mut paths = 0;
    for (page, text) in pages() {
        // It names nothing but what is here; others also name what their readers have.
        let is_map = page == Path::new("ARCHITECTURE.md");
        for (number, line) in prose(&text) {
            for word in quoted(line) {
                let is_word = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
                let has_border =
                    word.contains('/') || word.ends_with(".rs") || word.ends_with(".md");
                let is_path = has_border && word.chars().all(is_word);
                let first = word.split('/').next().unwrap_or_default();
                let is_ours = first != "target" && !first.is_empty() && root().join(first).exists();
                if is_path && (is_map || is_ours) {
                    paths += 1;
                    assert!(
                        root().join(word).exists(),
                        "{}:{number} names {word}, which is not there",
                        page.display()
                    );
                }
            }
        }
    }
    assert!(paths > 100, "the paths were not found");
}

/// The words of a line of code.
fn words(line: &str) -> impl Iterator<Item = &str> + Clone {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

/// What a file declares.
struct Declared<'a> {
    /// Types that it has code of, and the module that it is.
    owners: BTreeSet<&'a str>,
    /// Functions and variants.
    members: BTreeSet<&'a str>,
}

impl<'a> Declared<'a> {
    fn of(path: &'a Path, text: &'a str) -> Self {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let is_item = |word| ["impl", "struct", "enum", "trait"].contains(&word);
        let items = text.lines().filter(|line| words(line).any(is_item));
        let variants = text
            .lines()
            .filter_map(|line| words(line.trim_start()).next());
        let functions = text
            .lines()
            .filter_map(|line| words(line).skip_while(|&word| word != "fn").nth(1));
        Self {
            owners: items.flat_map(words).chain(stem).collect(),
            members: variants.chain(functions).collect(),
        }
    }
}

#[test]
fn every_function_that_the_map_names_exists() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("a map");
    let code = texts("src");
    let known: BTreeSet<_> = code
        .iter()
        .flat_map(|(_, text)| text.lines().flat_map(words))
        .collect();
    let declared: Vec<_> = code
        .iter()
        .map(|(path, text)| Declared::of(path, text))
        .collect();
    let mut functions = 0;
    for (number, line) in prose(&map) {
        for word in quoted(line) {
            let at = format!("ARCHITECTURE.md:{number} names {word}");
            if let Some((owner, member)) = word.split_once("::") {
                functions += 1;
                let is_declared = declared
                    .iter()
                    .any(|it| it.owners.contains(owner) && it.members.contains(member));
                assert!(is_declared, "{at}, which is not in src");
            } else if words(word).count() == 1 {
                let is_there = root().join(word).exists();
                assert!(
                    known.contains(word) || is_there,
                    "{at}, which is not in src"
                );
            }
        }
    }
    assert!(functions > 30, "the functions were not found");
}
