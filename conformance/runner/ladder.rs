//! Ladder: the cases of one side as rungs, from a first answer to hostile peers, so that a
//! beginner is shown one next step and a teacher has a score. `transcripts/ladder.txt` says
//! which case stands on which rung.

use globset::{Glob, GlobMatcher};

use crate::transcript::{Case, Side};

/// One rung: its title, and the cases that it names.
struct Rung {
    side: Side,
    title: String,
    cases: Vec<Pattern>,
}

/// A case, or all that fit a pattern.
struct Pattern {
    text: String,
    glob: GlobMatcher,
}

/// The rungs of both sides.
#[derive(Default)]
pub struct Ladder {
    rungs: Vec<Rung>,
}

/// Where a case stands: the rung, from 0, and the line of it, so that places compare in the
/// order in which cases are told.
pub type Place = (usize, usize);

impl Ladder {
    /// Reads the file's text; the error begins with the line's number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rungs: Vec<Rung> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |why: &str| format!("{}: {why}, found {line:?}", i + 1);
            if let Some((side, title)) = line.split_once(": ") {
                let side = match side {
                    "server" => Side::Server,
                    "client" => Side::Client,
                    _ => return Err(fail("expected \"server: TITLE\" or \"client: TITLE\"")),
                };
                rungs.push(Rung {
                    side,
                    title: title.to_owned(),
                    cases: Vec::new(),
                });
                continue;
            }
            let rung = rungs
                .last_mut()
                .ok_or_else(|| fail("expected a rung before its cases"))?;
            let glob = Glob::new(line).map_err(|e| fail(&format!("expected a case: {e}")))?;
            rung.cases.push(Pattern {
                text: line.to_owned(),
                glob: glob.compile_matcher(),
            });
        }
        Ok(Self { rungs })
    }

    /// The titles of the rungs of a side, the lowest first.
    pub fn titles(&self, side: Side) -> Vec<&str> {
        self.of(side).map(|rung| rung.title.as_str()).collect()
    }

    /// The place of a case among the rungs of its side.
    pub fn place(&self, case: &Case) -> Place {
        let last = self.of(case.side()).count().saturating_sub(1);
        if !case.needs.is_empty() {
            return (last, 0);
        }
        let find = |fits: &dyn Fn(&Pattern) -> bool| {
            let at = |rung: &Rung| rung.cases.iter().position(fits);
            self.of(case.side())
                .enumerate()
                .find_map(|(i, rung)| Some((i, at(rung)?)))
        };
        find(&|pattern| pattern.text == case.id)
            .or_else(|| find(&|pattern| pattern.glob.is_match(&case.id)))
            .unwrap_or((last, 0))
    }

    /// The cases that the file names in full, for a check against the suite.
    #[cfg(test)]
    pub fn named(&self) -> impl Iterator<Item = &str> {
        let patterns = self.rungs.iter().flat_map(|rung| &rung.cases);
        patterns
            .map(|pattern| pattern.text.as_str())
            .filter(|text| !text.contains('*'))
    }

    fn of(&self, side: Side) -> impl Iterator<Item = &Rung> {
        self.rungs.iter().filter(move |rung| rung.side == side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    #[test]
    fn each_case_that_the_ladder_names_is_in_the_suite() {
        let suite = Suite::load(None).expect("the suite");
        let unknown: Vec<_> = suite
            .ladder
            .named()
            .filter(|id| suite.case(id).is_none())
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn every_rung_has_cases() {
        let suite = Suite::load(None).expect("the suite");
        for side in [Side::Server, Side::Client] {
            for (i, title) in suite.ladder.titles(side).iter().enumerate() {
                let cases = suite.cases.iter().filter(|case| case.side() == side);
                let on_it = cases.filter(|case| suite.ladder.place(case).0 == i);
                assert!(on_it.count() > 0, "{title}");
            }
        }
    }

    #[test]
    fn a_name_in_full_beats_a_pattern_and_a_capability_both() {
        let suite = Suite::load(None).expect("the suite");
        let rung = |id: &str| suite.ladder.place(suite.case(id).expect(id)).0;
        let titles = suite.ladder.titles(Side::Server);
        assert_eq!(titles[rung("registering/accepted")], "says hello");
        assert_eq!(
            titles[rung("leaving/connection-reset")],
            "survives hostile peers"
        );
        assert_eq!(titles[rung("names/holder-is-gone")], "grants more");
    }

    #[test]
    fn a_line_that_fits_nowhere_is_refused_with_its_number() {
        let wrong = |text: &str| Ladder::parse(text).err().expect("it is wrong");
        assert!(wrong("\na/b\n").starts_with("2: expected a rung"));
        assert!(wrong("peer: x\n").starts_with("1: expected \"server"));
    }
}
