//! Commands: what a line that begins with a slash asks for, completion, and the nearest
//! known word for an unknown one. Pure.

use std::path::PathBuf;

use super::find::part;
use crate::address::Address;
use crate::client::app::topics::{self, Followed};
use crate::nearest::nearest;

/// The commands, with what follows them and what they do.
pub(super) const COMMANDS: [(&str, &str, &str); 22] = [
    (
        "/attach",
        " FILE [#TOPIC|@NAME] [TEXT]",
        "sends FILE, to NAME alone if that is given; quotes keep blanks in its name",
    ),
    ("/clear", "", "empties the view"),
    ("/close", "", "closes the view of a topic or a member"),
    (
        "/connect",
        " ADDRESS [NAME]",
        "goes to another server, or back after a loss",
    ),
    (
        "/follow",
        " [#TOPIC|@NAME ...]",
        "receives these only, beside what mentions you; alone: what you follow",
    ),
    ("/following", "", "shows what you follow"),
    ("/help", "", "shows this; so does F1"),
    (
        "/ignore",
        " [NAME]",
        "hides what NAME says, or shows it again",
    ),
    ("/key", "", "shows your public key, for a server's operator"),
    ("/me", " TEXT", "says what you do"),
    ("/msg", " NAME TEXT", "says TEXT to NAME alone"),
    ("/nick", " NAME", "joins again under another name"),
    ("/quit", "", "leaves"),
    (
        "/save",
        " NUMBER [PATH]",
        "fetches the file with this number",
    ),
    (
        "/search",
        " [TEXT]",
        "finds TEXT in what was said; so does Ctrl-F",
    ),
    ("/set", " [OPTION VALUE]", "shows or changes options"),
    (
        "/topic",
        " [#TOPIC]",
        "gives your lines this topic, or none; #TOPIC TEXT does so for one line",
    ),
    (
        "/trust",
        " NAME",
        "takes the key that NAME has now for the right one",
    ),
    (
        "/unfollow",
        " [#TOPIC|@NAME ...]",
        "follows these no more; alone: receives everything again",
    ),
    (
        "/url",
        " [N]",
        "copies the last web address, or the Nth from below",
    ),
    (
        "/view",
        " [NUMBER|#TOPIC|@NAME]",
        "shows a topic or the directs with NAME alone; /view 1 shows everything; alone: which views there are",
    ),
    ("/who", "", "shows who is here"),
];

/// The keys that `/help` names.
pub(super) const KEYS: [&str; 6] = [
    "Alt-Enter or Ctrl-J begins another line; TAB completes names and commands",
    "PageUp, PageDown, Home, End and the mouse wheel scroll; Ctrl-F searches",
    "Alt-1 to Alt-9, Alt-0, Alt-Left and Alt-Right change the view; Alt-A goes where news are",
    "Up and Down walk what you typed; Ctrl-A, E, K, U, W, Y, _ edit as in a shell",
    "Ctrl-C empties the line, twice on an empty line leaves; Ctrl-D leaves, too",
    "//word sends a line that begins with /word, ##word one that begins with #word",
];

/// A command, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Attach(PathBuf, String),
    Clear,
    Close,
    Follow(Vec<Followed>),
    Following,
    Topic(Option<String>),
    Unfollow(Vec<Followed>),
    Connect(Option<Address>, Option<String>),
    Help,
    Ignore(Option<String>),
    Key,
    Me(String),
    Msg(String, String),
    Nick(String),
    Quit,
    Save(u64, Option<PathBuf>),
    Search(String),
    Set(Option<(String, String)>),
    Trust(String),
    Url(usize),
    View(Option<String>),
    Who,
}

