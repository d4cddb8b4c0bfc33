//! Blame: the rules that a failed step breaks. A step whose rule is not among those of
//! its case blames that rule, and not the rules that the case is about.

use crate::{
    problem::Problem,
    transcript::{Action, Case, Content, Payload, Side, Step},
    verdict::Kind,
};

/// The rules that can decide a step: the one that does so in any case, and those that
/// may do so in a case about them. A rule that ends in a hyphen is a whole area.
#[derive(Debug)]
struct Deciding {
    first: &'static str,
    also: &'static [&'static str],
}

impl Deciding {
    fn has(&self, rule: &str) -> bool {
        let mut all = self.also.iter().chain(std::iter::once(&self.first));
        all.any(|id| rule == *id || (id.ends_with('-') && rule.starts_with(id)))
    }
}

/// The rules to blame for a problem at a step.
pub fn blame(case: &Case, step: &Step, problem: &Problem) -> Vec<String> {
    if !problem.rules.is_empty() {
        return problem.rules.iter().map(|r| (*r).to_owned()).collect();
    }
    let context = Context::of(case, step);
    // The end of a connection after a fatal error has its own rule, whatever the error.
    if matches!(step.action, Action::Closed { .. }) && context.is_after_fatal_error {
        return vec!["CHAT-ERR-1".to_owned()];
    }
    let deciding = match &problem.unexpected {
        Some(kind) => of_unexpected(kind),
        None => deciding(&step.action, &context, problem),
    };
    // A field that is wrong tells more than the step does.
    let is_of_step = problem.unexpected.is_none() && problem.fields.is_empty();
    let candidates: &[&[String]] = match (is_of_step, step.rules.is_empty(), &deciding) {
        (true, false, _) | (false, false, None) => return step.rules.clone(),
        (_, true, _) => &[&case.rules],
        (false, false, Some(_)) => &[&step.rules, &case.rules],
    };
    let Some(deciding) = deciding else {
        return case.rules.clone();
    };
    for rules in candidates {
        let decided: Vec<String> = rules.iter().filter(|r| deciding.has(r)).cloned().collect();
        if !decided.is_empty() {
            return decided;
        }
    }
    vec![deciding.first.to_owned()]
}

/// The rule that a step without a rule of its own must name, because none of those of its
/// case decides it.
pub fn missing_rule(case: &Case, step: &Step) -> Option<&'static str> {
    if !step.rules.is_empty() || is_shorthand(&step.action) {
        return None;
    }
    let context = Context::of(case, step);
    if matches!(step.action, Action::Closed { .. }) && context.is_after_fatal_error {
        return None;
    }
    let nothing = Problem::new(Kind::Hang, &[], "");
    let deciding = deciding(&step.action, &context, &nothing)?;
    let is_named = case.rules.iter().any(|rule| deciding.has(rule));
    (!is_named).then_some(deciding.first)
}

/// Whether a step stands for several, which need no rules of their own.
fn is_shorthand(action: &Action) -> bool {
    matches!(
        action,
        Action::Join { .. } | Action::Saturate(_) | Action::Crowd(_)
    )
}

/// The steps of the same person before a step.
struct Context {
    side: Side,
    is_after_fatal_error: bool,
    is_after_leave: bool,
    is_after_end_of_stream: bool,
    is_after_closing: bool,
    /// Whether the last bytes were a complete frame.
    has_sent_frame: bool,
    /// Whether the case is about the choice among error codes.
    is_about_codes: bool,
}

impl Context {
    fn of(case: &Case, step: &Step) -> Self {
        let mut context = Self {
            side: case.side(),
            is_after_fatal_error: false,
            is_after_leave: false,
            is_after_end_of_stream: false,
            is_after_closing: false,
            has_sent_frame: false,
            is_about_codes: case.rules.iter().any(|rule| rule == "CHAT-ERR-5"),
        };
        context.add(&case.steps, step);
        context
    }

