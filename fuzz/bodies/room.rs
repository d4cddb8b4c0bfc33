//! Bytes from several connections at arbitrary times, through the framing, the
//! sessions, the room and the log, as the server puts them together. A model that knows only
//! who is here and what each is to receive judges every step.

use std::collections::{BTreeSet, VecDeque};

use chat::{
    frame::{self, Split},
    identity::{KEY_BYTES, NONCE_BYTES},
    limits::{Limits, UNREGISTERED_FRAME_BYTES_MAX},
    log::{Audience, Log, Reader},
    room::{Publication, Room},
    session::{AccessPolicy, Closing, ConnectionId, Effect, Event, Offer, Sessions, Time},
    wire::{
        self, ClientEnvelope, ServerEnvelope, client_envelope::Message as Sent,
        server_envelope::Message as Told,
    },
};
use prost::Message as _;

/// How many connections there can be at a time; the server is full before.
const PLACES: usize = 4;

/// A longer script shows nothing that a shorter one does not.
const STEPS_MAX: usize = 2_000;

/// Names that clients ask for: some equal, some refused.
const NAMES: [&str; 8] = ["Alice", "aLICE", "Bob", "b", "Server", "", "é", "x-1_2.3"];

fn limits() -> Limits {
    Limits {
        connections_max: 3,
        frame_bytes_max: 600,
        text_bytes_max: 300,
        chat_burst: 20,
        chat_interval_ms: Some(100),
        register_deadline_ms: 1_000,
        keepalive_interval_ms: 300,
        name_check_deadline_ms: 200,
        idle_deadline_ms: 1_000,
        errors_max: Some(30),
        ..Limits::default()
    }
}

/// A script: each step is a byte, what it takes follows.
pub fn run(data: &[u8]) {
    let mut script = Script(data);
    let mut server = Server::new();
    for _ in 0..STEPS_MAX {
        let Some(step) = script.byte() else { break };
        server.step(step, &mut script);
    }
    server.finish();
}

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn number(&mut self) -> usize {
        self.byte().unwrap_or_default().into()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.number().min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes.to_vec()
    }
}

struct Server {
    sessions: Sessions,
    room: Room,
    log: Log,
    now_ms: u64,
    places: [Option<Place>; PLACES],
    /// What the model says: who is here (in lower case), how many chats there were,
    /// and whether the server closes.
    names: BTreeSet<String>,
    chats: u64,
    is_closing: bool,
}

struct Place {
    id: ConnectionId,
    unread: Vec<u8>,
    /// Replies that have not been sent, and how much of them has.
    replies: Vec<u8>,
    replies_sent: usize,
    reader: Option<Reader>,
    /// What the client has received and not looked at.
    received: Vec<u8>,
    /// What it is to receive, from either stream.
    answers_due: VecDeque<ServerEnvelope>,
    room_due: VecDeque<ServerEnvelope>,
    member: Option<Member>,
    was_member: bool,
    is_ended: bool,
    has_more_members: bool,
    /// The numbers of the chats it has seen or sent have no gap.
    seen_seq: u64,
    own_seqs: BTreeSet<u64>,
}

#[derive(Clone)]
struct Member {
    name: String,
    presence: bool,
    receipts: bool,
    keepalive: bool,
    direct: bool,
    /// How many Directs it was sent.
    directs: u64,
}

impl Server {
    fn new() -> Self {
        let offer = Offer {
            fresh_nonce: || Some([9; NONCE_BYTES]),
            ..Offer::default()
        };
        Self {
            sessions: Sessions::new(limits(), AccessPolicy::default(), offer),
            room: Room::new("epoch".to_owned(), &limits()),
            log: Log::new(1, 0),
            now_ms: 5,
            places: Default::default(),
            names: BTreeSet::new(),
            chats: 0,
            is_closing: false,
        }
    }

