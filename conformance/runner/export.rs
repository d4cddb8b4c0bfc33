//! Export: all cases as JSON lines, for runners in other languages. A step that sends
//! has the exact bytes, a step that receives has the pattern.

use serde_json::{Value, json};

use crate::{
    framing,
    mark::Mark,
    messages::Envelope,
    pattern::Bindings,
    play,
    rules::Rule,
    suite::Suite,
    transcript::{
        Action, Arrival, Case, Keys, Payload, Saturation, Side, Step, expr::Limits, print,
    },
};

/// The version of the form; `conformance/schema/case.schema.json` describes it.
const FORMAT: u32 = 1;

/// The run whose marks are in the names.
const RUN: &str = "run0";

/// Stands for the password of the server.
const PASSWORD: &str = "password-of-the-server";

/// One line a case.
pub fn export(suite: &Suite, rules: &[Rule]) -> Result<Vec<String>, String> {
    suite
        .cases
        .iter()
        .map(|case| Ok(line(case, rules)?.to_string()))
        .collect()
}

/// How many steps of a case, and bytes of a step, are shown to people.
const SENT_STEPS_MAX: usize = 12;
const SENT_BYTES_MAX: usize = 48;

/// The steps of a case that send, each with its bytes, for people: a line each, with its
/// line break.
pub fn sent(case: &Case) -> Vec<String> {
    let mut found = Vec::new();
    // A case whose bytes cannot be made has none to show.
    if let Ok(line) = line(case, &[]) {
        find_sent(&line["steps"], &mut found);
    }
    let left_out = found.len().saturating_sub(SENT_STEPS_MAX);
    found.truncate(SENT_STEPS_MAX);
    if left_out > 0 {
        found.push(format!("and {left_out} more steps that send\n"));
    }
    found
}

fn find_sent(steps: &Value, found: &mut Vec<String>) {
    for step in steps.as_array().into_iter().flatten() {
        if let (Some(text), Some(hex)) = (step["text"].as_str(), step["bytes"].as_str()) {
            found.push(format!("{}\n    {}\n", shorten(text), spaced(hex)));
        }
        find_sent(&step["steps"], found);
        for lane in step["lanes"].as_array().into_iter().flatten() {
            find_sent(lane, found);
        }
    }
}

/// How many characters of a step are shown.
const STEP_CHARS_MAX: usize = 120;

