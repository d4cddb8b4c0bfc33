//! Reads a transcript. Every refusal names the line and what was expected there.

use serde_json::{Value, json};

use super::{Action, Case, Content, Expr, Payload, Step, Wanted};
use crate::{framing, messages, rules};

/// What is wrong with a transcript, and where.
#[derive(Debug)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What was expected and what was found.
    pub sentence: String,
}

type Parsed<T> = Result<T, String>;

/// Reads a whole file. `id` is `area/case`.
pub fn case(id: &str, text: &str) -> Result<Case, ParseError> {
    let mut case = Case {
        id: id.to_owned(),
        title: String::new(),
        why: String::new(),
        rules: Vec::new(),
        needs: Vec::new(),
        when: None,
        names: Vec::new(),
        draft: false,
        steps: Vec::new(),
    };
    let mut lines = Lines::new(text);
    while let Some((number, line)) = lines.peek() {
        let Some((key, value)) = line.split_once(": ").filter(|(key, _)| is_header(key)) else {
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
        "title" | "rules" | "why" | "needs" | "when" | "names" | "status"
    )
}

fn header(case: &mut Case, key: &str, value: &str) -> Parsed<()> {
    let words = || value.split_whitespace().map(str::to_owned).collect();
    match key {
        "title" => case.title = value.to_owned(),
        "why" => case.why = value.to_owned(),
        "rules" => case.rules = words(),
        "needs" => {
            case.needs = words();
            case.needs
                .iter()
                .try_for_each(|c| capability(c).map(|_| ()))?;
        }
        "when" => {
            Expr::parse(value)?;
            case.when = Some(value.to_owned());
        }
        "names" => case.names = words(),
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
                    Err(Trouble::Unfinished) if lines.peek().is_some() => {
                        text.push(' ');
                        text.push_str(lines.next().map_or("", |(_, more)| more));
                    }
                    Err(Trouble::Unfinished) => {
                        return Err(fail("expected the end of a JSON body".to_owned()));
                    }
                    Err(Trouble::Wrong(sentence)) => return Err(fail(sentence)),
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

enum Trouble {
    /// JSON that may go on in the next line.
    Unfinished,
    Wrong(String),
}

impl From<String> for Trouble {
    fn from(sentence: String) -> Self {
        Self::Wrong(sentence)
    }
}

/// One line: the rules it names at its end, and what it stands for.
fn simple(line: &str) -> Result<(Vec<String>, Vec<Action>), Trouble> {
    let mut line = line.trim();
    let mut blame = Vec::new();
    while let Some((head, rule)) = line.rsplit_once(" @").filter(|(_, r)| rules::is_id(r)) {
        blame.insert(0, rule.to_owned());
        line = head.trim_end();
    }
    let whole = match line {
        "the server still serves" => Some(Action::Serves),
        "the server starts again" => Some(Action::Restarts),
        "the server is told to end" => Some(Action::Stops),
        "the server ends" => Some(Action::Ends),
        "the server fills up" => Some(Action::Fills),
        "client starts" => Some(Action::ClientStarts),
        "client joins" => Some(Action::ClientJoins {
            capabilities: Vec::new(),
        }),
        "client's input ends" => Some(Action::InputEnds),
        "client ends" => Some(Action::ClientEnds),
        _ => None,
    };
    if let Some(action) = whole {
        return Ok((blame, vec![action]));
    }
    if let Some(expr) = line.strip_prefix("everybody is silent for ") {
        return Ok((blame, vec![Action::Silence(Expr::parse(expr)?)]));
    }
    if let Some(expr) = line
        .strip_prefix("a crowd of ")
        .and_then(|l| l.strip_suffix(" joins"))
    {
        return Ok((blame, vec![Action::Crowd(Expr::parse(expr)?)]));
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

/// Whether this can be somebody's name in a transcript.
pub fn is_person(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        && !matches!(
            word,
            "a" | "the"
                | "everybody"
                | "crowd"
                | "repeat"
                | "in"
                | "and"
                | "end"
                | "any"
                | "maybe"
                | "time"
                | "i"
                | "fill"
                | "limit"
                | "not"
        )
}

fn person(who: &str, verb: &str, rest: &str) -> Result<Vec<Action>, Trouble> {
    let name = who.to_owned();
    let one = |action| Ok(vec![action]);
    match (verb, rest) {
        ("connects", "") => one(Action::Connect {
            who: name,
            small_window: false,
        }),
        ("connects", "with a small window") => one(Action::Connect {
            who: name,
            small_window: true,
        }),
        ("joins", rest) if who == "client" => one(Action::ClientJoins {
            capabilities: capabilities(
                rest.strip_prefix("with ")
                    .ok_or_else(|| unexpected(verb, rest))?,
            )?,
        }),
        ("joins", rest) => one(joins(who, rest)?),
        ("sends", rest) => one(Action::Send {
            who: name,
            payload: payload(who, rest)?,
        }),
        ("says", rest) => {
            let (text, tail) = json_value(rest)?;
            let mut body = json!({ "text": text });
            match tail.strip_prefix("id ") {
                Some(id) => body["id"] = json!(id),
                None if tail.is_empty() => {}
                None => return Err(unexpected("says", tail)),
            }
            one(Action::Send {
                who: name,
                payload: frame(message("chat", body)),
            })
        }
        ("receives", "nothing") => one(Action::Nothing { who: name }),
        ("receives", rest) => one(receives(who, rest)?),
        ("hears", rest) => one(hears(who, rest)?),
        ("is", "closed") => one(Action::Closed {
            who: name,
            after: None,
        }),
        ("is", rest) => {
            if let Some(expr) = rest.strip_prefix("closed after ") {
                return one(Action::Closed {
                    who: name,
                    after: Some(Expr::parse(expr)?),
                });
            }
            match rest.strip_prefix("refused ") {
                Some(rest) => refused(who, rest),
                None => Err(unexpected(verb, rest)),
            }
        }
        ("finds", rest) => {
            let mut names = Vec::new();
            for word in rest.split(", ") {
                names.push(if is_person(word) || word == "crowd" {
                    format!("<{word}>")
                } else {
                    string(word)?
                });
            }
            one(Action::Finds { who: name, names })
        }
        ("half-closes", "") => one(Action::HalfClose { who: name }),
        ("closes", "") => one(Action::Close { who: name }),
        ("skips", "what has come") => one(Action::Skips { who: name }),
        ("catches", "up") => one(Action::CatchesUp { who: name }),
        ("resets", "") => one(Action::Reset { who: name }),
        ("types", rest) if who == "client" => one(Action::Types(string(rest)?)),
        ("prints", rest) if who == "client" => one(Action::Prints(string(rest)?)),
        ("never", rest) if who == "client" => one(Action::NeverPrints(string(
            rest.strip_prefix("prints ")
                .ok_or_else(|| unexpected(verb, rest))?,
        )?)),
        _ => Err(Trouble::Wrong(format!(
            "expected what {who} does (connects, joins, says, hears, sends, receives, finds, is refused, \
             is closed, half-closes, closes, resets), found \"{verb} {rest}\""
        ))),
    }
}

fn unexpected(verb: &str, rest: &str) -> Trouble {
    Trouble::Wrong(format!(
        "expected something else after \"{verb}\" than {rest:?}"
    ))
}

fn string(text: &str) -> Result<String, Trouble> {
    let (value, tail) = json_value(text)?;
    match value {
        Value::String(text) if tail.is_empty() => Ok(text),
        _ => Err(Trouble::Wrong(format!(
            "expected one text in double quotes, found {text}"
        ))),
    }
}

/// The JSON at the beginning of the text, and what follows it.
fn json_value(text: &str) -> Result<(Value, &str), Trouble> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => {
            let tail = text[values.byte_offset()..].trim();
            Ok((value, tail))
        }
        Some(Err(error)) if error.is_eof() => Err(Trouble::Unfinished),
        Some(Err(error)) => Err(Trouble::Wrong(format!("expected JSON: {error}"))),
        None => Err(Trouble::Wrong(
            "expected JSON, found the end of the line".to_owned(),
        )),
    }
}

/// A capability's short name, as the schema's value.
pub fn capability(name: &str) -> Parsed<String> {
    let value = format!("CAPABILITY_{}", name.to_ascii_uppercase());
    if messages::enum_values("chat.v1.Capability").contains(&value) {
        Ok(value)
    } else {
        Err(format!(
            "expected a capability such as presence, found {name:?}"
        ))
    }
}

fn capabilities(text: &str) -> Parsed<Vec<String>> {
    let names: Vec<String> = text.split(" and ").map(|c| c.trim().to_owned()).collect();
    names.iter().try_for_each(|c| capability(c).map(|_| ()))?;
    Ok(names)
}

fn joins(who: &str, rest: &str) -> Result<Action, Trouble> {
    let (rest, patiently) = match rest.strip_suffix("when the name is free") {
        Some(rest) => (rest.trim(), true),
        None => (rest, false),
    };
    let (name, rest) = match rest.strip_prefix("as ") {
        Some(rest) => match json_value(rest)? {
            (Value::String(name), rest) => (name, rest),
            _ => {
                return Err(Trouble::Wrong(
                    "expected a name in double quotes after \"as\"".to_owned(),
                ));
            }
        },
        None => (format!("<{who}>"), rest),
    };
    let capabilities = match rest.strip_prefix("with ") {
        Some(list) => capabilities(list)?,
        None if rest.is_empty() => Vec::new(),
        None => return Err(unexpected("joins", rest)),
    };
    Ok(Action::Join {
        who: who.to_owned(),
        name,
        capabilities,
        patiently,
    })
}

fn receives(who: &str, rest: &str) -> Result<Action, Trouble> {
    let mut wanted = Vec::new();
    let mut rest = rest;
    loop {
        let (kind, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        let from = if who == "server" {
            messages::Envelope::Client
        } else {
            messages::Envelope::Server
        };
        if !messages::kinds(from).iter().any(|k| k == kind) {
            return Err(Trouble::Wrong(format!(
                "expected one of {}, found {kind:?}",
                messages::kinds(from).join(", ")
            )));
        }
        let (body, tail) = if tail.starts_with('{') {
            json_value(tail)?
        } else {
            (json!({}), tail)
        };
        wanted.push(Wanted {
            kind: kind.to_owned(),
            body,
        });
        match tail.strip_prefix("or ") {
            Some(more) => rest = more,
            None => {
                let after = match tail.strip_prefix("after ") {
                    Some(expr) => Some(Expr::parse(expr)?),
                    None if tail.is_empty() => None,
                    None => return Err(unexpected("receives", tail)),
                };
                return Ok(Action::Receive {
                    who: who.to_owned(),
                    wanted,
                    after,
                });
            }
        }
    }
}

/// `bob hears alice "hello" as <n+1>`: a chat with everything the server sets.
fn hears(who: &str, rest: &str) -> Result<Action, Trouble> {
    let (sender, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    if !is_person(sender) {
        return Err(Trouble::Wrong(format!(
            "expected whom {who} hears, found {sender:?}"
        )));
    }
    let (text, tail) = json_value(rest)?;
    let seq = match tail.strip_prefix("as ") {
        Some(seq) => seq,
        None if tail.is_empty() => "<any>",
        None => return Err(unexpected("hears", tail)),
    };
    let body = json!({
        "text": text, "sender": format!("<{sender}>"), "seq": seq, "timeUnixMs": "<time>",
    });
    Ok(Action::Receive {
        who: who.to_owned(),
        wanted: vec![Wanted {
            kind: "chat".to_owned(),
            body,
        }],
        after: None,
    })
}

/// `alice is refused TEXT_INVALID id 7`, `alice is refused NAME_INVALID and closed`.
fn refused(who: &str, rest: &str) -> Result<Vec<Action>, Trouble> {
    let (rest, after) = match rest.split_once(" after ") {
        Some((rest, expr)) => (rest, Some(Expr::parse(expr)?)),
        None => (rest, None),
    };
    let (rest, closed) = match rest.strip_suffix(" and closed") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (code, id) = match rest.split_once(" id ") {
        Some((code, id)) => (code, Some(id)),
        None => (rest, None),
    };
    let value = format!("ERROR_CODE_{code}");
    if !messages::enum_values("chat.v1.ErrorCode").contains(&value) {
        return Err(Trouble::Wrong(format!(
            "expected an error code such as TEXT_INVALID, found {code:?}"
        )));
    }
    let mut body = json!({ "code": value, "detail": "<maybe>" });
    if closed {
        body["endsSession"] = json!(true);
    }
    if let Some(id) = id {
        body["id"] = json!(id);
    }
    let mut actions = vec![Action::Receive {
        who: who.to_owned(),
        wanted: vec![Wanted {
            kind: "error".to_owned(),
            body,
        }],
        after,
    }];
    if closed {
        actions.push(Action::Closed {
            who: who.to_owned(),
            after: None,
        });
    }
    Ok(actions)
}

fn message(kind: &str, body: Value) -> Content {
    Content::Message {
        kind: kind.to_owned(),
        body,
        inside: Vec::new(),
        outside: Vec::new(),
    }
}

fn frame(envelope: Content) -> Payload {
    Payload::Frame {
        envelope,
        padded_to: None,
        width: None,
        cut_at: None,
    }
}

fn payload(who: &str, text: &str) -> Result<Payload, Trouble> {
    let (kind, tail) = text.split_once(' ').unwrap_or((text, ""));
    let (tail, cut_at) = option(tail, "cut at ")?;
    let (tail, width) = match tail.strip_suffix(" bytes") {
        Some(head) => option(head, "in ")?,
        None => (tail, None),
    };
    match kind {
        "bytes" => return Ok(Payload::Bytes(bytes(tail)?)),
        "length" => {
            return Ok(Payload::Length {
                value: Expr::parse(tail)?,
                width,
            });
        }
        _ => {}
    }
    let (tail, padded_to) = match tail.rsplit_once("padded to ") {
        Some((head, expr)) => (head.trim(), Some(Expr::parse(expr)?)),
        None => (tail, None),
    };
    let to = if who == "server" {
        messages::Envelope::Server
    } else {
        messages::Envelope::Client
    };
    let envelope = if kind == "frame" {
        Content::Raw(bytes(tail)?)
    } else if messages::kinds(to).iter().any(|k| k == kind) {
        let (body, tail) = if tail.starts_with('{') {
            json_value(tail)?
        } else {
            (json!({}), tail)
        };
        let (tail, outside) = match tail.split_once("plus outside ") {
            Some((head, hex)) => (head.trim(), bytes(hex)?),
            None => (tail, Vec::new()),
        };
        let inside = match tail.strip_prefix("plus ") {
            Some(hex) => bytes(hex)?,
            None if tail.is_empty() => Vec::new(),
            None => return Err(unexpected("sends", tail)),
        };
        Content::Message {
            kind: kind.to_owned(),
            body,
            inside,
            outside,
        }
    } else {
        return Err(Trouble::Wrong(format!(
            "expected frame, bytes, length or one of {}, found {kind:?}",
            messages::kinds(to).join(", ")
        )));
    };
    Ok(Payload::Frame {
        envelope,
        padded_to,
        width,
        cut_at,
    })
}

/// Takes `word N` from the end of the text.
fn option<'a>(text: &'a str, word: &str) -> Result<(&'a str, Option<usize>), Trouble> {
    match text.rsplit_once(word) {
        Some((head, n))
            if (head.is_empty() || head.ends_with(' ')) && n.trim().parse::<usize>().is_ok() =>
        {
            Ok((head.trim(), n.trim().parse().ok()))
        }
        _ => Ok((text, None)),
    }
}

/// Hex, in which `0b*200` is a byte two hundred times.
fn bytes(text: &str) -> Parsed<Vec<u8>> {
    /// More than any bound of the schema, so that a slip of the pen stays small.
    const RUN_BYTES_MAX: usize = 1 << 20;
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        let (hex, times) = match word.split_once('*') {
            Some((hex, n)) => (hex, n.parse().unwrap_or(usize::MAX)),
            None => (word, 1),
        };
        let piece = framing::unhex(hex)
            .filter(|_| times <= RUN_BYTES_MAX)
            .ok_or_else(|| {
                format!("expected bytes in hex such as \"0a 05 68\" or \"00*20\", found {word:?}")
            })?;
        out.extend(piece.repeat(times));
    }
    Ok(out)
}
