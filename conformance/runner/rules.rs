//! Rules: the numbered requirements, parsed from the comments of the schema, so that
//! the suite quotes the contract itself.

use std::fmt;

use serde::Serialize;

/// How much a rule weighs: the first such word in its sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Both ways are right.
    May,
    /// An implementation may have a good reason to do otherwise.
    Should,
    /// An implementation that breaks it is wrong.
    Must,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::May => "MAY",
            Level::Should => "SHOULD",
            Level::Must => "MUST",
        })
    }
}

/// Which ends a rule binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// "A server ..."
    Server,
    /// "A client ..."
    Client,
    /// "A server or a client ...".
    Both,
}

/// One numbered rule.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// The permanent id, `CHAT-REG-3`.
    pub id: String,
    /// Its weight.
    pub level: Level,
    /// The end that it binds.
    pub subject: Subject,
    /// The sentence, on one line.
    pub sentence: String,
    /// The heading of its part of the schema: "FRAMES".
    #[serde(skip)]
    pub heading: String,
}

/// The area of a rule, in its id: `REG`.
pub fn area(id: &str) -> &str {
    id.split('-').nth(1).unwrap_or_default()
}

/// All rules of a schema's text, in its order.
pub fn parse(schema: &str) -> Vec<Rule> {
    let mut rules: Vec<(String, String, String)> = Vec::new();
    let mut heading = String::new();
    let mut open = false;
    for line in schema.lines() {
        let Some(comment) = line.strip_prefix("//") else {
            open = false;
            continue;
        };
        let comment = comment.trim();
        if let Some((id, sentence)) = comment.split_once(": ").filter(|(id, _)| is_id(id)) {
            rules.push((id.to_owned(), sentence.to_owned(), heading.clone()));
            open = true;
        } else if comment.is_empty() {
            open = false;
        } else if is_heading(comment) {
            heading = comment.to_owned();
        } else if let (true, Some((_, sentence, _))) = (open, rules.last_mut()) {
            sentence.push(' ');
            sentence.push_str(comment);
        }
    }
    rules
        .into_iter()
        .map(|(id, sentence, heading)| Rule {
            level: level_of(&sentence),
            subject: subject_of(&sentence),
            id,
            sentence,
            heading,
        })
        .collect()
}

/// The weight of the heaviest of some rules.
pub fn heaviest(rules: &[Rule], ids: &[String]) -> Option<Level> {
    let level = |id: &String| {
        rules
            .iter()
            .find(|rule| rule.id == *id)
            .map(|rule| rule.level)
    };
    ids.iter().filter_map(level).max()
}

/// Whether this is written like a rule's id: `CHAT-`, an area, a number.
pub fn is_id(text: &str) -> bool {
    let mut parts = text.split('-');
    parts.next() == Some("CHAT")
        && parts
            .next()
            .is_some_and(|area| !area.is_empty() && area.chars().all(|c| c.is_ascii_uppercase()))
        && parts
            .next()
            .is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
        && parts.next().is_none()
}

/// Whether a line of the comments is the title of a part: capitals alone.
fn is_heading(comment: &str) -> bool {
    comment.starts_with(|c: char| c.is_ascii_uppercase())
        && comment
            .chars()
            .all(|c| c.is_ascii_uppercase() || " ()_".contains(c))
}

fn level_of(sentence: &str) -> Level {
    sentence
        .split(|c: char| !c.is_ascii_alphabetic())
        .find_map(|word| match word {
            "MUST" => Some(Level::Must),
            "SHOULD" => Some(Level::Should),
            "MAY" => Some(Level::May),
            _ => None,
        })
        .unwrap_or(Level::Must)
}

fn subject_of(sentence: &str) -> Subject {
    if sentence.starts_with("A server or a client ") {
        Subject::Both
    } else if sentence.starts_with("A client ") {
        Subject::Client
    } else {
        Subject::Server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_rule_of_the_schema_with_its_whole_sentence() {
        let rules = parse(chat::wire::SCHEMA);
        let written = chat::wire::SCHEMA
            .lines()
            .filter(|l| l.starts_with("// CHAT-") && l.contains(": "))
            .count();
        assert_eq!(rules.len(), written);
        let rule = rules.iter().find(|r| r.id == "CHAT-FRAME-2").unwrap();
        assert_eq!(
            rule.sentence,
            "A server or a client MUST write a length in the fewest bytes that can hold it."
        );
        assert_eq!((rule.level, rule.subject), (Level::Must, Subject::Both));
        assert_eq!(rule.heading, "FRAMES");
        assert!(rules.iter().all(|rule| !rule.heading.is_empty()));
        let close = rules.iter().find(|r| r.id == "CHAT-CLOSE-2").unwrap();
        assert!(close.sentence.ends_with("and close the connection."));
        assert_eq!(close.subject, Subject::Server);
    }
}
