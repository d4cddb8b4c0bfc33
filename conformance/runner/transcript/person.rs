//! Parser of the steps that begin with a person.

use serde_json::{Value, json};

use super::{
    Action, Arrival, Expr, Wanted, body,
    payload::{frame, message, payload},
    word::{LineError, Parsed, capability, is_person, json_value, string, unexpected},
};
use crate::messages;

pub(super) fn person(who: &str, verb: &str, rest: &str) -> Result<Vec<Action>, LineError> {
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
        ("starts", rest) if who == "client" => {
            let password = rest
                .strip_prefix("with the password ")
                .ok_or_else(|| unexpected(verb, rest))?;
            one(Action::ClientStarts {
                password: Some(string(password)?),
            })
        }
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
        ("resumes", rest) if who == "server" => one(registers(rest)?),
        ("does", "not resume client") if who == "server" => one(registers("")?),
        ("resumes", rest) => resumes(who, rest),
        ("receives", "nothing") => one(Action::Nothing { who: name }),
        ("receives", rest) if rest.starts_with("in pieces ") => one(pieces(who, rest)?),
        ("receives", "all members") => one(Action::AllMembers { who: name }),
        ("receives", rest) => one(receives(who, rest)?),
        ("hears", rest) => one(hears(who, rest)?),
        ("is", rest) if rest.contains("resumed") => one(answered(who, rest)?),
        ("is", rest) => match rest.strip_prefix("refused ") {
            Some(rest) => refused(who, rest),
            None => {
                let (rest, arrival) = arrival(rest)?;
                let in_order = match rest {
                    "closed" => false,
                    "closed in order" => true,
                    _ => return Err(unexpected(verb, rest)),
                };
                one(Action::Closed {
                    who: name,
                    arrival,
                    in_order,
                })
            }
        },
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
        ("catches", "up" | "up with everything") => one(Action::CatchesUp {
            who: name,
            with_everything: rest != "up",
        }),
        ("resets", "") => one(Action::Reset { who: name }),
        ("types", rest) if who == "client" => one(Action::Types(string(rest)?)),
        ("prints", rest) if who == "client" => one(Action::Prints(string(rest)?)),
        ("never", rest) if who == "client" && rest.starts_with("shows ") => one(
            Action::NeverShows(string(rest.trim_start_matches("shows "))?),
        ),
        ("never", rest) if who == "client" => one(Action::NeverPrints(string(
            rest.strip_prefix("prints ")
                .ok_or_else(|| unexpected(verb, rest))?,
        )?)),
        _ => Err(LineError::Wrong(format!(
            "expected a step of {who} (connects, joins, says, hears, sends, receives, finds, is refused, \
             is closed, half-closes, closes, resets), found \"{verb} {rest}\""
        ))),
    }
}

pub(super) fn capabilities(text: &str) -> Parsed<Vec<String>> {
    let names: Vec<String> = text.split(" and ").map(|c| c.trim().to_owned()).collect();
    names.iter().try_for_each(|c| capability(c).map(|_| ()))?;
    Ok(names)
}