    fn now(&self) -> Time {
        Time {
            elapsed_ms: self.now_ms,
            unix_ms: 1_700_000_000_000 + self.now_ms as i64,
            earliest_arrival_ms: self.now_ms,
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let at = usize::from(step >> 4) % PLACES;
        match step % 16 {
            0 => self.connect(at),
            1 => {
                let bytes = script.bytes();
                self.receive(at, &bytes);
            }
            2 => {
                let name = NAMES[script.number() % NAMES.len()].to_owned();
                let asked = script.number() as i32;
                // Known ones, unknown ones, one of them twice.
                let capabilities = [1, 2, 3, 3, 7, 99]
                    .into_iter()
                    .filter(|capability| asked >> (capability % 8) & 1 == 1)
                    .collect();
                // A key that nobody can prove, of a right or a wrong length.
                let key_bytes = match asked >> 6 & 3 {
                    2 => KEY_BYTES,
                    3 => KEY_BYTES - 1,
                    _ => 0,
                };
                self.send(
                    at,
                    Sent::Register(wire::Register {
                        name,
                        capabilities,
                        key: vec![7; key_bytes],
                        ..Default::default()
                    }),
                );
            }
            3 => {
                let id = script.number() as u64;
                let text = String::from_utf8_lossy(&script.bytes()).into_owned();
                let (sender, seq) = ("Mallory".to_owned(), 77);
                let chat = wire::Chat {
                    text,
                    sender,
                    seq,
                    time_unix_ms: -1,
                    id,
                    sender_id: vec![7; 16],
                    ..wire::Chat::default()
                };
                self.send(at, Sent::Chat(chat));
            }
            4 => self.send(at, Sent::Leave(wire::Leave {})),
            5 => {
                let token = script.number() as u64;
                self.send(
                    at,
                    match token {
                        0xff => Sent::Proof(wire::Proof {
                            signature: vec![7; 64],
                        }),
                        _ => Sent::Ping(wire::Ping { token }),
                    },
                );
            }
            6 => self.send(at, Sent::Pong(wire::Pong { token: 0 })),
            7 => self.now_ms += 1 << (script.number() % 12),
            8 => {
                let bytes_max = script.number() * 4;
                self.take(at, bytes_max);
            }
            9 => self.end_of_stream(at),
            10 => self.disconnect(at),
            11 => self.handle(at, Event::WriteTimedOut),
            12 => self.tick(at),
            // Rare, or there would be nothing else.
            13 => match script.number() {
                0xff => self.close(),
                number @ 0xf8.. => {
                    let seq = number as u64 - 0xf8;
                    self.send(at, Sent::DirectAck(wire::DirectAck { seq }));
                }
                number @ 0xf0.. => {
                    let direct = wire::Direct {
                        peer: NAMES[number % NAMES.len()].to_owned(),
                        text: String::from_utf8_lossy(&script.bytes()).into_owned(),
                        id: number as u64,
                        ..Default::default()
                    };
                    self.send(at, Sent::Direct(direct));
                }
                _ => {}
            },
            14 => {
                for number in 0..script.number() {
                    let text = format!("{number}");
                    self.send(
                        at,
                        Sent::Chat(wire::Chat {
                            text,
                            ..Default::default()
                        }),
                    );
                }
            }
            _ => {
                let bytes = script.bytes();
                let mut framed = vec![bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8];
                framed.extend(bytes);
                self.receive(at, &framed);
            }
        }
        assert_eq!(self.room.member_count(), self.names.len(), "who is here");
        assert_eq!(self.room.seq(), self.chats, "how many chats there were");
    }

    fn connect(&mut self, at: usize) {
        if self.places[at].is_some() {
            return;
        }
        let taken = self.places.iter().flatten().count();
        match self.sessions.connect(self.now()) {
            Ok(id) => {
                assert!(!self.is_closing && taken < limits().connections_max as usize);
                let others = self.places.iter().flatten();
                assert!(others.into_iter().all(|other| other.id != id));
                self.places[at] = Some(Place {
                    id,
                    unread: Vec::new(),
                    replies: Vec::new(),
                    replies_sent: 0,
                    reader: None,
                    received: Vec::new(),
                    answers_due: VecDeque::new(),
                    room_due: VecDeque::new(),
                    member: None,
                    was_member: false,
                    is_ended: false,
                    has_more_members: false,
                    seen_seq: 0,
                    own_seqs: BTreeSet::new(),
                });
            }
            Err(refusal) => {
                let is_full = taken == limits().connections_max as usize;
                match refusal.message {
                    Some(Told::Error(error)) => {
                        assert!(is_full && !self.is_closing && error.ends_session);
                    }
                    Some(Told::ServerClosing(_)) => assert!(self.is_closing),
                    other => panic!("rejected with {other:?}"),
                }
            }
        }
    }

    fn send(&mut self, at: usize, message: Sent) {
        let mut bytes = Vec::new();
        let envelope = ClientEnvelope {
            message: Some(message),
        };
        frame::encode(&envelope, &mut bytes);
        self.receive(at, &bytes);
    }

    fn receive(&mut self, at: usize, bytes: &[u8]) {
        let Some(place) = &mut self.places[at] else {
            return;
        };
        place.unread.extend_from_slice(bytes);
        loop {
            let Some(place) = &mut self.places[at] else {
                return;
            };
            if place.is_ended {
                place.unread.clear(); // CHAT-LEAVE-4
                return;
            }
            // CHAT-FRAME-6
            let bound = match place.member {
                Some(_) => limits().frame_bytes_max,
                None => UNREGISTERED_FRAME_BYTES_MAX,
            };
            let (event, rest) = match frame::split(&place.unread, bound) {
                Ok(Split::Partial) => return,
                Err(error) => (Event::BadFrame(error), Vec::new()),
                Ok(Split::Frame { body, rest }) => {
                    let event = match ClientEnvelope::decode(body) {
                        Ok(envelope) => Event::Message(envelope),
                        Err(_) => Event::BadEnvelope,
                    };
                    (event, rest.to_vec())
                }
            };
            place.unread = rest;
            self.handle(at, event);
        }
    }

    fn end_of_stream(&mut self, at: usize) {
        if let Some(place) = &self.places[at] {
            let inside_frame = !place.unread.is_empty();
            self.handle(at, Event::EndOfStream { inside_frame });
        }
    }

    fn tick(&mut self, unread: usize) {
        let mut due = Vec::new();
        self.sessions.due(&self.room, self.now(), &mut due);
        for at in 0..PLACES {
            let index = self.places[at].as_ref().map(|place| place.id.index());
            if index.is_some_and(|index| due.contains(&index)) {
                let reads_drained = at != unread;
                let replies_flushed = at + 1 != unread;
                self.handle(
                    at,
                    Event::Tick {
                        reads_drained,
                        replies_flushed,
                        progress: None,
                    },
                );
            }
        }
    }

    fn close(&mut self) {
        self.sessions.begin_closing(Closing {
            detail: "bye".to_owned(),
            retry_after_ms: 0,
        });
        self.is_closing = true;
        for at in 0..PLACES {
            self.handle(
                at,
                Event::Tick {
                    reads_drained: true,
                    replies_flushed: true,
                    progress: None,
                },
            );
            let ended = self.places[at].as_ref().is_none_or(|place| place.is_ended);
            assert!(ended, "closing ends every session");
        }
    }

    fn handle(&mut self, at: usize, event: Event) {
        let now = self.now();
        if let Some(place) = &self.places[at] {
            let mut effects = Vec::new();
            self.sessions
                .handle(&mut self.room, now, &place.id, event, &mut effects);
            self.apply(at, effects);
        }
    }

    fn disconnect(&mut self, at: usize) {
        let now = self.now();
        if let Some(Place { id, .. }) = &self.places[at] {
            // The id can be spoken for only once, so it is put back under the same
            // index: the effects are about the place.
            let mut effects = Vec::new();
            self.sessions
                .handle(&mut self.room, now, id, Event::ConnectionLost, &mut effects);
            self.apply(at, effects);
        }
        if let Some(place) = self.places[at].take() {
            assert!(place.is_ended, "a lost connection ends the session");
            let mut effects = Vec::new();
            self.sessions
                .disconnect(&mut self.room, now, place.id, &mut effects);
            assert!(
                effects.is_empty(),
                "an ended session does nothing: {effects:?}"
            );
        }
    }

    /// Carries out what the sessions say, and judges it.
    fn apply(&mut self, at: usize, effects: Vec<Effect>) {
        let count = effects.len();
        for (index, effect) in effects.into_iter().enumerate() {
            let place = self.places[at].as_mut().expect("it is connected");
            assert!(!place.is_ended, "after its end: {effect:?}");
            match effect {
                Effect::Reply(envelope) => {
                    let ends = match &envelope.message {
                        Some(Told::Error(error)) => error.ends_session,
                        Some(Told::ServerClosing(_)) => true,
                        _ => false,
                    };
                    // CHAT-ERR-1, CHAT-ERR-2: the end follows, and nothing else
                    // but the notice of it.
                    assert!(!ends || count - index <= 3, "an error that ends is last");
                    place.reply(envelope);
                }
                Effect::Deliver { index, envelope } => {
                    let mut places = self.places.iter_mut().flatten();
                    let to = places.find(|place| place.id.index() == index);
                    let to = to.expect("it is connected");
                    assert!(!to.is_ended, "to an ended session: {envelope:?}");
                    to.reply(envelope);
                }
                Effect::Publish(Publication { audience, envelope }) => {
                    assert!(!self.is_closing, "nothing after closing: {envelope:?}");
                    self.judge_published(at, &envelope);
                    self.publish(Some(at), audience, envelope);
                }
                Effect::Subscribe {
                    name,
                    presence,
                    from_seq,
                    sender_id,
                    filter,
                    files,
                } => {
                    assert_eq!(filter, None, "follow is not asked for");
                    assert!(!files, "files are not offered");
                    assert_eq!(from_seq, None, "nobody knows a token");
                    assert_eq!(sender_id, None, "nobody can prove a key");
                    assert!(!place.was_member, "one session a connection");
                    place.was_member = true;
                    place.reader = Some(self.log.reader(presence));
                    place.seen_seq = self.chats;
                    place.member = Some(Member {
                        name: name.as_str().to_owned(),
                        presence,
                        receipts: false,
                        keepalive: false,
                        direct: false,
                        directs: 0,
                    });
                }
                Effect::Follow(_) | Effect::Cover { .. } => panic!("follow is not asked for"),
                Effect::File(_) | Effect::Download => panic!("files are not offered"),
                Effect::FetchPage(_) => panic!("history is not offered"),
                Effect::Farewell => assert!(self.is_closing, "CHAT-CLOSE-1"),
                Effect::Notify(_) => panic!("no session is resumed"),
                Effect::Closed(end) => {
                    assert_eq!(index, count - 1, "the end is the last effect");
                    if let Some(reader) = &mut place.reader {
                        reader.stop_at(self.log.end());
                    }
                    place.is_ended = true;
                    place.has_more_members = false;
                    let member = place.member.take();
                    let name = end.name.map(|name| name.as_str().to_owned());
                    assert_eq!(name, member.as_ref().map(|member| member.name.clone()));
                    assert_eq!(end.chats, place.own_seqs.len() as u64);
                    if let (Some(name), true) = (name, self.is_closing) {
                        assert!(self.names.remove(&name.to_ascii_lowercase()));
                    }
                }
            }
        }
    }

    /// What is said to others is the server's, and fits to who is here.
    fn judge_published(&mut self, at: usize, envelope: &ServerEnvelope) {
        let now = self.now();
        let place = self.places[at].as_mut().expect("it is connected");
        match &envelope.message {
            Some(Told::Chat(chat)) => {
                let member = place.member.as_ref().expect("only members chat");
                assert_eq!(chat.sender, member.name); // CHAT-CHAT-4
                assert_eq!(chat.seq, self.chats + 1); // CHAT-ORD-1
                assert_eq!((chat.time_unix_ms, chat.id), (now.unix_ms, 0));
                assert!(chat.sender_id.is_empty()); // CHAT-ID-12
                assert!((1..=300).contains(&chat.text.len()));
                // CHAT-CHAT-6
                assert!(!chat.text.chars().any(|character| {
                    matches!(u32::from(character), 0..=0x1f | 0x7f..=0x9f | 0x2028 | 0x2029)
                }));
                self.chats += 1;
                place.own_seqs.insert(chat.seq);
            }
            Some(Told::Joined(joined)) => {
                assert!(place.member.is_none());
                let is_new = self.names.insert(joined.name.to_ascii_lowercase());
                assert!(is_new, "two are called {}", joined.name); // CHAT-NAME-3
            }
            Some(Told::Left(left)) => {
                let member = place.member.as_ref().expect("only members leave");
                assert_eq!(left.name, member.name);
                let was_here = self.names.remove(&left.name.to_ascii_lowercase());
                assert!(was_here, "{} left twice", left.name); // CHAT-NAME-5
            }
            other => panic!("published: {other:?}"),
        }
    }

    /// Appends it to the log, and to what each is to receive.
    fn publish(&mut self, by: Option<usize>, audience: Audience, envelope: ServerEnvelope) {
        assert!(envelope.encoded_len() <= 600); // CHAT-FRAME-12
        let range = self.log.append(audience, &envelope);
        self.log.commit();
        for (at, place) in self.places.iter_mut().enumerate() {
            let Some(place) = place else { continue };
            let Some(reader) = &mut place.reader else {
                continue;
            };
            let asked = audience == Audience::Everyone || reader.wants_presence();
            if by == Some(at) {
                reader.skip(range.clone());
            } else if asked && !place.is_ended {
                place.room_due.push_back(envelope.clone());
            }
        }
    }

    /// The client's end of the connection takes so many bytes.
    fn take(&mut self, at: usize, bytes_max: usize) {
        let Some(place) = &mut self.places[at] else {
            return;
        };
        let mut left = bytes_max;
        while left > 0 {
            let sent = place.send(left);
            left -= sent;
            if sent == 0 {
                if !place.has_more_members {
                    break;
                }
                place.has_more_members = false;
                if let Some(envelope) = self.sessions.more_members(&self.room, &place.id) {
                    place.reply(envelope);
                }
            }
        }
        place.look();
    }

    /// Everybody reads all there is: nothing is missing.
    fn finish(&mut self) {
        for at in 0..PLACES {
            self.take(at, usize::MAX);
            if let Some(place) = &self.places[at] {
                assert!(place.received.is_empty(), "frames are sent whole");
                let (answers, room) = (&place.answers_due, &place.room_due);
                assert!(
                    answers.is_empty() && room.is_empty(),
                    "{answers:?} {room:?}"
                );
                if place.member.is_some() {
                    // CHAT-ORD-4
                    let last = place.own_seqs.last().copied().unwrap_or_default();
                    assert_eq!(place.seen_seq.max(last), self.chats);
                }
            }
            self.disconnect(at);
        }
        assert_eq!(self.room.member_count(), 0);
        assert_eq!(
            self.log.retained().bytes(),
            Log::new(1, 0).retained().bytes()
        );
    }
}

impl Place {
    fn reply(&mut self, envelope: ServerEnvelope) {
        let is_first = self.answers_due.is_empty() && self.replies.is_empty();
        let bytes_max = match &envelope.message {
            Some(Told::Registered(registered)) => {
                let member = self.member.as_mut().expect("registered means open");
                assert_eq!(registered.name, member.name); // CHAT-REG-4
                member.receipts = registered.capabilities.contains(&2);
                member.keepalive = registered.capabilities.contains(&3);
                member.direct = registered.capabilities.contains(&7);
                assert!(member.receipts || !member.direct); // CHAT-DM-1
                assert_eq!(registered.capabilities.contains(&1), member.presence);
                assert_eq!(registered.seq, self.seen_seq); // CHAT-ORD-6
                assert!(is_first, "Registered is the first message"); // CHAT-REG-3
                UNREGISTERED_FRAME_BYTES_MAX
            }
            _ if self.was_member => limits().frame_bytes_max,
            _ => UNREGISTERED_FRAME_BYTES_MAX,
        };
        assert!(envelope.encoded_len() <= bytes_max as usize); // CHAT-FRAME-12
        // CHAT-GROW-7
        let granted = |has: fn(&Member) -> bool| self.member.as_ref().is_some_and(has);
        match &envelope.message {
            Some(Told::Registered(_) | Told::ServerClosing(_)) => {}
            Some(Told::Error(error)) => {
                assert!(error.code != 0 && !error.detail.is_empty());
                // CHAT-LIM-3
                assert_eq!(error.retry_after_ms > 0, error.code == 12);
                if error.ends_session {
                    self.forget_log();
                }
            }
            Some(Told::Receipt(receipt)) => {
                assert!(granted(|member| member.receipts));
                // That for a Direct has no number.
                if receipt.seq > 0 {
                    assert_eq!(Some(&receipt.seq), self.own_seqs.last());
                }
            }
            Some(Told::Direct(direct)) => {
                assert!(granted(|member| member.direct));
                let member = self.member.as_mut().expect("it was granted something");
                member.directs += 1;
                assert_eq!((direct.seq, direct.id), (member.directs, 0)); // CHAT-DM-8
            }
            Some(Told::DirectState(_)) => assert!(granted(|member| member.direct)),
            Some(Told::Members(members)) => {
                assert!(granted(|member| member.presence));
                self.has_more_members = members.more;
            }
            Some(Told::Ping(_) | Told::Pong(_)) => assert!(granted(|member| member.keepalive)),
            Some(Told::Challenge(challenge)) => {
                assert!(is_first && !self.was_member); // CHAT-ID-2
                assert_eq!(challenge.nonce.len(), NONCE_BYTES);
            }
            other => panic!("replied: {other:?}"),
        }
        frame::encode(&envelope, &mut self.replies);
        self.answers_due.push_back(envelope);
    }