    /// Takes in the steps up to this one; whether it was among them.
    fn add(&mut self, steps: &[Step], until: &Step) -> bool {
        let who = until.action.who();
        for step in steps {
            if std::ptr::eq(step, until) {
                return true;
            }
            match &step.action {
                Action::Repeat { steps, .. } => {
                    if self.add(steps, until) {
                        return true;
                    }
                }
                Action::AnyOrder(lanes) => {
                    if lanes.iter().any(|lane| self.add(lane, until)) {
                        return true;
                    }
                }
                action if action.who() == who => self.note(action),
                _ => {}
            }
        }
        false
    }

    fn note(&mut self, action: &Action) {
        match action {
            Action::Connect { .. } | Action::Join { .. } => {
                self.is_after_fatal_error = false;
                self.is_after_leave = false;
                self.is_after_end_of_stream = false;
            }
            Action::Send { payload, .. } => {
                self.is_after_leave |= kind_of(payload) == Some("leave");
                self.has_sent_frame =
                    matches!(payload, Payload::Frame { cut_at, .. } if cut_at.is_none());
            }
            Action::HalfClose { .. } => self.is_after_end_of_stream = true,
            Action::Receive { wanted, .. } => {
                let last = wanted.first();
                self.is_after_fatal_error =
                    last.is_some_and(|w| w.kind == "error" && w.body["endsSession"] == true);
                self.is_after_closing = last.is_some_and(|w| w.kind == "server_closing");
            }
            _ => {}
        }
    }
}

fn kind_of(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::Frame {
            envelope: Content::Message { kind, .. },
            ..
        } => Some(kind),
        _ => None,
    }
}

/// The rules that can decide a step; None: all of those of the case.
fn deciding(action: &Action, context: &Context, problem: &Problem) -> Option<Deciding> {
    match (action, context.side) {
        (Action::Receive { wanted, .. }, side) => {
            let first = wanted.first()?;
            if wanted.iter().any(|other| other.kind != first.kind) {
                return None;
            }
            match side {
                Side::Client => of_client_message(&first.kind),
                Side::Server if first.kind == "error" => {
                    of_error(first.body["code"].as_str()?, context, problem)
                }
                Side::Server => of_message(&first.kind, problem),
            }
        }
        (Action::Join { .. } | Action::Crowd(_) | Action::Saturate(_), Side::Server) => {
            of_message("registered", problem)
        }
        (Action::Closed { .. }, Side::Server) => of_close(context),
        (Action::AllMembers { .. } | Action::Finds { .. }, _) => rules(
            "CHAT-PRES-1",
            &["CHAT-PRES-", "CHAT-REG-3", "CHAT-FRAME-12"],
        ),
        (Action::CatchesUp { .. }, _) => rules("CHAT-ORD-4", &["CHAT-ORD-", "CHAT-LIM-"]),
        (Action::Ends, _) => rules("CHAT-CLOSE-3", &["CHAT-CLOSE-"]),
        _ => None,
    }
}

