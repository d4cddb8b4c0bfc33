//! Suite: the cases, embedded in the runner or read from a folder, and their selection.

use std::{fs, path::Path};

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::{
    ladder::Ladder,
    rules::{Level, Rule},
    text_file,
    transcript::{Case, Side, parse, word},
};

/// The transcripts that the runner carries inside: path and text.
const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/transcripts.rs"));

/// The list of rules that no case can show, with the reasons.
const UNCOVERED: &str = "uncovered.txt";

/// The rungs of `--ladder`, and what to do about a broken rule. A folder of transcripts
/// that has none of its own takes those inside the runner.
const LADDER: &str = "ladder.txt";
const ADVICE: &str = "advice.txt";

/// How deep folders of transcripts may be nested.
const FOLDER_DEPTH_MAX: usize = 8;

/// Everything that a folder of transcripts holds.
pub struct Suite {
    /// The cases, in the order of their ids.
    pub cases: Vec<Case>,
    /// Their files' texts, by id.
    pub texts: Vec<(String, String)>,
    /// `uncovered.txt`: rule and reason.
    pub uncovered: Vec<(String, String)>,
    /// `advice.txt`: rule, and what to do about it.
    pub advice: Vec<(String, String)>,
    /// `ladder.txt`: which case stands on which rung.
    pub ladder: Ladder,
}

impl Suite {
    /// Loads the embedded transcripts, or those of a folder. The error names file,
    /// line and what was expected.
    pub fn load(folder: Option<&Path>) -> Result<Self, String> {
        let mut files = Vec::new();
        match folder {
            Some(folder) => read_folder(folder, folder, FOLDER_DEPTH_MAX, &mut files)?,
            None => files.extend(EMBEDDED.iter().map(|it| embedded(*it))),
        }
        for missing in [LADDER, ADVICE] {
            if files.iter().all(|(name, _)| name != missing) {
                let inside = EMBEDDED.iter().find(|(name, _)| *name == missing);
                files.extend(inside.map(|it| embedded(*it)));
            }
        }
        files.sort();
        let place = folder.map_or_else(
            || "conformance/transcripts".into(),
            |f| f.display().to_string(),
        );
        let mut suite = Self {
            cases: Vec::new(),
            texts: Vec::new(),
            uncovered: Vec::new(),
            advice: Vec::new(),
            ladder: Ladder::default(),
        };
        for (name, text) in files {
            if let Some(id) = name.strip_suffix(".chat") {
                let case = parse::case(id, &text)
                    .map_err(|e| format!("{place}/{name}:{}: {}", e.line, e.sentence))?;
                suite.cases.push(case);
                suite.texts.push((id.to_owned(), text));
                continue;
            }
            let fail = |e| format!("{place}/{name}:{e}");
            match name.as_str() {
                UNCOVERED => suite.uncovered = commented_lines(&text, "a rule").map_err(fail)?,
                ADVICE => suite.advice = commented_lines(&text, "a rule").map_err(fail)?,
                LADDER => suite.ladder = Ladder::parse(&text).map_err(fail)?,
                _ => {}
            }
        }
        if suite.cases.is_empty() {
            return Err(format!("{place} holds no transcript (*.chat)"));
        }
        Ok(suite)
    }

    /// What to do about a broken rule, in a sentence.
    pub fn advice(&self, rule: &str) -> Option<&str> {
        let line = self.advice.iter().find(|(id, _)| id == rule);
        line.map(|(_, advice)| advice.as_str())
    }

    /// The case with this id.
    pub fn case(&self, id: &str) -> Option<&Case> {
        self.cases.iter().find(|c| c.id == id)
    }
}

fn embedded((name, text): (&str, &str)) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

fn read_folder(
    root: &Path,
    folder: &Path,
    depth: usize,
    files: &mut Vec<(String, String)>,
) -> Result<(), String> {
    if depth == 0 {
        return Err(format!("{} is nested too deep", folder.display()));
    }
    let fail = |e: std::io::Error| format!("{} cannot be read: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.is_dir() {
            read_folder(root, &path, depth - 1, files)?;
            continue;
        }
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        if name.ends_with(".chat") || [UNCOVERED, LADDER, ADVICE].contains(&name.as_str()) {
            files.push((name, text_file::read(&path)?));
        }
    }
    Ok(())
}

/// Lines of `WORD  # reason`; the error begins with the line's number.
pub fn commented_lines(text: &str, what: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, reason) = line
            .split_once('#')
            .map(|(word, reason)| (word.trim(), reason.trim()))
            .filter(|(word, reason)| !word.is_empty() && !word.contains(' ') && !reason.is_empty())
            .ok_or_else(|| {
                format!(
                    "{}: expected {what}, then \"# reason\", found {line:?}",
                    i + 1
                )
            })?;
        found.push((word.to_owned(), reason.to_owned()));
    }
    Ok(found)
}

