//! Marks: the part of a member's name that tells one play of one case from every
//! other play, of this run and of others, on the same server.

use std::fmt;

/// How many characters name a run.
const RUN_CHARS: usize = 4;

/// `-29i1.5k-`: the run, then the number of the play. Neither holds a hyphen or a
/// dot, so no mark is part of another, and none is part of a name with another mark.
#[derive(Clone, Debug)]
pub struct Mark(String);

impl Mark {
    /// The mark of one play.
    pub fn new(run: &str, play: u64) -> Self {
        Self(format!("-{run}.{}-", base36(play)))
    }

    /// The name on the wire of a person in this play.
    pub fn name(&self, person: &str) -> String {
        format!("{person}{self}")
    }

    /// Whether a name, in upper or lower case, belongs to this play.
    pub fn is_in(&self, name: &str) -> bool {
        name.to_ascii_lowercase().contains(&self.0)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name of exactly this length that is still unlike all others as far as its
/// length allows.
pub fn stretched(name: &str, length: usize) -> String {
    if length >= name.len() {
        return format!("{name:x<length$}");
    }
    // The end is what differs between plays; a name begins with a letter or a digit.
    let kept = name.chars().filter(char::is_ascii_alphanumeric);
    let mut end: Vec<char> = kept.rev().take(length).collect();
    end.reverse();
    end.into_iter().collect()
}

/// A name for a run that two runs at a time are unlikely to share.
pub fn run_name() -> String {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        bytes[..4].copy_from_slice(&std::process::id().to_le_bytes());
    }
    let name = base36(u64::from_le_bytes(bytes));
    format!("{name:0>RUN_CHARS$}")[..RUN_CHARS].to_owned()
}

fn base36(mut n: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((n % 36) as u32, 36).unwrap_or('0'));
        n /= 36;
        if n == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        pattern::Bindings,
        suite::Suite,
        transcript::{Action, Content, Payload, Side, Step, expr::Limits},
    };

    /// The names that a case gives to its members, as it writes them.
    fn patterns(steps: &[Step], found: &mut BTreeSet<String>) {
        for step in steps {
            match &step.action {
                Action::Join { name, .. } => {
                    found.insert(name.clone());
                }
                Action::Send {
                    payload:
                        Payload::Frame {
                            envelope: Content::Message { kind, body, .. },
                            ..
                        },
                    ..
                } if kind == "register" => {
                    found.extend(body["name"].as_str().map(str::to_owned));
                }
                Action::Repeat { steps, .. } => patterns(steps, found),
                _ => {}
            }
        }
    }

    /// The names that each case has on the wire in the play of this mark.
    fn names(suite: &Suite, mark: &Mark) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for case in suite.cases.iter().filter(|c| c.side() == Side::Server) {
            let mut people = case.people();
            people.extend(case.names.iter().map(String::as_str));
            let mut bindings = Bindings::new(mark.clone(), &people, Limits::assumed());
            bindings.set("i", "1".to_owned());
            let mut found = BTreeSet::new();
            patterns(&case.steps, &mut found);
            names.extend(people.iter().map(|person| mark.name(person)));
            names.extend(found.iter().filter_map(|p| bindings.fill_text(p).ok()));
        }
        for helper in ["fresha", "freshb", "crowd1", "crowd15"] {
            names.insert(stretched(&mark.name(helper), 32));
            names.insert(mark.name(helper));
        }
        names
    }

    #[test]
    fn no_mark_is_part_of_a_name_of_another_play() {
        let suite = Suite::load(None).expect("the suite");
        // Around the numbers at which another digit begins, which are where one
        // number begins with another.
        let plays = [0, 1, 5, 36, 41, 180, 1296, 1476, 46_656].map(|n| n..n + 12);
        let mut marks = Vec::new();
        for run in ["0000", "29i1", "xxxx"] {
            marks.extend(plays.iter().cloned().flatten().map(|n| (run, n)));
        }
        marks.sort();
        marks.dedup();
        let marks: Vec<Mark> = marks.iter().map(|(run, n)| Mark::new(run, *n)).collect();
        let mut pairs = 0;
        for (i, mark) in marks.iter().enumerate() {
            // Lower case once, not for every mark that it is held against.
            let names = names(&suite, mark).into_iter().collect::<Vec<_>>();
            let names = names.join("\n").to_ascii_lowercase();
            let upper = mark.name("alice").to_ascii_uppercase();
            assert!(mark.is_in(&upper), "{upper} is a name of its own play");
            for (j, other) in marks.iter().enumerate() {
                if i != j {
                    assert!(
                        !names.contains(&other.0),
                        "{other} is part of one of {names}"
                    );
                    pairs += 1;
                }
            }
        }
        assert!(pairs > 40_000, "{pairs}");
    }

    #[test]
    fn names_have_the_length_that_is_asked_for() {
        let name = Mark::new("29i1", 5).name("bob");
        assert_eq!(name, "bob-29i1.5-");
        assert_eq!(stretched(&name, 14), "bob-29i1.5-xxx");
        assert_eq!(stretched(&name, 1), "5");
        assert_eq!(stretched(&name, 3), "i15");
    }
}
