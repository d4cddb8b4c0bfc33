//! Topics: `#topic` and `@name`, as users type them and give them as options. Pure.

use crate::client::{Filter, NewChat, Printable};
use crate::name::is_word;

/// What a word asks to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Followed {
    Topic(String),
    Sender(String),
}

/// Understands `#topic` or `@name`.
///
/// # Errors
///
/// A sentence that says how it is written.
pub(super) fn followed(word: &str) -> Result<Followed, String> {
    if let Some(topic) = word.strip_prefix('#').filter(|it| is_word(it)) {
        return Ok(Followed::Topic(topic.to_owned()));
    }
    if let Some(name) = word.strip_prefix('@').filter(|it| is_word(it)) {
        return Ok(Followed::Sender(name.to_owned()));
    }
    Err(format!("{word} is no #topic and no @name"))
}

/// Understands a topic, with or without its `#`.
///
/// # Errors
///
/// A sentence that says how it is written.
pub(super) fn topic(word: &str) -> Result<String, String> {
    let topic = word.strip_prefix('#').unwrap_or(word);
    match is_word(topic) {
        true => Ok(topic.to_owned()),
        false => Err(format!(
            "{word} is no topic: 1 to 32 characters from A-Z, a-z, 0-9, '.', '_' and '-', \
             beginning with a letter or a digit"
        )),
    }
}

/// The topic and the text of `#topic text`.
pub(super) fn split(line: &str) -> Option<(&str, &str)> {
    let (word, text) = line.strip_prefix('#')?.split_once(char::is_whitespace)?;
    let text = text.trim_start();
    (is_word(word) && !text.is_empty()).then_some((word, text))
}

/// The chat of a text: with the `@name`s in it as mentions, as many as a server takes.
pub(super) fn chat(text: String, topic: &str, mentions_max: usize) -> NewChat {
    let mut mentions: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let Some(word) = word.strip_prefix('@') else {
            continue;
        };
        // A sentence may go on or end behind a name.
        let name = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_known = mentions.iter().any(|it| it.eq_ignore_ascii_case(name));
        if is_word(name) && !is_known && mentions.len() < mentions_max {
            mentions.push(name.to_owned());
        }
    }
    NewChat {
        text,
        topic: topic.to_owned(),
        mentions,
    }
}

/// Follows something more; `false` if that was followed already.
pub(super) fn add(filter: &mut Filter, followed: Followed) -> bool {
    let (list, word) = match followed {
        Followed::Topic(topic) => (&mut filter.topics, topic),
        Followed::Sender(name) => (&mut filter.senders, name),
    };
    let is_new = !list.iter().any(|it| it.eq_ignore_ascii_case(&word));
    if is_new {
        list.push(word);
    }
    is_new
}

/// Follows something no more; `false` if it was not followed.
pub(super) fn remove(filter: &mut Filter, followed: &Followed) -> bool {
    let (list, word) = match followed {
        Followed::Topic(topic) => (&mut filter.topics, topic),
        Followed::Sender(name) => (&mut filter.senders, name),
    };
    let before = list.len();
    list.retain(|it| !it.eq_ignore_ascii_case(word));
    list.len() < before
}

/// What is followed, as a person writes it.
pub(super) fn shown(filter: &Filter) -> Printable {
    if filter.topics.is_empty() && filter.senders.is_empty() {
        return Printable::new().trusted("you follow everything");
    }
    let mut line = Printable::new().trusted("you follow");
    for topic in &filter.topics {
        line = line.trusted(" #").untrusted(topic);
    }
    for name in &filter.senders {
        line = line.trusted(" @").untrusted(name);
    }
    line.trusted(" and what mentions you")
}

/// `@name #topic: text`, or `@name: text` without a topic.
pub(super) fn message(sender: &str, topic: &str, text: &str) -> Printable {
    match topic {
        "" => Printable::message(sender, text),
        topic => Printable::new()
            .trusted("@")
            .name(sender)
            .trusted(" #")
            .untrusted(topic)
            .trusted(": ")
            .untrusted(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood() {
        assert_eq!(followed("#a.b"), Ok(Followed::Topic("a.b".to_owned())));
        assert_eq!(followed("@Bob"), Ok(Followed::Sender("Bob".to_owned())));
        for word in ["a", "#", "@", "#a b", "##a", "@é"] {
            assert!(followed(word).is_err(), "{word}");
        }
        assert_eq!(topic("#build"), Ok("build".to_owned()));
        assert_eq!(topic("build"), Ok("build".to_owned()));
        assert!(topic("# build").is_err());
    }

    #[test]
    fn a_line_may_begin_with_its_topic() {
        assert_eq!(split("#build it works"), Some(("build", "it works")));
        assert_eq!(split("#build  it"), Some(("build", "it")));
        for line in [
            "#build",
            "#build ",
            "# build",
            "##build it",
            "build it",
            "#é x",
        ] {
            assert_eq!(split(line), None, "{line}");
        }
    }

    #[test]
    fn names_in_a_text_are_mentions() {
        let chat = chat("@bob, @Eve! and me@x @bob @ @é @al".to_owned(), "t", 3);
        assert_eq!(chat.mentions, ["bob", "Eve", "al"]);
        assert_eq!(super::chat("@a @b".to_owned(), "", 1).mentions, ["a"]);
    }

    #[test]
    fn what_is_followed_is_a_set() {
        let mut filter = Filter::default();
        assert!(add(&mut filter, Followed::Topic("a".to_owned())));
        assert!(!add(&mut filter, Followed::Topic("A".to_owned())));
        assert!(add(&mut filter, Followed::Sender("a".to_owned())));
        assert_eq!(
            shown(&filter).as_str(),
            "you follow #a @a and what mentions you"
        );
        assert!(remove(&mut filter, &Followed::Topic("A".to_owned())));
        assert!(!remove(&mut filter, &Followed::Topic("A".to_owned())));
    }

    #[test]
    fn a_topic_stands_before_the_text() {
        assert_eq!(message("Bob", "", "hi").as_str(), "@Bob: hi");
        assert_eq!(message("Bob", "build", "hi").as_str(), "@Bob #build: hi");
    }
}