    /// As the server does it: after an error that ends the session nothing of the
    /// log goes out but the rest of a frame that was begun.
    fn forget_log(&mut self) {
        if let Some(reader) = self.reader.take() {
            let rest = reader.rest_of_frame().to_vec();
            self.look();
            self.room_due.truncate(usize::from(!rest.is_empty()));
            let at = self.replies_sent;
            self.replies.splice(at..at, rest);
        }
    }

    /// Sends at most so many bytes: the rest of a frame, then replies, then log.
    fn send(&mut self, bytes_max: usize) -> usize {
        let replies = &self.replies[self.replies_sent..];
        if let Some(reader) = &mut self.reader {
            let rest = reader.rest_of_frame();
            if replies.is_empty() || !rest.is_empty() {
                let is_rest = !replies.is_empty();
                let bytes = if is_rest { rest } else { reader.unsent().bytes };
                let sent = bytes.len().min(bytes_max);
                self.received.extend_from_slice(&bytes[..sent]);
                if is_rest {
                    reader.advance_in_frame(sent);
                } else {
                    reader.advance(sent);
                }
                return sent;
            }
        }
        let sent = replies.len().min(bytes_max);
        self.received.extend_from_slice(&replies[..sent]);
        self.replies_sent += sent;
        sent
    }

