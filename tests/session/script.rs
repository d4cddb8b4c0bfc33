//! Script: drives sessions and a room, and writes every event and effect down.

use chat::{
    identity::SenderId,
    limits::Limits,
    log::Audience,
    room::{Publication, Room},
    session::{
        AccessPolicy, AddressLimit, Closing, ConnectionId, Effect, Event, Offer, Sessions, Time,
    },
    wire::{
        self, Capability, ClientEnvelope, ServerEnvelope, client_envelope::Message as Sent,
        server_envelope::Message,
    },
};

/// The password of the tests. No output may hold it.
pub const PASSWORD: &str = "open sesame";

pub const START_UNIX_MS: i64 = 1_700_000_000_000;

/// Sessions and a room. Every event and effect is written down.
pub struct Script {
    pub sessions: Sessions,
    pub room: Room,
    pub elapsed_ms: u64,
    pub transcript: String,
}

/// A connection and its label in the script.
pub struct Client {
    pub label: &'static str,
    pub id: ConnectionId,
}

impl Script {
    pub fn new(limits: Limits) -> Self {
        Self::with_access(limits, AccessPolicy::default())
    }

    pub fn with_access(limits: Limits, access: AccessPolicy) -> Self {
        Self {
            sessions: Sessions::new(limits, access, Offer::default()),
            room: Room::new("epoch-1".to_owned(), &Limits::default()),
            elapsed_ms: 0,
            transcript: String::new(),
        }
    }

    pub fn note(&mut self, line: String) {
        self.transcript.push_str(&line);
        self.transcript.push('\n');
    }

    pub fn now(&self) -> Time {
        Time {
            elapsed_ms: self.elapsed_ms,
            unix_ms: START_UNIX_MS + self.elapsed_ms as i64,
            earliest_arrival_ms: self.elapsed_ms,
        }
    }

    pub fn connect(&mut self, label: &'static str) -> Client {
        let id = self.sessions.connect(self.now()).expect("there is room");
        Client { label, id }
    }

    pub fn connect_rejected(&mut self) {
        let answer = self.sessions.connect(self.now()).expect_err("no room");
        self.note(format!(
            "a connection is rejected\n    <- {}",
            show(&answer)
        ));
    }

    pub fn reject(&mut self, client: Client, limit: AddressLimit) {
        let answer = self.sessions.reject(client.id, limit);
        self.note(format!(
            "{}: is rejected\n    <- {}",
            client.label,
            show(&answer)
        ));
    }

    pub fn handle(&mut self, client: &Client, what: &str, event: Event) {
        self.note(format!("{}: {what}", client.label));
        let mut effects = Vec::new();
        {
            let now = self.now();
            self.sessions
                .handle(&mut self.room, now, &client.id, event, &mut effects);
        }
        self.effects(effects);
    }

    pub fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let line = match effect {
                Effect::Reply(envelope) => format!("<- {}", show(&envelope)),
                Effect::Publish(Publication { audience, envelope }) => {
                    let whom = match audience {
                        Audience::Everyone => "all",
                        Audience::Presence => "presence",
                    };
                    format!("=> {whom}: {}", show(&envelope))
                }
                Effect::Subscribe {
                    name,
                    presence,
                    from_seq,
                    sender_id,
                    filter,
                    ..
                } => {
                    let from = from_seq.map(|seq| format!(", from chat {seq}"));
                    let from = from.unwrap_or_default();
                    let key = sender_id.map(|id| format!(", with key {id}"));
                    let key = key.unwrap_or_default();
                    let filter = filter.map(|filter| format!(", {filter:?}"));
                    let filter = filter.unwrap_or_default();
                    format!("subscribes as {name}, presence {presence}{from}{key}{filter}")
                }
                Effect::Deliver { index, envelope } => {
                    format!("-> connection {index}: {}", show(&envelope))
                }
                Effect::Follow(change) => format!("{change:?}"),
                Effect::Cover { seq } => format!("covers up to {seq}"),
                Effect::File(task) => format!("the disk: {task:?}"),
                Effect::Download => "downloads".to_owned(),
                Effect::FetchPage(request) => format!("fetches {request:?}"),
                Effect::Farewell => "<- server closing, at the very end".to_owned(),
                Effect::Notify(index) => format!("notifies connection {index}"),
                Effect::Closed(closed) => format!("{closed:?}"),
            };
            self.note(format!("    {line}"));
        }
    }

    pub fn send(&mut self, client: &Client, message: Sent) {
        let what = format!("{message:?}");
        let envelope = ClientEnvelope {
            message: Some(message),
        };
        self.handle(client, &what, Event::Message(envelope));
    }

    pub fn register(&mut self, client: &Client, name: &str, capabilities: &[Capability]) {
        let asked: Vec<_> = capabilities.iter().map(|c| c.as_str_name()).collect();
        let capabilities = capabilities.iter().map(|&c| c.into()).collect();
        self.register_raw(client, name, capabilities, &asked.join(" "));
    }

    pub fn register_raw(
        &mut self,
        client: &Client,
        name: &str,
        capabilities: Vec<i32>,
        asked: &str,
    ) {
        let register = wire::Register {
            name: name.to_owned(),
            capabilities,
            ..Default::default()
        };
        let envelope = ClientEnvelope {
            message: Some(Sent::Register(register)),
        };
        let what = format!("register {name:?} {asked}");
        self.handle(client, what.trim_end(), Event::Message(envelope));
    }

    pub fn register_with_password(&mut self, client: &Client, name: &str, password: &str) {
        let register = Sent::Register(wire::Register {
            name: name.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        });
        let which = match password {
            "" => "no",
            PASSWORD => "the right",
            _ => "another",
        };
        // The Debug form, as a log would show it.
        let what = format!("{register:?}, that is {which} password");
        let envelope = ClientEnvelope {
            message: Some(register),
        };
        self.handle(client, &what, Event::Message(envelope));
    }

    pub fn chat(&mut self, client: &Client, text: &str, id: u64) {
        let chat = wire::Chat {
            text: text.to_owned(),
            id,
            ..Default::default()
        };
        let envelope = ClientEnvelope {
            message: Some(Sent::Chat(chat)),
        };
        self.handle(
            client,
            &format!("chat {text:?} id {id}"),
            Event::Message(envelope),
        );
    }

    pub fn member(&mut self, label: &'static str, capabilities: &[Capability]) -> Client {
        let client = self.connect(label);
        self.register(&client, label, capabilities);
        client
    }

    /// Lets time pass. Each client that is due handles a Tick.
    pub fn pass_ms(&mut self, ms: u64, clients: &[&Client]) {
        self.elapsed_ms += ms;
        self.note(format!("{ms} ms pass"));
        let mut due = Vec::new();
        self.sessions.due(&self.room, self.now(), &mut due);
        for client in clients {
            if due.contains(&client.id.index()) {
                self.handle(client, "tick", tick(true, true));
            }
        }
    }

    pub fn close(&mut self) {
        self.note("the server closes".to_owned());
        self.sessions.begin_closing(Closing {
            detail: "maintenance".to_owned(),
            retry_after_ms: 1_000,
        });
    }

    pub fn disconnect(&mut self, client: Client) {
        self.note(format!("{}: is gone", client.label));
        let mut effects = Vec::new();
        let now = self.now();
        self.sessions
            .disconnect(&mut self.room, now, client.id, &mut effects);
        self.effects(effects);
    }
}