fn rules(first: &'static str, also: &'static [&'static str]) -> Option<Deciding> {
    Some(Deciding { first, also })
}

/// Messages of a client under test.
fn of_client_message(kind: &str) -> Option<Deciding> {
    match kind {
        "register" => rules("CHAT-REG-1", &["CHAT-REG-", "CHAT-ADM-", "CHAT-NAME-"]),
        "leave" => rules("CHAT-LEAVE-1", &["CHAT-LEAVE-"]),
        "pong" => rules("CHAT-KEEP-2", &["CHAT-KEEP-", "CHAT-GROW-", "CHAT-FRAME-"]),
        _ => None,
    }
}

/// Errors: the rule that asks for the code.
fn of_error(code: &str, context: &Context, problem: &Problem) -> Option<Deciding> {
    let code = code.strip_prefix("ERROR_CODE_")?;
    // The code is right, and another field is wrong.
    match problem.fields.as_slice() {
        [field] if field == "id" => return rules("CHAT-ERR-4", &[]),
        [field] if field == "endsSession" => return rules("CHAT-ERR-2", &[]),
        [field] if field == "detail" => return rules("CHAT-ERR-6", &["CHAT-ADM-5"]),
        _ => {}
    }
    // Another error came: its code may be one of several that apply.
    if problem.code.is_some() && context.is_about_codes {
        return rules("CHAT-ERR-5", &[]);
    }
    match code {
        "MALFORMED_FRAME" if context.is_after_end_of_stream => rules("CHAT-FRAME-10", &[]),
        "MALFORMED_FRAME" if context.has_sent_frame => rules("CHAT-FRAME-8", &["CHAT-ERR-11"]),
        "MALFORMED_FRAME" => rules("CHAT-FRAME-4", &["CHAT-ERR-11"]),
        "FRAME_TOO_LONG" => rules("CHAT-FRAME-5", &["CHAT-FRAME-6", "CHAT-ERR-11"]),
        "NOT_REGISTERED" => rules("CHAT-REG-2", &[]),
        "ALREADY_REGISTERED" => rules("CHAT-REG-6", &[]),
        "REGISTER_TIMEOUT" => rules("CHAT-REG-5", &[]),
        "SERVER_FULL" => rules("CHAT-REG-9", &[]),
        "NAME_INVALID" => rules("CHAT-NAME-1", &[]),
        "NAME_RESERVED" => rules("CHAT-NAME-2", &[]),
        "NAME_IN_USE" => rules("CHAT-NAME-3", &["CHAT-NAME-"]),
        "TEXT_INVALID" => rules("CHAT-CHAT-6", ANSWERS),
        "TEXT_TOO_LONG" => rules("CHAT-CHAT-7", ANSWERS),
        "RATE_LIMITED" => rules("CHAT-LIM-3", ANSWERS),
        "UNKNOWN_MESSAGE" => rules("CHAT-GROW-1", ANSWERS),
        "NOT_GRANTED" => rules("CHAT-GROW-6", ANSWERS),
        "IDLE_TIMEOUT" => rules("CHAT-KEEP-4", &["CHAT-KEEP-"]),
        "PASSWORD_WRONG" => rules("CHAT-ADM-1", &["CHAT-ADM-2"]),
        "NAME_NOT_ALLOWED" => rules("CHAT-ADM-4", &["CHAT-ADM-2"]),
        "TOO_MANY_CONNECTIONS" => rules("CHAT-REG-11", &[]),
        "CONNECTING_TOO_FAST" => rules("CHAT-REG-12", &[]),
        "NAME_RECLAIMED" => rules("CHAT-NAME-9", &["CHAT-NAME-"]),
        "TOO_MANY_ERRORS" => rules("CHAT-ERR-8", &["CHAT-ERR-"]),
        "SLOW_CONSUMER" => rules("CHAT-LIM-5", &["CHAT-LIM-"]),
        "OVERLOADED" => rules("CHAT-LIM-10", &["CHAT-LIM-"]),
        _ => None,
    }
}

/// The rules that an answer which does not come can break.
const ANSWERS: &[&str] = &["CHAT-LIM-9", "CHAT-ERR-11"];

/// Messages of a server: the rule that asks for the message, or for the field of it that
/// is wrong.
fn of_message(kind: &str, problem: &Problem) -> Option<Deciding> {
    let field = match problem.fields.as_slice() {
        [field] => field.as_str(),
        _ => "",
    };
    match (kind, field) {
        ("registered", "name") => rules("CHAT-REG-4", &["CHAT-NAME-"]),
        ("registered", "seq") => rules("CHAT-ORD-6", &["CHAT-ORD-"]),
        ("registered", "epoch") => rules("CHAT-ORD-7", &["CHAT-REG-3"]),
        ("registered", "capabilities") => {
            rules("CHAT-REG-7", &["CHAT-REG-8", "CHAT-GROW-", "CHAT-ADM-"])
        }
        ("registered", "limits") => rules("CHAT-LIM-1", &["CHAT-LIM-7"]),
        ("registered", _) => match problem.code.as_deref() {
            Some("NAME_IN_USE") => rules("CHAT-NAME-6", &["CHAT-NAME-", "CHAT-FRAME-9", LEAVE]),
            Some("PASSWORD_WRONG") => rules("CHAT-ADM-1", &["CHAT-ADM-"]),
            Some("NAME_NOT_ALLOWED") => rules("CHAT-ADM-4", &["CHAT-ADM-"]),
            _ => rules("CHAT-REG-3", REGISTERING),
        },
        // A chat that does not come, or another in its place, is what most rules are about.
        ("chat", "sender") => rules("CHAT-CHAT-4", &["CHAT-REG-4"]),
        ("chat", "seq") => rules("CHAT-ORD-1", NUMBERED),
        ("chat", "timeUnixMs") => rules("CHAT-CHAT-5", &["CHAT-RCPT-3"]),
        ("chat", "id") => rules("CHAT-CHAT-9", &[]),
        ("chat", _) => None,
        ("members", _) => rules(
            "CHAT-PRES-1",
            &["CHAT-PRES-", "CHAT-REG-3", "CHAT-FRAME-12"],
        ),
        ("joined", _) => rules("CHAT-PRES-2", &["CHAT-PRES-", "CHAT-ERR-3"]),
        ("left", "reason") => rules("CHAT-PRES-5", &[]),
        ("left", _) => rules("CHAT-PRES-3", &["CHAT-PRES-", LEAVE]),
        ("receipt", "seq") => rules("CHAT-RCPT-1", NUMBERED),
        ("receipt", "timeUnixMs") => rules("CHAT-RCPT-3", &[]),
        ("receipt", _) => rules(
            "CHAT-RCPT-1",
            &[
                "CHAT-RCPT-",
                "CHAT-CLOSE-6",
                "CHAT-ERR-3",
                "CHAT-ERR-11",
                "CHAT-LIM-",
                LEAVE,
            ],
        ),
        ("pong", _) => rules(
            "CHAT-KEEP-1",
            &["CHAT-KEEP-", "CHAT-ERR-3", "CHAT-ERR-11", "CHAT-LIM-9"],
        ),
        ("ping", _) => rules("CHAT-KEEP-3", &["CHAT-KEEP-", "CHAT-NAME-"]),
        ("server_closing", _) => rules("CHAT-CLOSE-1", &["CHAT-CLOSE-"]),
        _ => None,
    }
}

/// Messages that no step expects: the rule against one too many.
fn of_unexpected(kind: &str) -> Option<Deciding> {
    match kind {
        "chat" => rules(
            "CHAT-ORD-2",
            &[
                "CHAT-CHAT-",
                "CHAT-ORD-",
                "CHAT-CLOSE-",
                "CHAT-ERR-10",
                "CHAT-FRAME-",
                "CHAT-LIM-",
                "CHAT-REG-",
                LEAVE,
            ],
        ),
        "receipt" => rules("CHAT-RCPT-2", &["CHAT-RCPT-", "CHAT-CHAT-8", "CHAT-ERR-10"]),
        "joined" => rules("CHAT-PRES-2", &["CHAT-PRES-"]),
        "left" => rules("CHAT-PRES-3", &["CHAT-PRES-"]),
        "members" => rules("CHAT-PRES-1", &["CHAT-PRES-"]),
        "pong" => rules("CHAT-KEEP-1", &["CHAT-KEEP-"]),
        _ => None,
    }
}

const LEAVE: &str = "CHAT-LEAVE-";

/// The rules that a Register that is not accepted can break.
const REGISTERING: &[&str] = &[
    "CHAT-REG-",
    "CHAT-NAME-",
    "CHAT-ADM-",
    "CHAT-FRAME-",
    "CHAT-GROW-",
    "CHAT-PRES-1",
    "CHAT-LIM-1",
    "CHAT-LIM-7",
    LEAVE,
];

/// The rules that a wrong number can break.
const NUMBERED: &[&str] = &[
    "CHAT-ORD-",
    "CHAT-CHAT-5",
    "CHAT-CHAT-8",
    "CHAT-CLOSE-5",
    "CHAT-ERR-10",
    "CHAT-FRAME-9",
    "CHAT-LEAVE-4",
    "CHAT-LIM-3",
    "CHAT-RCPT-1",
];

/// The end of a connection.
fn of_close(context: &Context) -> Option<Deciding> {
    if context.is_after_closing {
        rules("CHAT-CLOSE-2", &["CHAT-CLOSE-"])
    } else if context.is_after_leave {
        rules("CHAT-LEAVE-2", &["CHAT-GROW-3", "CHAT-FRAME-7"])
    } else if context.is_after_end_of_stream {
        rules("CHAT-LEAVE-5", &["CHAT-FRAME-", "CHAT-REG-13"])
    } else {
        None
    }
}