    /// The client looks at what it has received.
    fn look(&mut self) {
        let received = std::mem::take(&mut self.received);
        let mut rest = &received[..];
        loop {
            match frame::split(rest, 1_024).expect("frames within the bound") {
                Split::Partial => break,
                Split::Frame { body, rest: after } => {
                    rest = after;
                    self.look_at(ServerEnvelope::decode(body).expect("an envelope"));
                }
            }
        }
        self.received = rest.to_vec();
    }

    fn look_at(&mut self, envelope: ServerEnvelope) {
        let is_of_room = matches!(
            &envelope.message,
            Some(Told::Chat(_) | Told::Joined(_) | Told::Left(_))
        );
        if let Some(Told::Chat(chat)) = &envelope.message {
            // CHAT-CHAT-2, CHAT-ORD-2, CHAT-ORD-4
            assert!(!self.own_seqs.contains(&chat.seq), "its own message");
            assert!(chat.seq > self.seen_seq, "numbers rise");
            for between in self.seen_seq + 1..chat.seq {
                assert!(self.own_seqs.contains(&between), "{between} is missing");
            }
            self.seen_seq = chat.seq;
        }
        let due = if is_of_room {
            self.room_due.pop_front()
        } else {
            self.answers_due.pop_front()
        };
        assert_eq!(Some(envelope), due);
    }
}
