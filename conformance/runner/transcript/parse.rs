//! Parser of transcripts. An error names the line and what was expected there.

use super::{
    Action, Case, Condition, Expr, Keys, Saturation, Step,
    person::person,
    word::{LineError, Parsed, capability, is_person, string},
};
use crate::rules;

/// A syntax error.
#[derive(Debug)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What was expected and what was found.
    pub sentence: String,
}

/// Reads a whole file. `id` is `area/case`.
pub fn case(id: &str, text: &str) -> Result<Case, ParseError> {
    let mut case = Case {
        id: id.to_owned(),
        title: String::new(),
        why: String::new(),
        rules: Vec::new(),
        needs: Vec::new(),
        lacks: Vec::new(),
        when: Vec::new(),
        names: Vec::new(),
        asks_password: None,
        listed: Vec::new(),
        needs_data: false,
        keys: Keys::Ignored,
        draft: false,
        steps: Vec::new(),
    };
    let mut lines = Lines::new(text);
    while let Some((number, line)) = lines.peek() {
        // "rules:" with nothing after it is a header still, of a draft for one.
        let header_line = line
            .split_once(": ")
            .or_else(|| Some((line.strip_suffix(':')?, "")));
        let Some((key, value)) = header_line.filter(|(key, _)| is_header(key)) else {
            break;
        };
        header(&mut case, key, value.trim()).map_err(|sentence| ParseError {
            line: number,
            sentence,
        })?;
        lines.next();
    }
    let (steps, _) = block(&mut lines, &["<the end>"])?;
    case.steps = steps;
    Ok(case)
}

fn is_header(key: &str) -> bool {
    matches!(
        key,
        "title"
            | "rules"
            | "why"
            | "needs"
            | "lacks"
            | "when"
            | "names"
            | "password"
            | "listed"
            | "data"
            | "keys"
            | "status"
    )
}

fn header(case: &mut Case, key: &str, value: &str) -> Parsed<()> {
    let words = || value.split_whitespace().map(str::to_owned).collect();
    match key {
        "title" => case.title = value.to_owned(),
        "why" => case.why = value.to_owned(),
        "rules" => case.rules = words(),
        "needs" | "lacks" => {
            let capabilities = words();
            capabilities
                .iter()
                .try_for_each(|c| capability(c).map(|_| ()))?;
            match key {
                "needs" => case.needs = capabilities,
                _ => case.lacks = capabilities,
            }
        }
        "when" => {
            let conditions = value.split(',').map(Condition::parse);
            case.when = conditions.collect::<Parsed<_>>()?;
        }
        "names" => case.names = words(),
        "listed" => case.listed = words(),
        "password" => {
            case.asks_password = Some(match value {
                "asked" => true,
                "not asked" => false,
                _ => {
                    return Err(format!(
                        "expected \"password: asked\" or \"password: not asked\", found {value:?}"
                    ));
                }
            });
        }
        "data" if value == "kept" => case.needs_data = true,
        "data" => return Err(format!("expected \"data: kept\", found {value:?}")),
        "keys" => {
            case.keys = match value {
                "known" => Keys::Known,
                "owned names" => Keys::Owning,
                _ => {
                    return Err(format!(
                        "expected \"keys: known\" or \"keys: owned names\", found {value:?}"
                    ));
                }
            };
        }
        _ if value == "draft" => case.draft = true,
        _ => return Err(format!("expected \"status: draft\", found {value:?}")),
    }
    Ok(())
}

/// The lines that say something, numbered, comments and blank ones left out.
struct Lines<'a> {
    lines: Vec<(usize, &'a str)>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let lines = text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .collect();
        Self { lines, at: 0 }
    }

    fn peek(&self) -> Option<(usize, &'a str)> {
        self.lines.get(self.at).copied()
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.peek();
        self.at += 1;
        line
    }
}