/// Understands a line that begins with a slash.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(super) fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let Some((known, arguments, _)) = COMMANDS
        .into_iter()
        .find(|(known, ..)| known.eq_ignore_ascii_case(word))
    else {
        let known = COMMANDS.map(|(known, ..)| known);
        let hint = match nearest(word, known) {
            Some(near) => format!("did you mean {near}?"),
            None => "/help shows the commands.".to_owned(),
        };
        return Err(format!(
            "unknown command {word}: {hint} A second slash sends the line: /{word}"
        ));
    };
    let usage = || Err(format!("usage: {known}{arguments}"));
    let command = match (known, &words[..]) {
        ("/attach", [_, ..]) => match shell_word(rest) {
            Some((path, text)) => Command::Attach(path.into(), text.to_owned()),
            None => return usage(),
        },
        ("/save", [number, path @ ..]) => {
            let mut shell = shlex::Shlex::new(rest);
            let (_, path_word, more) = (shell.next(), shell.next(), shell.next());
            match number.parse() {
                Ok(number) if more.is_none() && (path.is_empty() || path_word.is_some()) => {
                    Command::Save(number, path_word.map(PathBuf::from))
                }
                _ => return usage(),
            }
        }
        ("/clear", []) => Command::Clear,
        ("/close", []) => Command::Close,
        ("/connect", []) => Command::Connect(None, None),
        ("/connect", [address, name @ ..]) if name.len() < 2 => {
            let parsed = address.parse::<Address>();
            let parsed = parsed.map_err(|error| format!("{address}: {error}"))?;
            Command::Connect(Some(parsed), name.first().map(|&name| name.to_owned()))
        }
        ("/follow", []) | ("/following", []) => Command::Following,
        ("/follow", words) => Command::Follow(all_followed(words)?),
        ("/unfollow", words) => Command::Unfollow(all_followed(words)?),
        ("/topic", []) => Command::Topic(None),
        ("/topic", [word]) => Command::Topic(Some(topics::topic(word)?)),
        ("/help", _) => Command::Help,
        ("/ignore", []) => Command::Ignore(None),
        ("/ignore", [name]) => Command::Ignore(Some(name.trim_start_matches('@').to_owned())),
        ("/key", []) => Command::Key,
        ("/me", [_, ..]) => Command::Me(rest.to_owned()),
        ("/msg", [name, _, ..]) => {
            let text = rest.get(name.len()..).unwrap_or_default().trim_start();
            let name = name.trim_start_matches('@').trim_end_matches(':');
            Command::Msg(name.to_owned(), text.to_owned())
        }
        ("/nick", [name]) => Command::Nick((*name).to_owned()),
        ("/quit", _) => Command::Quit,
        ("/search", _) => Command::Search(rest.to_owned()),
        ("/set", []) => Command::Set(None),
        ("/set", [key, value @ ..]) if !value.is_empty() => {
            Command::Set(Some(((*key).to_owned(), value.join(" "))))
        }
        ("/trust", [name]) => Command::Trust(name.trim_start_matches('@').to_owned()),
        ("/url", []) => Command::Url(1),
        ("/url", [number]) => match number.parse() {
            Ok(number) if number > 0 => Command::Url(number),
            _ => return usage(),
        },
        ("/view", []) => Command::View(None),
        ("/view", [which]) => Command::View(Some((*which).to_owned())),
        ("/who", []) => Command::Who,
        _ => return usage(),
    };
    Ok(command)
}

/// The first word as a shell reads it, and what is behind it as it is: a `#` begins a topic
/// there and no comment, and an apostrophe no quote.
fn shell_word(line: &str) -> Option<(String, &str)> {
    let spaces = line.match_indices(char::is_whitespace);
    let mut ends = spaces.map(|(end, _)| end).chain([line.len()]);
    ends.find_map(|end| {
        let (head, rest) = line.split_at_checked(end)?;
        let mut shell = shlex::Shlex::new(head);
        let word = shell.next().filter(|_| !shell.had_error)?;
        Some((word, rest.trim()))
    })
}

fn all_followed(words: &[&str]) -> Result<Vec<Followed>, String> {
    words.iter().map(|word| topics::followed(word)).collect()
}

