//! Transcript: one case of the suite as data, the syntax tree of a `.chat` file. `parse`
//! reads the notation, `print` writes it, and `conformance/write-a-case.md` documents it.

pub mod body;
mod condition;
mod content;
pub mod expr;
pub mod parse;
mod payload;
mod person;
pub mod print;
pub mod word;

use serde_json::Value;

use condition::Condition;
pub use content::{Content, CutAt, Payload};
use expr::Expr;

/// The end that a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The suite plays clients against a server.
    Server,
    /// The suite plays the server against a client.
    Client,
}

/// What a server knows of the keys of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keys {
    /// Nothing: it ignores them (CHAT-ID-1).
    #[default]
    Ignored,
    /// It asks for their proof.
    Known,
    /// The first that is proved for a name owns it, too (CHAT-ID-10).
    Owning,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// `area/case`, permanent; client cases are `client/area/case`.
    pub id: String,
    /// The statement that the case proves, in one line.
    pub title: String,
    /// Why it matters.
    pub why: String,
    /// The rules that it proves.
    pub rules: Vec<String>,
    /// The capabilities it needs granted, in lower case.
    pub needs: Vec<String>,
    /// The capabilities that the server must not grant, in lower case.
    pub lacks: Vec<String>,
    /// What the case requires of the server's limits.
    pub when: Vec<Condition>,
    /// Words for names that no connection registers.
    pub names: Vec<String>,
    /// Whether the server must ask for a password (Some(true)), must ask for none
    /// (Some(false)), or may do either.
    pub asks_password: Option<bool>,
    /// The people whose names the server's list must hold; empty: it must have no list.
    pub listed: Vec<String>,
    /// Whether the server must keep the room on disk, so that it comes back with it.
    pub needs_data: bool,
    /// What the server must know of keys (CHAT-ID).
    pub keys: Keys,
    /// Recorded, and not yet reviewed against the schema.
    pub draft: bool,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Case {
    /// Which end is under test.
    pub fn side(&self) -> Side {
        if self.id.starts_with("client/") {
            Side::Client
        } else {
            Side::Server
        }
    }

    /// The folder of the case: `order`, or `client/order`.
    pub fn area(&self) -> &str {
        self.id.rsplit_once('/').map_or("", |(area, _)| area)
    }

    /// Whether the case waits for a deadline or a silence to pass.
    pub fn is_slow(&self) -> bool {
        self.any_step(&|step| match &step.action {
            Action::Silence(wait) => wait.is_limit(),
            action => action.wait().is_some(),
        })
    }

    /// Whether the case depends on a limit in milliseconds, so that the suite must answer
    /// within it.
    pub fn depends_on(&self, limit: &str) -> bool {
        self.when.iter().any(|condition| condition.is_of(limit))
            || self.any_step(&|step| step.action.wait().is_some_and(|wait| wait.is_of(limit)))
    }

    /// Whether the case is about the rate of chats, which the suite keeps in all others.
    pub fn is_about_rate(&self) -> bool {
        self.when.iter().any(|it| it.is_of("chat_interval_ms"))
    }

    /// Whether a step waits for an Error with this code.
    pub fn is_about_code(&self, code: &str) -> bool {
        let code = format!("ERROR_CODE_{code}");
        self.any_step(&|step| match &step.action {
            Action::Receive { wanted, .. } => wanted.iter().any(|one| one.body["code"] == *code),
            _ => false,
        })
    }

    /// Whether the case ends the server.
    pub fn is_closing(&self) -> bool {
        self.any_step(&|step| matches!(step.action, Action::Stops))
    }

    /// Whether the operator of the server acts in the case.
    pub fn is_operating(&self) -> bool {
        self.any_step(&|step| matches!(step.action, Action::Operates(_)))
    }

    /// Whether the case brings the server to a limit on connections.
    pub fn is_saturating(&self) -> bool {
        self.saturation().is_some()
    }

    /// The limit on connections that the case brings the server to.
    pub fn saturation(&self) -> Option<Saturation> {
        [
            Saturation::Server,
            Saturation::Address,
            Saturation::AddressRate,
        ]
        .into_iter()
        .find(|&saturation| {
            self.any_step(&|step| matches!(step.action, Action::Saturate(f) if f == saturation))
        })
    }

    /// Whether the case needs a server that it can end and start.
    pub fn is_restarting(&self) -> bool {
        self.any_step(&|step| {
            matches!(
                step.action,
                Action::Restarts | Action::Kills | Action::ComesBack
            )
        })
    }

    /// Whether the case expects to hear what a filter has kept out; in all others that is
    /// dropped, since a server may say it at any time.
    pub fn is_about_coverage(&self) -> bool {
        self.any_step(&|step| {
            matches!(&step.action, Action::Receive { wanted, .. }
                if wanted.iter().any(|it| it.kind == "covered"))
        })
    }

    /// Why nobody else may talk in the room meanwhile, or be in it; `None` if they may.
    pub fn why_exclusive(&self) -> Option<&'static str> {
        let needs = |capability| self.needs.iter().any(|it| it == capability);
        if self.any_step(&|step| matches!(step.action, Action::CatchesUp { .. })) {
            Some("it floods the room")
        } else if needs("history") {
            Some("it reads the past, in which others may have talked")
        } else if needs("follow") {
            Some("it counts what a filter keeps out, and others may talk")
        } else {
            None
        }
    }

    /// Whether the case sends or opens so much that once is enough.
    pub fn is_heavy(&self) -> bool {
        self.any_step(&|step| match &step.action {
            // Seconds' worth of frames are tens of thousands where the rate is high.
            Action::Repeat { count, .. } => {
                count.is_of("frames_per_second_max") || count.is_of("resend_ids_max")
            }
            Action::Send { payload, .. } => payload.is_cut_everywhere(),
            Action::Crowd(_) | Action::CatchesUp { .. } | Action::Pieces { .. } => true,
            _ => false,
        })
    }

    /// Whether the case sends bytes that no client library would.
    pub fn is_raw(&self) -> bool {
        self.any_step(
            &|step| matches!(&step.action, Action::Send { payload, .. } if payload.is_raw()),
        )
    }

    /// Whether any step, inner ones included, satisfies the predicate.
    pub fn any_step(&self, predicate: &dyn Fn(&Step) -> bool) -> bool {
        any_step(&self.steps, predicate)
    }

    /// The people with a connection in the case, in the order of their first step.
    pub fn people(&self) -> Vec<&str> {
        let mut people = Vec::new();
        collect_people(&self.steps, &mut people);
        people
    }
}

