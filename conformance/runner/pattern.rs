//! Patterns: the placeholders in bodies, such as `<alice>`, `<n+1>`, `<any>` and
//! `<fill text_bytes_max>`. A body that is sent has them substituted; a body that is
//! received is matched against them, and a first match binds the placeholder.

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use regex::Regex;
use serde_json::{Map, Value, json};

use crate::{
    keys::{self, Signed},
    mark::{self, Mark},
    transcript::{
        body,
        expr::{Expr, Limits},
        word,
    },
};

static PLACEHOLDER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"<(/[^>]*/|[A-Za-z][^<>]*)>").ok());

/// The values of the placeholders in one play of a case.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    /// Makes the names of this play unlike all others.
    mark: Option<Mark>,
    /// Names of members that are of this play without the mark.
    names: Vec<String>,
    /// Everybody's name on the wire, and everything captured.
    values: BTreeMap<String, String>,
    /// The limits in force.
    pub limits: Limits,
    /// Whether others may talk on the same server: then `<n+1>` matches any number from
    /// n + 1 up.
    pub shared: bool,
    /// How far the clocks of the suite and of the server may differ.
    pub clock_slack: Duration,
    /// Numbers of chats by members outside the case.
    pub foreign_seqs: Vec<u64>,
}

/// The longest name that a case may ask for, so that a slip of the pen stays small.
const NAME_BYTES_MAX: usize = 128;

impl Bindings {
    /// Bindings in which each of `people` has a name of its own on the server.
    pub fn new(mark: Mark, people: &[&str], limits: Limits) -> Self {
        let mut bindings = Self {
            limits,
            ..Self::default()
        };
        for person in people {
            bindings.set(person, mark.name(person));
        }
        bindings.mark = Some(mark);
        bindings
    }

    /// The same, on a server where others may talk.
    pub fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Binds a value to a word.
    pub fn set(&mut self, word: &str, value: String) {
        self.values.insert(word.to_owned(), value);
    }

    /// Binds the name of a person, with or without the mark of this play.
    pub fn set_name(&mut self, person: &str, name: String) {
        self.names.push(name.clone());
        self.set(person, name);
    }

    /// Binds the server's password, the same without its last character, and the same
    /// with upper and lower case swapped.
    pub fn set_password(&mut self, password: &str) {
        let mut short = password.to_owned();
        short.pop();
        let mut swapped: String = password
            .chars()
            .map(|c| match c.is_ascii_uppercase() {
                true => c.to_ascii_lowercase(),
                false => c.to_ascii_uppercase(),
            })
            .collect();
        if swapped == password {
            swapped.push('x'); // No letters: another wrong one.
        }
        self.set("password.swapped", swapped);
        self.set("password", password.to_owned());
        self.set("password.short", short);
    }

    /// Adds the server's password, where it has one, to a Register without a password.
    pub fn add_password(&self, register: &mut Value) {
        if let (Some(password), Some(fields)) = (self.get("password"), register.as_object_mut()) {
            fields
                .entry("password")
                .or_insert_with(|| Value::from(password));
        }
    }