fn shorten(text: &str) -> String {
    match text.char_indices().nth(STEP_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Hex in pairs of digits.
fn spaced(hex: &str) -> String {
    let bytes: Vec<String> = hex
        .as_bytes()
        .chunks(2)
        .take(SENT_BYTES_MAX)
        .map(|pair| String::from_utf8_lossy(pair).into_owned())
        .collect();
    let all = hex.len() / 2;
    match all > SENT_BYTES_MAX {
        true => format!("{} ... ({all} bytes)", bytes.join(" ")),
        false => bytes.join(" "),
    }
}

fn line(case: &Case, rules: &[Rule]) -> Result<Value, String> {
    let mut people = case.people();
    people.extend(case.names.iter().map(String::as_str));
    if case.side() == Side::Client {
        people.push("client");
    }
    let mark = Mark::new(RUN, 0);
    let mut bindings = Bindings::new(mark.clone(), &people, Limits::assumed());
    if case.side() == Side::Client {
        bindings.set("nonce", play::CLIENT_NONCE.to_owned());
        bindings.set("epoch", play::CLIENT_EPOCH.to_owned());
    }
    let password = (case.asks_password == Some(true)).then_some(PASSWORD);
    if let Some(password) = password {
        bindings.set_password(password);
    }
    let rules: Vec<Value> = case
        .rules
        .iter()
        .map(|id| {
            let rule = rules.iter().find(|r| r.id == *id);
            json!({
                "id": id,
                "level": rule.map(|r| r.level.to_string()),
                "sentence": rule.map(|r| r.sentence.as_str()),
            })
        })
        .collect();
    let limits: serde_json::Map<String, Value> = bindings
        .limits
        .iter()
        .map(|(name, n)| (name.to_owned(), json!(n)))
        .collect();
    let when: Vec<_> = case.when.iter().map(ToString::to_string).collect();
    Ok(json!({
        "format": FORMAT,
        "case": case.id,
        "side": if case.side() == Side::Server { "server" } else { "client" },
        "title": case.title,
        "why": case.why,
        "rules": rules,
        "needs": case.needs,
        "lacks": case.lacks,
        "when": (!when.is_empty()).then(|| when.join(", ")),
        "password": password,
        "listed": case.listed,
        "data": case.needs_data.then_some("kept"),
        "keys": match case.keys {
            Keys::Ignored => None,
            Keys::Known => Some("known"),
            Keys::Owning => Some("owned names"),
        },
        "slow": case.is_slow(),
        "closing": case.is_closing(),
        "names": people.iter().map(|p| (p.to_string(), json!(mark.name(p)))).collect::<serde_json::Map<_, _>>(),
        "limits": limits,
        "steps": steps(case, &case.steps, &mut bindings)?,
    }))
}

fn steps(case: &Case, steps: &[Step], bindings: &mut Bindings) -> Result<Vec<Value>, String> {
    steps.iter().map(|s| step(case, s, bindings)).collect()
}

fn step(case: &Case, step: &Step, bindings: &mut Bindings) -> Result<Value, String> {
    let mut value = json!({ "line": step.line, "text": print::action(&step.action) });
    if let Some(who) = step.action.who() {
        value["who"] = json!(who);
    }
    if !step.rules.is_empty() {
        value["rules"] = json!(step.rules);
    }
    match &step.action {
        Action::Send { payload, .. } => {
            let to = match case.side() {
                Side::Server => Envelope::Client,
                Side::Client => Envelope::Server,
            };
            value["action"] = json!("send");
            // Bytes that depend on a captured value differ in each run.
            if let Ok((bytes, _)) = play::encode(payload, to, bindings) {
                value["bytes"] = json!(framing::hex(&bytes).replace(' ', ""));
            }
            value["raw"] = json!(
                matches!(payload, Payload::Bytes(_) | Payload::Length { .. }) || payload.is_raw()
            );
        }
        Action::Receive {
            wanted, arrival, ..
        } => {
            value["action"] = json!("receive");
            value["wanted"] = wanted
                .iter()
                .map(|w| json!({ "message": w.kind, "body": w.body }))
                .collect();
            match arrival {
                Arrival::Anytime => {}
                Arrival::After(expr) => value["after_ms"] = json!(expr.value(&bindings.limits)),
                Arrival::At(expr) => value["at_ms"] = json!(expr.value(&bindings.limits)),
                Arrival::ByNow => value["by_now"] = json!(true),
                Arrival::Within(expr) => value["within_ms"] = json!(expr.value(&bindings.limits)),
            }
        }
        Action::Pieces { wanted, .. } => {
            value["action"] = json!("pieces");
            value["wanted"] = json!([{ "message": wanted.kind, "body": wanted.body }]);
        }
        Action::Repeat {
            count,
            steps: inner,
        } => {
            value["action"] = json!("repeat");
            value["count"] = json!(count.value(&bindings.limits));
            bindings.set("i", "1".to_owned());
            value["steps"] = json!(steps(case, inner, bindings)?);
        }
        Action::AnyOrder(lanes) => {
            value["action"] = json!("any-order");
            let lanes = lanes
                .iter()
                .map(|lane| steps(case, lane, bindings))
                .collect::<Result<Vec<_>, _>>()?;
            value["lanes"] = json!(lanes);
        }
        Action::Join {
            name, capabilities, ..
        } => {
            value["action"] = json!("join");
            value["name"] = json!(name);
            value["capabilities"] = json!(capabilities);
        }
        Action::ClientStarts {
            password: Some(password),
        } => {
            value["action"] = json!("client-start");
            value["password"] = json!(password);
        }
        Action::Operates(words) => {
            value["action"] = json!("operate");
            value["operator"] = json!(words);
        }
        other => value["action"] = json!(name_of(other)),
    }
    Ok(value)
}

/// The name of an action that needs nothing more said.
fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Connect { .. } => "connect",
        Action::Join { .. } => "join",
        Action::Send { .. } => "send",
        Action::Receive { .. } => "receive",
        Action::Pieces { .. } => "pieces",
        Action::AllMembers { .. } => "members",
        Action::Finds { .. } => "finds",
        Action::Nothing { .. } => "nothing",
        Action::Closed { .. } => "closed",
        Action::HalfClose { .. } => "half-close",
        Action::Close { .. } => "close",
        Action::Reset { .. } => "reset",
        Action::Skips { .. } => "skip",
        Action::CatchesUp { .. } => "catch-up",
        Action::Accounts { .. } => "account",
        Action::Otherwise => "otherwise-end",
        Action::Silence(_) => "silence",
        Action::Repeat { .. } => "repeat",
        Action::AnyOrder(_) => "any-order",
        Action::Serves => "still-serves",
        Action::Restarts => "restart",
        Action::Kills => "kill",
        Action::ComesBack => "come-back",
        Action::Crowd(_) => "crowd",
        Action::SameEnd(_) => "same-end",
        Action::Stops => "stop",
        Action::Operates(_) => "operate",
        Action::Ends => "server-ends",
        Action::Saturate(Saturation::Server) => "fill",
        Action::Saturate(Saturation::Address) => "fill-address",
        Action::Saturate(Saturation::AddressRate) => "fill-minute",
        Action::ClientStarts { .. } => "client-start",
        Action::ClientJoins { .. } => "client-join",
        Action::ClientComesBack => "client-come-back",
        Action::ClientStaysAway => "client-stay-away",
        Action::Types(_) => "client-type",
        Action::InputEnds => "client-input-end",
        Action::Prints(_) => "client-print",
        Action::NeverPrints(_) => "client-never-print",
        Action::NeverShows(_) => "client-never-show",
        Action::ClientEnds => "client-end",
        Action::ClientFails => "client-fail",
    }
}