pub fn tick(reads_drained: bool, replies_flushed: bool) -> Event {
    Event::Tick {
        reads_drained,
        replies_flushed,
        progress: None,
    }
}

/// Limits under which no member is pinged or closed for its silence.
pub fn long_deadlines() -> Limits {
    Limits {
        keepalive_interval_ms: 1_000_000,
        idle_deadline_ms: 2_000_000,
        register_deadline_ms: 20_000,
        ..Limits::default()
    }
}

/// A line for a message, with its essential fields.
pub fn show(envelope: &ServerEnvelope) -> String {
    match envelope
        .message
        .as_ref()
        .expect("a server sends no empty envelope")
    {
        Message::Registered(registered) => format!(
            "registered {} epoch {} seq {} granted {:?}",
            registered.name,
            registered.epoch,
            registered.seq,
            registered.capabilities().collect::<Vec<_>>()
        ),
        Message::Chat(chat) => {
            assert_eq!(chat.id, 0, "CHAT-CHAT-9");
            let after_ms = chat.time_unix_ms - START_UNIX_MS;
            let id = SenderId::from_bytes(&chat.sender_id);
            let by = id.map_or_else(String::new, |id| format!(" with key {id}"));
            format!(
                "chat #{} @{}{by}: {:?} at {after_ms} ms",
                chat.seq, chat.sender, chat.text
            )
        }
        Message::Error(error) => {
            let mut line = format!("error {} ({})", error.code().as_str_name(), error.detail);
            if error.ends_session {
                line += " ends the session";
            }
            if error.id != 0 {
                line += &format!(" id {}", error.id);
            }
            if error.retry_after_ms != 0 {
                line += &format!(" retry after {} ms", error.retry_after_ms);
            }
            line
        }
        Message::History(history) => format!("{history:?}"),
        Message::Direct(direct) => {
            assert_eq!(direct.id, 0, "CHAT-DM-4");
            let after_ms = direct.time_unix_ms - START_UNIX_MS;
            format!(
                "direct #{} @{}: {:?} at {after_ms} ms",
                direct.seq, direct.peer, direct.text
            )
        }
        Message::DirectState(state) => {
            format!("direct {} delivered {}", state.id, state.delivered)
        }
        Message::Challenge(challenge) => format!(
            "challenge of {} bytes, epoch {}",
            challenge.nonce.len(),
            challenge.epoch
        ),
        Message::Following(following) => format!("{following:?}"),
        Message::Covered(covered) => format!("{covered:?}"),
        Message::FileState(state) => format!("file state, have {}", state.have),
        Message::FileData(data) => format!("{} bytes of a file", data.data.len()),
        Message::ServerClosing(closing) => format!("server closing ({})", closing.detail),
        Message::Receipt(receipt) => {
            let after_ms = receipt.time_unix_ms - START_UNIX_MS;
            format!(
                "receipt id {} #{} at {after_ms} ms",
                receipt.id, receipt.seq
            )
        }
        Message::Joined(joined) => format!("joined {}", joined.name),
        Message::Left(left) => format!("left {} {}", left.name, left.reason().as_str_name()),
        Message::Members(members) => {
            format!("members {:?} more {}", members.names, members.more)
        }
        Message::Ping(ping) => format!("ping {}", ping.token),
        Message::Pong(pong) => format!("pong {}", pong.token),
    }
}

pub const ALL: [Capability; 3] = [
    Capability::Presence,
    Capability::Receipts,
    Capability::Keepalive,
];