fn any_step(steps: &[Step], predicate: &dyn Fn(&Step) -> bool) -> bool {
    steps.iter().any(|step| {
        predicate(step)
            || match &step.action {
                Action::Repeat { steps, .. } => any_step(steps, predicate),
                Action::AnyOrder(lanes) => lanes.iter().any(|lane| any_step(lane, predicate)),
                _ => false,
            }
    })
}

fn collect_people<'a>(steps: &'a [Step], people: &mut Vec<&'a str>) {
    for step in steps {
        match &step.action {
            Action::Repeat { steps, .. } => collect_people(steps, people),
            Action::AnyOrder(lanes) => lanes.iter().for_each(|l| collect_people(l, people)),
            action => {
                if let Some(who) = action.who().filter(|who| !people.contains(who)) {
                    people.push(who);
                }
            }
        }
    }
}

/// One step: its line, its action, and the rules that it decides.
#[derive(Clone, Debug)]
pub struct Step {
    /// The line of the file, from 1.
    pub line: usize,
    /// The rules to blame when this step fails; none: those of the case.
    pub rules: Vec<String>,
    /// The action.
    pub action: Action,
}

/// Which limit on connections a case brings the server to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saturation {
    /// As many connections as the server takes in all.
    Server,
    /// As many as it takes from one network address at a time.
    Address,
    /// As many as it takes from one network address in a minute.
    AddressRate,
}