/// What TAB may put in place of the word before the cursor: where the word starts, and
/// the candidates with what follows them.
pub(super) fn candidates<'a>(
    before: &str,
    names: impl Iterator<Item = &'a str>,
) -> (usize, Vec<String>) {
    let start = before
        .char_indices()
        .rev()
        .find(|(_, character)| character.is_whitespace())
        .map_or(0, |(index, character)| index + character.len_utf8());
    let word = part(before, start..);
    if start == 0 && word.starts_with('/') {
        let commands = COMMANDS
            .iter()
            .filter(|(known, ..)| known.starts_with(word));
        return (0, commands.map(|(known, ..)| format!("{known} ")).collect());
    }
    let (at, prefix) = match word.strip_prefix('@') {
        Some(prefix) => ("@", prefix),
        None => ("", word),
    };
    if prefix.is_empty() {
        return (start, Vec::new());
    }
    let end = match start {
        0 if !prefix.starts_with('#') => ": ",
        _ => " ",
    };
    let matching = names.filter(|name| {
        let head = name.get(..prefix.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(prefix))
    });
    (
        start,
        matching.map(|name| format!("{at}{name}{end}")).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood() {
        for (line, command) in [
            ("/WHO ", Command::Who),
            ("/me  waves a bit", Command::Me("waves a bit".to_owned())),
            (
                "/msg @Bob  two  words",
                Command::Msg("Bob".to_owned(), "two  words".to_owned()),
            ),
            (
                "/attach 'a b.pdf' the report",
                Command::Attach("a b.pdf".into(), "the report".to_owned()),
            ),
            (
                "/attach a.pdf #ops it's 'here'",
                Command::Attach("a.pdf".into(), "#ops it's 'here'".to_owned()),
            ),
            (
                r"/attach a\ b.pdf @Bob",
                Command::Attach("a b.pdf".into(), "@Bob".to_owned()),
            ),
            ("/attach '#1'", Command::Attach("#1".into(), String::new())),
            ("/save 3", Command::Save(3, None)),
            ("/save 3 b.pdf", Command::Save(3, Some("b.pdf".into()))),
            ("/ignore @Bob", Command::Ignore(Some("Bob".to_owned()))),
            ("/search two words", Command::Search("two words".to_owned())),
            ("/url", Command::Url(1)),
            ("/topic #build", Command::Topic(Some("build".to_owned()))),
            ("/topic", Command::Topic(None)),
            (
                "/follow #build @bob",
                Command::Follow(vec![
                    Followed::Topic("build".to_owned()),
                    Followed::Sender("bob".to_owned()),
                ]),
            ),
            ("/follow", Command::Following),
            ("/unfollow", Command::Unfollow(Vec::new())),
            ("/connect", Command::Connect(None, None)),
            ("/view", Command::View(None)),
            ("/view #a", Command::View(Some("#a".to_owned()))),
            (
                "/set time %H:%M %Z",
                Command::Set(Some(("time".to_owned(), "%H:%M %Z".to_owned()))),
            ),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn mistakes_name_what_is_known() {
        for (line, sentence) in [
            (
                "/qiut",
                "unknown command /qiut: did you mean /quit? A second slash sends the line: //qiut",
            ),
            (
                "/xyzzy",
                "unknown command /xyzzy: /help shows the commands. A second slash sends the line: //xyzzy",
            ),
            ("/follow build", "build is no #topic and no @name"),
            ("/nick", "usage: /nick NAME"),
            ("/nick a b", "usage: /nick NAME"),
            ("/save x", "usage: /save NUMBER [PATH]"),
            ("/attach 'x", "usage: /attach FILE [#TOPIC|@NAME] [TEXT]"),
            ("/view a b", "usage: /view [NUMBER|#TOPIC|@NAME]"),
            ("/msg Bob", "usage: /msg NAME TEXT"),
            ("/url x", "usage: /url [N]"),
            ("/set time", "usage: /set [OPTION VALUE]"),
        ] {
            assert_eq!(parse(line), Err(sentence.to_owned()), "{line}");
        }
        assert!(parse("/connect h:p").is_err());
    }

    #[test]
    fn tab_completes_names_and_commands() {
        let check = |before, start, expected: &[&str]| {
            let names = ["Alice", "bob", "Bobby"];
            let (from, found) = candidates(before, names.into_iter());
            assert_eq!(
                (from, &found[..]),
                (
                    start,
                    &expected.iter().map(|&it| it.to_owned()).collect::<Vec<_>>()[..]
                ),
                "{before}"
            );
        };
        check("/c", 0, &["/clear ", "/close ", "/connect "]);
        check("BO", 0, &["bob: ", "Bobby: "]);
        check("hi @al", 3, &["@Alice "]);
        check("hi /c", 3, &[]);
        check("", 0, &[]);
        check("hi ", 3, &[]);
    }
}