/// The filters of the command line; an empty list selects everything.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Selection {
    /// Only cases of this area (framing, order, ...); again for more.
    #[arg(long = "area", value_name = "AREA")]
    pub areas: Vec<String>,
    /// Only cases whose area/case matches this glob; again for more.
    #[arg(long = "case", value_name = "GLOB")]
    pub cases: Vec<String>,
    /// Only cases that prove this rule; again for more.
    #[arg(long = "rule", value_name = "ID")]
    pub rules: Vec<String>,
    /// Only cases that prove a rule of this weight: MUST, SHOULD or MAY; again for more.
    #[arg(long = "level", value_name = "LEVEL")]
    pub levels: Vec<String>,
    /// Only cases that need this capability, or "none"; again for more.
    #[arg(long = "capability", value_name = "NAME")]
    pub capabilities: Vec<String>,
}

impl Selection {
    /// The cases of one side that are asked for. A word that matches nothing is an
    /// error: it would make a run smaller than its user believes.
    pub fn apply(&self, suite: &Suite, rules: &[Rule], side: Side) -> Result<Vec<Case>, String> {
        let of_side = || suite.cases.iter().filter(|c| c.side() == side);
        let globs = globs(&self.cases)?;
        for area in &self.areas {
            if !of_side().any(|c| in_area(c, area)) {
                let mut areas: Vec<&str> = of_side().map(Case::area).collect();
                areas.dedup();
                return Err(format!(
                    "there is no area {area:?}; there are {}",
                    areas.join(", ")
                ));
            }
        }
        for (glob, text) in globs.iter().zip(&self.cases) {
            if !of_side().any(|c| glob.is_match(&c.id)) {
                return Err(format!(
                    "no case matches {text:?}; see chat-conformance list"
                ));
            }
        }
        for id in &self.rules {
            if !rules.iter().any(|r| r.id == *id) {
                return Err(format!(
                    "the schema has no rule {id:?}; see chat-conformance list --rules"
                ));
            }
        }
        let levels = self
            .levels
            .iter()
            .map(|level| match level.to_ascii_uppercase().as_str() {
                "MUST" => Ok(Level::Must),
                "SHOULD" => Ok(Level::Should),
                "MAY" => Ok(Level::May),
                _ => Err(format!(
                    "{level:?} is no weight of a rule; write MUST, SHOULD or MAY"
                )),
            })
            .collect::<Result<Vec<_>, _>>()?;
        for capability in self.capabilities.iter().filter(|c| *c != "none") {
            word::capability(capability)?;
        }
        let level_of = |id: &String| rules.iter().find(|r| r.id == *id).map(|r| r.level);
        let selected: Vec<Case> = of_side()
            .filter(|c| self.areas.is_empty() || self.areas.iter().any(|a| in_area(c, a)))
            .filter(|c| globs.is_empty() || globs.iter().any(|g| g.is_match(&c.id)))
            .filter(|c| self.rules.is_empty() || self.rules.iter().any(|r| c.rules.contains(r)))
            .filter(|c| {
                levels.is_empty()
                    || c.rules
                        .iter()
                        .filter_map(level_of)
                        .any(|l| levels.contains(&l))
            })
            .filter(|c| {
                self.capabilities.is_empty()
                    || self.capabilities.iter().any(|wanted| {
                        c.needs.contains(wanted) || (wanted == "none" && c.needs.is_empty())
                    })
            })
            .cloned()
            .collect();
        if selected.is_empty() {
            return Err("no case passes all filters; see chat-conformance list".to_owned());
        }
        Ok(selected)
    }
}

/// Whether a case is of this area; the areas of clients go by both names.
fn in_area(case: &Case, area: &str) -> bool {
    case.area() == area || case.area().strip_prefix("client/") == Some(area)
}

fn globs(patterns: &[String]) -> Result<Vec<GlobSet>, String> {
    patterns
        .iter()
        .map(|pattern| {
            let glob = Glob::new(pattern).map_err(|e| format!("{pattern:?} is no glob: {e}"))?;
            GlobSetBuilder::new()
                .add(glob)
                .build()
                .map_err(|e| e.to_string())
        })
        .collect()
}

/// The failures that are known: case or glob, and the reason.
#[derive(Default)]
pub struct KnownFailures(Vec<(GlobSet, String)>);

impl KnownFailures {
    /// Reads the file's text. A line that matches none of the suite's cases is an error.
    pub fn parse(path: &str, text: &str, suite: &Suite) -> Result<Self, String> {
        let mut known = Vec::new();
        let lines = commented_lines(text, "a case").map_err(|e| format!("{path}:{e}"))?;
        for (pattern, reason) in lines {
            let set = globs(std::slice::from_ref(&pattern))?
                .pop()
                .ok_or_else(|| format!("{path}: {pattern:?} is no glob"))?;
            if !suite.cases.iter().any(|c| set.is_match(&c.id)) {
                return Err(format!(
                    "{path}: no case matches {pattern:?}; take the line out"
                ));
            }
            known.push((set, reason));
        }
        Ok(Self(known))
    }

    /// Why this case is known to fail, if it is.
    pub fn reason(&self, case: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(set, _)| set.is_match(case))
            .map(|(_, reason)| reason.as_str())
    }
}