/// The action of a step.
#[derive(Clone, Debug)]
pub enum Action {
    /// Opens a connection.
    Connect {
        /// The person.
        who: String,
        /// With a receive buffer as small as the system allows.
        small_window: bool,
    },
    /// Connects if need be, registers and takes the answer.
    Join {
        /// The person.
        who: String,
        /// The name to ask for, a pattern.
        name: String,
        /// The capabilities to ask for, in lower case.
        capabilities: Vec<String>,
        /// Tries again, bounded, while the name is still in use.
        patiently: bool,
    },
    /// Sends a message or bytes.
    Send {
        /// The person.
        who: String,
        /// What.
        payload: Payload,
    },
    /// Receives one message, which must be one of those wanted.
    Receive {
        /// The person.
        who: String,
        /// The alternatives.
        wanted: Vec<Wanted>,
        /// When it may arrive.
        arrival: Arrival,
    },
    /// Receives the bytes of a file in as many pieces as it takes.
    Pieces {
        /// The person.
        who: String,
        /// FileData as if all bytes came in one.
        wanted: Wanted,
    },
    /// Reads Members up to the last.
    AllMembers {
        /// The person.
        who: String,
    },
    /// Checks the names that Members gave.
    Finds {
        /// The person.
        who: String,
        /// Patterns of the names.
        names: Vec<String>,
    },
    /// States that the steps before send this connection nothing, which its next message
    /// proves.
    Nothing {
        /// The person.
        who: String,
    },
    /// The other end closes the connection, everything before having been received.
    Closed {
        /// The person.
        who: String,
        /// As in `Receive`.
        arrival: Arrival,
        /// By the end of the stream, not by a reset.
        in_order: bool,
    },
    /// Ends the sending side and goes on receiving.
    HalfClose {
        /// The person.
        who: String,
    },
    /// Closes the connection.
    Close {
        /// The person.
        who: String,
    },
    /// Breaks the connection off, as a crash does.
    Reset {
        /// The person.
        who: String,
    },
    /// Ends the case if the step before did not succeed, since the steps behind depend on
    /// it. The case goes on otherwise, if that step is no MUST.
    Otherwise,
    /// All connections are silent for this many milliseconds.
    Silence(Expr),
    /// Repeats steps; `<i>` counts from 1.
    Repeat {
        /// How often.
        count: Expr,
        /// The steps.
        steps: Vec<Step>,
    },
    /// Lanes of receiving: each in its order, any interleaving of them.
    AnyOrder(Vec<Vec<Step>>),
    /// Two fresh members come and talk.
    Serves,
    /// The server ends and is started anew with an empty room, everybody's connection gone.
    Restarts,
    /// The server's process is ended at once, as a crash does.
    Kills,
    /// The server is started with the room that it kept, everybody's connection gone.
    ComesBack,
    /// So many members join, with the longest names, and stay to the end.
    Crowd(Expr),
    /// Drops every message that has arrived by now.
    Skips {
        /// The person.
        who: String,
    },
    /// Reads until it has every chat or is closed, and checks that there is no gap.
    CatchesUp {
        /// The person.
        who: String,
        /// It must have every chat, so it is not closed before.
        with_everything: bool,
    },
    /// Checks that each chat of one member either reached another one or was refused.
    Accounts {
        /// The sender.
        who: String,
        /// The member that receives its chats.
        receiver: String,
    },
    /// These connections receive the same chats, then ServerClosing, and are closed.
    SameEnd(Vec<String>),
    /// The server is told to end.
    Stops,
    /// The server's process has ended, within the time the schema gives it.
    Ends,
    /// The operator acts on the server, with these words behind the command of the run.
    Operates(String),
    /// Connections bring the server to one of its limits on them.
    Saturate(Saturation),
    /// The client under test is started and connects.
    ClientStarts {
        /// The password that it is given, if any.
        password: Option<String>,
    },
    /// The client under test is started, registers and is accepted.
    ClientJoins {
        /// The capabilities that it must ask for, and is granted.
        capabilities: Vec<String>,
    },
    /// The client under test connects again.
    ClientComesBack,
    /// The client under test has not connected again.
    ClientStaysAway,
    /// A line is typed into the client.
    Types(String),
    /// The client's input ends.
    InputEnds,
    /// The client prints this line next.
    Prints(String),
    /// The client never prints this, to its end.
    NeverPrints(String),
    /// The same, and not on its error output either.
    NeverShows(String),
    /// The client's process ends by itself.
    ClientEnds,
    /// The client's process ends by itself, as one that has failed, and has said
    /// something on its error output.
    ClientFails,
}

impl Action {
    /// How long the step waits before it can succeed, in milliseconds.
    pub fn wait(&self) -> Option<&Expr> {
        match self {
            Action::Silence(wait) => Some(wait),
            Action::Receive { arrival, .. } | Action::Closed { arrival, .. } => match arrival {
                Arrival::After(wait) | Arrival::At(wait) => Some(wait),
                Arrival::Anytime | Arrival::ByNow | Arrival::Within(_) => None,
            },
            _ => None,
        }
    }

    /// The person whose connection the action is about, if it is about one.
    pub fn who(&self) -> Option<&str> {
        match self {
            Action::Connect { who, .. }
            | Action::Join { who, .. }
            | Action::Send { who, .. }
            | Action::Receive { who, .. }
            | Action::Pieces { who, .. }
            | Action::AllMembers { who }
            | Action::Finds { who, .. }
            | Action::Nothing { who }
            | Action::Closed { who, .. }
            | Action::HalfClose { who }
            | Action::Close { who }
            | Action::Reset { who }
            | Action::Skips { who }
            | Action::CatchesUp { who, .. }
            | Action::Accounts { who, .. } => Some(who),
            _ => None,
        }
    }
}

/// When a step takes the message that it expects.
#[derive(Clone, Debug, Default)]
pub enum Arrival {
    /// Within the deadline of a step.
    #[default]
    Anytime,
    /// No sooner than this many milliseconds after the last message that the connection
    /// sent.
    After(Expr),
    /// So many milliseconds after the last message that the connection sent, neither
    /// clearly sooner nor clearly later.
    At(Expr),
    /// Before the step: it has arrived by now.
    ByNow,
    /// Within so many milliseconds.
    Within(Expr),
}

/// One message that would be right.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The envelope's arm.
    pub kind: String,
    /// The body, with placeholders.
    pub body: Value,
}