    /// Whether a time on the wire is now, as far as two clocks agree: a server on this
    /// machine has the same one.
    fn is_now(&self, unix_ms: i64) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| now.as_millis() as i64);
        u128::from(unix_ms.abs_diff(now_ms)) <= self.clock_slack.as_millis()
    }

    /// The value of a word.
    pub fn get(&self, word: &str) -> Option<&str> {
        self.values.get(word).map(String::as_str)
    }

    /// Whether a name belongs to a member outside this case.
    pub fn is_foreign(&self, name: &str) -> bool {
        let is_marked = self.mark.as_ref().is_some_and(|mark| mark.is_in(name));
        !name.is_empty() && !is_marked && !self.names.iter().any(|own| own == name)
    }

    /// Substitutes every placeholder of a body.
    pub fn fill(&self, body: &Value) -> Result<Value, String> {
        Ok(match body {
            Value::String(text) => Value::String(self.fill_text(text)?),
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|v| self.fill(v))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(k, v)| Ok((k.clone(), self.fill(v)?)))
                    .collect::<Result<Map<_, _>, String>>()?,
            ),
            other => other.clone(),
        })
    }

    /// Substitutes every placeholder of a text.
    pub fn fill_text(&self, text: &str) -> Result<String, String> {
        let Some(regex) = PLACEHOLDER.as_ref() else {
            return Err("the suite's own pattern does not compile".to_owned());
        };
        let mut out = String::new();
        let mut at = 0;
        for found in regex.captures_iter(text) {
            let (Some(whole), Some(inner)) = (found.get(0), found.get(1)) else {
                continue;
            };
            out.push_str(&text[at..whole.start()]);
            out.push_str(
                &self
                    .word(inner.as_str())?
                    .ok_or_else(|| format!("<{}> stands for nothing here", inner.as_str()))?,
            );
            at = whole.end();
        }
        out.push_str(&text[at..]);
        Ok(out)
    }

    /// The value of a placeholder; None for a word that is not bound yet.
    fn word(&self, inner: &str) -> Result<Option<String>, String> {
        if let Some(rest) = inner.strip_prefix("fill ") {
            let (expr, unit) = match rest.rsplit_once(' ') {
                Some((expr, unit)) if unit.chars().count() == 1 => (expr, unit),
                _ => (rest, "x"),
            };
            let bytes = Expr::parse(expr)?.value(&self.limits) as usize;
            let mut text = unit.repeat(bytes / unit.len());
            text.push_str(&"x".repeat(bytes % unit.len()));
            return Ok(Some(text));
        }
        if let Some(expr) = inner.strip_prefix("limit ") {
            return Ok(Some(Expr::parse(expr)?.value(&self.limits).to_string()));
        }
        if let Some(word) = inner.strip_prefix("next ") {
            let before = self.word(word)?.and_then(|n| n.parse::<u64>().ok());
            return Ok(before.map(|n| n.saturating_add(1).to_string()));
        }
        if let Some(rest) = inner.strip_prefix("proof by ") {
            let (person, name) = rest
                .split_once(" for ")
                .ok_or_else(|| format!("expected \"proof by PERSON for NAME\", not {inner:?}"))?;
            return self
                .signed(name)?
                .map(|signed| keys::proof(person, &signed.borrowed()))
                .transpose();
        }
        if let Some(person) = inner.strip_suffix(".key") {
            return keys::public(person).map(Some);
        }
        if let Some(person) = inner.strip_suffix(".id") {
            return keys::sender_id(person).map(Some);
        }
        if let Some(word) = inner.strip_suffix(" upper") {
            return Ok(self.get(word).map(str::to_ascii_uppercase));
        }
        if let Some(word) = inner.strip_suffix(" lower") {
            return Ok(self.get(word).map(str::to_ascii_lowercase));
        }
        if let Some((word, length)) = inner.split_once(':') {
            let length: usize = length
                .parse()
                .map_err(|_| format!("expected a length after \"{word}:\""))?;
            let length = length.min(NAME_BYTES_MAX);
            return Ok(self.get(word).map(|name| mark::stretched(name, length)));
        }
        if let Some((word, plus)) = inner.rsplit_once('+') {
            let plus = if plus == "i" {
                self.get("i").unwrap_or("0")
            } else {
                plus
            };
            let plus: u64 = plus
                .parse()
                .map_err(|_| format!("expected a number, or i, after \"{word}+\""))?;
            let base = self.get(word).and_then(|v| v.parse::<u64>().ok());
            let sum = |base: u64| match word {
                // The repetition counts itself, whatever numbers others' chats have.
                "i" => base.saturating_add(plus),
                _ => self.nth_after(base, plus),
            };
            return Ok(base.map(|base| sum(base).to_string()));
        }
        Ok(self.get(inner).map(str::to_owned))
    }

    /// What a proof for a name signs: what the last Challenge asked for, or with `after
    /// WHO` the last one to that person; `None` before there is one.
    fn signed(&self, name: &str) -> Result<Option<OwnedSigned>, String> {
        let (name, nonce, epoch) = match name.split_once(" after ") {
            None => (name, self.get("nonce"), self.get("epoch")),
            Some((name, who)) => (
                name,
                self.get(&format!("{who}.nonce")),
                self.get(&format!("{who}.epoch")),
            ),
        };
        let (Some(nonce), Some(epoch), Some(name)) = (nonce, epoch, self.word(name)?) else {
            return Ok(None);
        };
        Ok(Some(OwnedSigned {
            nonce: nonce.to_owned(),
            epoch: epoch.to_owned(),
            name,
        }))
    }

    /// The number `plus` further on, not counting those that belong to others.
    pub fn nth_after(&self, base: u64, plus: u64) -> u64 {
        let mut n = base;
        for _ in 0..plus {
            n = n.saturating_add(1);
            while self.foreign_seqs.contains(&n) {
                n = n.saturating_add(1);
            }
        }
        n
    }

    /// Whether `got` matches the pattern. Words are bound on the way, so try several
    /// patterns on clones.
    pub fn matches(&mut self, pattern: &Value, got: Option<&Value>) -> Result<bool, String> {
        match (pattern, got) {
            (Value::String(text), got) => self.matches_text(text, got),
            (Value::Object(fields), Some(Value::Object(got))) => {
                for key in got.keys() {
                    if !fields.contains_key(key) {
                        return Ok(false);
                    }
                }
                for (key, pattern) in fields {
                    let is_relayed = RELAYED_LISTS.contains(&key.as_str());
                    let is_same = match (pattern, got.get(key)) {
                        (Value::Array(items), Some(Value::Array(got))) if is_relayed => {
                            self.matches_in_order(items, got)?
                        }
                        (pattern, got) => self.matches(pattern, got)?,
                    };
                    if !is_same {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Array(items), Some(Value::Array(got))) if is_ordered(items) => {
                self.matches_in_order(items, got)
            }
            // The schema's other lists are all "each once, in any order".
            (Value::Array(items), Some(Value::Array(got))) => {
                if items.len() != got.len() {
                    return Ok(false);
                }
                let mut left: Vec<&Value> = got.iter().collect();
                for item in items {
                    let mut found = None;
                    for (i, candidate) in left.iter().enumerate() {
                        if self.matches(item, Some(candidate))? {
                            found = Some(i);
                            break;
                        }
                    }
                    match found {
                        Some(i) => left.swap_remove(i),
                        None => return Ok(false),
                    };
                }
                Ok(true)
            }
            (Value::Array(items), None) => Ok(items.is_empty()),
            (Value::Bool(wanted), got) => {
                Ok(*wanted == got.and_then(Value::as_bool).unwrap_or(false))
            }
            (Value::Number(wanted), got) => Ok(wanted.to_string() == scalar(got)),
            (Value::Null, got) => Ok(got.is_none()),
            (Value::Object(_), _) | (Value::Array(_), _) => Ok(false),
        }
    }

    fn matches_in_order(&mut self, items: &[Value], got: &[Value]) -> Result<bool, String> {
        if items.len() != got.len() {
            return Ok(false);
        }
        for (item, got) in items.iter().zip(got) {
            if !self.matches(item, Some(got))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The fields of a message that do not match the pattern.
    pub fn differing(&self, pattern: &Value, got: &Value) -> Vec<String> {
        let names = |value: &Value| -> Vec<String> {
            let fields = value.as_object();
            fields.into_iter().flat_map(|f| f.keys().cloned()).collect()
        };
        let mut fields = names(pattern);
        fields.extend(
            names(got)
                .into_iter()
                .filter(|name| pattern.get(name).is_none()),
        );
        let mut bindings = self.clone();
        fields.retain(|name| {
            // By itself, but under its name, which may say that its order counts.
            let one = |value: Option<&Value>| match value {
                Some(value) => json!({ name.as_str(): value }),
                None => json!({}),
            };
            let pattern = json!({ name.as_str(): pattern.get(name) });
            !matches!(
                bindings.matches(&pattern, Some(&one(got.get(name)))),
                Ok(true)
            )
        });
        fields
    }

    fn matches_text(&mut self, pattern: &str, got: Option<&Value>) -> Result<bool, String> {
        let whole = pattern.strip_prefix('<').and_then(|p| p.strip_suffix('>'));
        if let Some(inner) = whole.filter(|p| !p.contains(['<', '>'])) {
            match inner {
                "maybe" => return Ok(true),
                "any" => return Ok(got.is_some()),
                "time" => return Ok(scalar(got).parse::<i64>().is_ok_and(|ms| ms > 0)),
                "now" => return Ok(scalar(got).parse().is_ok_and(|ms| self.is_now(ms))),
                _ => {}
            }
            if let Some(least) = inner.strip_prefix("at least ") {
                let least = match self.word(least)? {
                    Some(captured) => captured.parse().unwrap_or(u64::MAX),
                    None => Expr::parse(least)?.value(&self.limits),
                };
                return Ok(scalar(got).parse::<u64>().is_ok_and(|n| n >= least));
            }
            if let Some(other) = inner.strip_prefix("not ") {
                let other = self.word(other)?.unwrap_or_else(|| other.to_owned());
                return Ok(got.is_some() && scalar(got) != other);
            }
            if let Some(part) = inner.strip_prefix("without ") {
                let part = self.word(part)?.unwrap_or_else(|| part.to_owned());
                return Ok(!text_of(got).contains(&part));
            }
            if let Some(rest) = inner.strip_prefix("proof of ") {
                let (key, name) = rest
                    .split_once(" for ")
                    .ok_or_else(|| format!("expected \"proof of KEY for NAME\", not {inner:?}"))?;
                let (Some(key), Some(signed)) = (self.word(key)?, self.signed(name)?) else {
                    return Err(format!("<{inner}> stands for nothing here"));
                };
                return keys::is_proof(&key, &signed.borrowed(), &text_of(got));
            }
            if let Some(regex) = inner.strip_prefix('/').and_then(|r| r.strip_suffix('/')) {
                let regex = body::regex(regex).map_err(|e| format!("the pattern {inner}: {e}"))?;
                return Ok(regex.is_match(&text_of(got)));
            }
            if let (true, Some((_, _)), Some(least)) = (
                self.shared && !inner.starts_with("next "),
                inner.rsplit_once('+'),
                self.word(inner)?,
            ) {
                let least = least.parse::<u64>().unwrap_or(0);
                return Ok(scalar(got).parse::<u64>().is_ok_and(|n| n >= least));
            }
            return match self.word(inner)? {
                Some(value) => Ok(value == text_of(got)),
                None if word::is_person(inner) => match got {
                    Some(got) => {
                        let value = scalar(Some(got));
                        self.set(inner, value);
                        Ok(true)
                    }
                    None => Ok(false),
                },
                None => Err(format!("<{inner}> stands for nothing here")),
            };
        }
        let wanted = self.fill_text(pattern)?;
        // Numbers of 64 bits are texts in proto3 JSON, and an absent one is 0.
        Ok(wanted == text_of(got) || (wanted == "0" && got.is_none()))
    }
}

/// What a proof signs.
struct OwnedSigned {
    nonce: String,
    epoch: String,
    name: String,
}

impl OwnedSigned {
    fn borrowed(&self) -> Signed<'_> {
        Signed {
            nonce: &self.nonce,
            epoch: &self.epoch,
            name: &self.name,
        }
    }
}

/// Whether a list has an order: chats with their numbers (CHAT-HIST-2).
/// The lists that are relayed as they were sent, in their order.
const RELAYED_LISTS: [&str; 2] = ["mentions", "files"];

fn is_ordered(items: &[Value]) -> bool {
    items.iter().all(|item| item.get("seq").is_some())
}

fn scalar(value: Option<&Value>) -> String {
    match value {
        None => "0".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn text_of(value: Option<&Value>) -> String {
    value.map_or_else(String::new, |v| scalar(Some(v)))
}

#[cfg(test)]
mod tests;