fn joins(who: &str, rest: &str) -> Result<Action, LineError> {
    let (rest, patiently) = match rest.strip_suffix("when the name is free") {
        Some(rest) => (rest.trim(), true),
        None => (rest, false),
    };
    let (name, rest) = match rest.strip_prefix("as ") {
        Some(rest) => match json_value(rest)? {
            (Value::String(name), rest) => (name, rest),
            _ => {
                return Err(LineError::Wrong(
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

/// `ally resumes alice from "<n>" try 2`: connects and sends the Register that continues
/// alice's session.
fn resumes(who: &str, rest: &str) -> Result<Vec<Action>, LineError> {
    let (earlier, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    if !is_person(earlier) {
        return Err(unexpected("resumes", earlier));
    }
    let (mut name, mut rest) = (format!("<{earlier}>"), rest);
    if let Some(tail) = rest.strip_prefix("as ") {
        let (value, tail) = json_value(tail)?;
        name = value.as_str().unwrap_or_default().to_owned();
        rest = tail;
    }
    let tail = rest
        .strip_prefix("from ")
        .ok_or_else(|| unexpected("resumes", rest))?;
    let (from, tail) = json_value(tail)?;
    let attempt = match tail.strip_prefix("try ") {
        Some(attempt) => attempt,
        None if tail.is_empty() => "1",
        None => return Err(unexpected("resumes", tail)),
    };
    let body = json!({
        "name": name,
        "capabilities": RESUMING,
        "resume": {
            "token": format!("<{earlier}.token>"),
            "epoch": format!("<{earlier}.epoch>"),
            "seq": from,
            "attempt": attempt,
        },
    });
    body::check(messages::Envelope::Client, "register", &body)?;
    Ok(vec![
        Action::Connect {
            who: who.to_owned(),
            small_window: false,
        },
        Action::Send {
            who: who.to_owned(),
            payload: frame(message("register", body)),
        },
    ])
}

/// `server resumes client from "3" up to "5"`: the Registered that resumes the client's
/// line, of which 5 chats are accepted; without words, the one that does not, in another
/// epoch.
fn registers(rest: &str) -> Result<Action, LineError> {
    let limit = |name| format!("<limit {name}>");
    let mut body = json!({
        "name": "<client>",
        "capabilities": RESUMING,
        "limits": {
            "frameBytesMax": limit("frame_bytes_max"),
            "textBytesMax": limit("text_bytes_max"),
            "nameBytesMax": limit("name_bytes_max"),
            "registerDeadlineMs": limit("register_deadline_ms"),
            "keepaliveIntervalMs": limit("keepalive_interval_ms"),
            "idleDeadlineMs": limit("idle_deadline_ms"),
            "writeDeadlineMs": limit("write_deadline_ms"),
            "lagBytesMax": limit("lag_bytes_max"),
            "resumeMs": 60_000,
            "resendIdsMax": 8,
        },
    });
    if rest.is_empty() {
        body["epoch"] = json!("played-anew");
        body["resumeToken"] = json!("YW5ldw==");
        body["resumeFailure"] = json!("RESUME_FAILURE_OTHER_EPOCH");
    } else {
        let rest = rest
            .strip_prefix("client from ")
            .ok_or_else(|| unexpected("resumes", rest))?;
        let (from, rest) = json_value(rest)?;
        let seq = rest
            .strip_prefix("up to ")
            .ok_or_else(|| unexpected("resumes", rest))?;
        body["epoch"] = json!("played-by-the-suite");
        body["resumeToken"] = json!("c2Vjb25k");
        body["resumedFrom"] = from;
        body["seq"] = json!(string(seq)?);
    }
    body::check(messages::Envelope::Server, "registered", &body)?;
    Ok(Action::Send {
        who: "server".to_owned(),
        payload: frame(message("registered", body)),
    })
}

/// The capabilities of a client that resumes.
const RESUMING: [&str; 2] = ["CAPABILITY_RECEIPTS", "CAPABILITY_RESUME"];

/// `ally is resumed from "<n+1>"`, `ally is not resumed UNKNOWN_TOKEN`: the Registered.
fn answered(who: &str, rest: &str) -> Result<Action, LineError> {
    let mut body = json!({
        "name": "<any>",
        "epoch": "<any>",
        "seq": "<maybe>",
        "oldestSeq": "<maybe>",
        "capabilities": RESUMING,
        "limits": "<any>",
        "welcome": "<maybe>",
        "resumeToken": "<any>",
    });
    if let Some(from) = rest.strip_prefix("resumed from ") {
        body["resumedFrom"] = json!(string(from)?);
    } else if let Some(reason) = rest.strip_prefix("not resumed ") {
        let reason = format!("RESUME_FAILURE_{reason}");
        body["resumeFailure"] = json!(reason);
    } else {
        return Err(unexpected("is", rest));
    }
    body::check(messages::Envelope::Server, "registered", &body)?;
    Ok(Action::Receive {
        who: who.to_owned(),
        wanted: vec![Wanted {
            kind: "registered".to_owned(),
            body,
        }],
        arrival: Arrival::Anytime,
    })
}

fn receives(who: &str, rest: &str) -> Result<Action, LineError> {
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
            return Err(LineError::Wrong(format!(
                "expected one of {}, found {kind:?}",
                messages::kinds(from).join(", ")
            )));
        }
        let (body, tail) = if tail.starts_with('{') {
            json_value(tail)?
        } else {
            (json!({}), tail)
        };
        body::check(from, kind, &body)?;
        wanted.push(Wanted {
            kind: kind.to_owned(),
            body,
        });
        match tail.strip_prefix("or ") {
            Some(more) => rest = more,
            None => {
                let (rest, arrival) = arrival(tail)?;
                if !rest.is_empty() {
                    return Err(unexpected("receives", tail));
                }
                return Ok(Action::Receive {
                    who: who.to_owned(),
                    wanted,
                    arrival,
                });
            }
        }
    }
}

/// `bob receives in pieces file_data {...}`: the bytes of a file, however they are cut.
fn pieces(who: &str, rest: &str) -> Result<Action, LineError> {
    let body = rest
        .strip_prefix("in pieces file_data ")
        .ok_or_else(|| unexpected("receives", rest))?;
    let (body, tail) = json_value(body)?;
    if !tail.is_empty() {
        return Err(unexpected("receives", tail));
    }
    body::check(messages::Envelope::Server, "file_data", &body)?;
    Ok(Action::Pieces {
        who: who.to_owned(),
        wanted: Wanted {
            kind: "file_data".to_owned(),
            body,
        },
    })
}

/// A step without the words about when its message arrives, and those: `after LIMIT`,
/// `at LIMIT`, `by now`, `within LIMIT`.
fn arrival(rest: &str) -> Parsed<(&str, Arrival)> {
    if rest == "by now" {
        return Ok(("", Arrival::ByNow));
    }
    if let Some(rest) = rest.strip_suffix(" by now") {
        return Ok((rest, Arrival::ByNow));
    }
    for (word, arrival) in [
        ("after ", Arrival::After as fn(Expr) -> Arrival),
        ("at ", Arrival::At),
        ("within ", Arrival::Within),
    ] {
        let (head, expr) = match rest.split_once(&format!(" {word}")) {
            Some((head, expr)) => (head, Some(expr)),
            None => ("", rest.strip_prefix(word)),
        };
        if let Some(expr) = expr {
            return Ok((head, arrival(Expr::parse(expr)?)));
        }
    }
    Ok((rest, Arrival::Anytime))
}

/// `bob hears alice "hello" as <n+1>`: a chat with everything the server sets.
fn hears(who: &str, rest: &str) -> Result<Action, LineError> {
    let (sender, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    if !is_person(sender) {
        return Err(LineError::Wrong(format!(
            "expected a person after \"hears\", found {sender:?}"
        )));
    }
    let (text, tail) = json_value(rest)?;
    let (tail, arrival) = arrival(tail)?;
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
        arrival,
    })
}

/// `alice is refused TEXT_INVALID id 7`, `alice is refused NAME_INVALID and closed`.
fn refused(who: &str, rest: &str) -> Result<Vec<Action>, LineError> {
    let (rest, arrival) = arrival(rest)?;
    let (rest, in_order) = match rest.strip_suffix(" in order") {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (rest, closed) = match rest.strip_suffix(" and closed") {
        Some(rest) => (rest, true),
        None if in_order => return Err(unexpected("is refused", rest)),
        None => (rest, false),
    };
    let (code, id) = match rest.split_once(" id ") {
        Some((code, id)) => (code, Some(id)),
        None => (rest, None),
    };
    let value = format!("ERROR_CODE_{code}");
    if !messages::enum_values("chat.v1.ErrorCode").contains(&value) {
        return Err(LineError::Wrong(format!(
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
        arrival,
    }];
    if closed {
        actions.push(Action::Closed {
            who: who.to_owned(),
            arrival: Arrival::Anytime,
            in_order,
        });
    }
    Ok(actions)
}