/// Reads steps up to one of the closing words, or to the end of the file when
/// none of them is a word of the notation.
fn block(lines: &mut Lines<'_>, closing: &[&str]) -> Result<(Vec<Step>, String), ParseError> {
    let mut steps = Vec::new();
    // Where the block was opened.
    let mut last_line = lines
        .at
        .checked_sub(1)
        .and_then(|i| lines.lines.get(i))
        .map_or(1, |l| l.0);
    while let Some((number, line)) = lines.next() {
        last_line = number;
        let fail = |sentence: String| ParseError {
            line: number,
            sentence,
        };
        if closing.contains(&line) {
            return Ok((steps, line.to_owned()));
        }
        if let Some(count) = line.strip_prefix("repeat ") {
            let count = Expr::parse(count).map_err(fail)?;
            let (inner, _) = block(lines, &["end"])?;
            steps.push(step(
                number,
                Vec::new(),
                Action::Repeat {
                    count,
                    steps: inner,
                },
            ));
        } else if line == "in any order" {
            let mut lanes = Vec::new();
            loop {
                let (lane, word) = block(lines, &["and", "end"])?;
                lanes.push(lane);
                if word == "end" {
                    break;
                }
            }
            if lanes
                .iter()
                .flatten()
                .any(|s| !matches!(s.action, Action::Receive { .. }))
            {
                return Err(fail(
                    "expected only \"receives\" and \"hears\" in any order".to_owned(),
                ));
            }
            steps.push(step(number, Vec::new(), Action::AnyOrder(lanes)));
        } else {
            // A body may go on in the next lines: read on while its JSON is not at its end.
            let mut text = line.to_owned();
            loop {
                while let Some((_, more)) = lines.peek().filter(|(_, more)| more.starts_with("or "))
                {
                    text.push(' ');
                    text.push_str(more);
                    lines.next();
                }
                match simple(&text) {
                    Ok((blame, actions)) => {
                        steps.extend(actions.into_iter().map(|a| step(number, blame.clone(), a)));
                        break;
                    }
                    Err(LineError::Unfinished) if lines.peek().is_some() => {
                        text.push(' ');
                        text.push_str(lines.next().map_or("", |(_, more)| more));
                    }
                    Err(LineError::Unfinished) => {
                        return Err(fail("expected the end of a JSON body".to_owned()));
                    }
                    Err(LineError::Wrong(sentence)) => return Err(fail(sentence)),
                }
            }
        }
    }
    if closing.contains(&"<the end>") {
        return Ok((steps, String::new()));
    }
    Err(ParseError {
        line: last_line,
        sentence: format!(
            "expected {:?} before the end of the file",
            closing.join("\" or \"")
        ),
    })
}

fn step(line: usize, rules: Vec<String>, action: Action) -> Step {
    Step {
        line,
        rules,
        action,
    }
}

/// Parses one line: the rules at its end, and its actions.
fn simple(line: &str) -> Result<(Vec<String>, Vec<Action>), LineError> {
    let mut line = line.trim();
    let mut blame = Vec::new();
    while let Some((head, rule)) = line.rsplit_once(" @").filter(|(_, r)| rules::is_id(r)) {
        blame.insert(0, rule.to_owned());
        line = head.trim_end();
    }
    let whole = match line {
        "the server still serves" => Some(Action::Serves),
        "the server starts again" => Some(Action::Restarts),
        "the server is killed" => Some(Action::Kills),
        "the server comes back" => Some(Action::ComesBack),
        "the server is told to end" => Some(Action::Stops),
        "the server ends" => Some(Action::Ends),
        "the server fills up" => Some(Action::Saturate(Saturation::Server)),
        "the address fills up" => Some(Action::Saturate(Saturation::Address)),
        "the address connects too often" => Some(Action::Saturate(Saturation::AddressRate)),
        "otherwise the case ends" => Some(Action::Otherwise),
        "client starts" => Some(Action::ClientStarts { password: None }),
        "client joins" => Some(Action::ClientJoins {
            capabilities: Vec::new(),
        }),
        "client comes back" => Some(Action::ClientComesBack),
        "client has not come back" => Some(Action::ClientStaysAway),
        "client's input ends" => Some(Action::InputEnds),
        "client ends" => Some(Action::ClientEnds),
        "client fails and says why" => Some(Action::ClientFails),
        _ => None,
    };
    if let Some(action) = whole {
        return Ok((blame, vec![action]));
    }
    if let Some(expr) = line.strip_prefix("everybody is silent for ") {
        return Ok((blame, vec![Action::Silence(Expr::parse(expr)?)]));
    }
    if let Some(words) = line.strip_prefix("the operator runs ") {
        return Ok((blame, vec![Action::Operates(string(words)?)]));
    }
    if let Some(expr) = line
        .strip_prefix("a crowd of ")
        .and_then(|l| l.strip_suffix(" joins"))
    {
        return Ok((blame, vec![Action::Crowd(Expr::parse(expr)?)]));
    }
    if let Some((who, receiver)) = line
        .strip_prefix("each chat of ")
        .and_then(|l| l.strip_suffix(" or is refused"))
        .and_then(|l| l.split_once(" reaches "))
    {
        let action = Action::Accounts {
            who: who.to_owned(),
            receiver: receiver.to_owned(),
        };
        return Ok((blame, vec![action]));
    }
    if let Some(people) = line.strip_suffix(" hear the same to the end") {
        let people = people.split(" and ").map(str::to_owned).collect();
        return Ok((blame, vec![Action::SameEnd(people)]));
    }
    let (who, rest) = line
        .split_once(' ')
        .filter(|(who, _)| is_person(who))
        .ok_or_else(|| {
            format!("expected a step such as \"alice joins\", \"alice says ...\" or \"the server still serves\", found {line:?}")
        })?;
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let actions = person(who, verb, rest.trim())?;
    Ok((blame, actions))
}
