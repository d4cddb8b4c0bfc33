//! Model: the state of the full-screen client. Events of the session, of the user and of
//! the clock come in; what is to be done comes out as actions. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::command;
use super::composer::Composer;
use super::find;
use super::history::History;
use super::log::{Delivery, EntryId, Kind, Log};
use super::settings::Settings;
use crate::address::Address;
use crate::client::app::known_names::{self, KeyMark, KnownNames, Verdict};
use crate::client::app::member_list::MemberList;
use crate::client::app::messages::{self, file_size, file_text};
use crate::client::app::topics;
use crate::client::{Event, Filter, NewChat, Outgoing, Printable, SenderId};
use crate::wire::{Capability, Chat, File, Registered, ResumeFailure};

/// How long a sent line may be unconfirmed before it says so, in milliseconds.
pub(super) const LATE_MS: u64 = 2_000;

/// After so long without a key, in milliseconds, nobody is reading.
const IDLE_MS: u64 = 60_000;

/// The shortest time between two bells, in milliseconds.
const BELL_INTERVAL_MS: u64 = 1_000;

/// How many lines may wait to be sent.
const LINES_WAITING_MAX: usize = 10_000;

/// How many directs may be without their state: more than a server keeps for a sender.
const DIRECTS_ACCEPTED_MAX: usize = 1_024;

/// How many files that messages have named are remembered.
const FILES_MAX: usize = 1_000;

/// How many names may be ignored.
pub(super) const IGNORED_MAX: usize = 1_000;

/// How many names may have a key that is not the known one, to be trusted.
const NAMES_CHANGED_MAX: usize = 1_000;

/// The longest text of a desktop notice, in characters.
const NOTIFY_CHARS_MAX: usize = 200;

/// The time, as the caller knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Milliseconds since the program started.
    pub(super) ms: u64,
    /// Milliseconds since 1970.
    pub(super) unix_ms: i64,
}

/// What the caller is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Leave once everything is sent.
    Leave,
    /// Leave at once.
    LeaveNow,
    /// Stop like other programs on Ctrl-Z.
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// Ring the bell.
    Bell,
    /// Raise a notice of the desktop.
    Notify(Printable),
    /// Put this on the clipboard.
    Copy(String),
    /// Take the mouse, or let it go.
    Mouse(bool),
    /// Keep a typed line.
    Remember(String),
    /// Keep the key of a name.
    KeepName(String, SenderId),
    /// Show the user's public key.
    ShowKey,
    /// Upload this file, and send it with this text.
    Attach(PathBuf, String),
    /// Fetch this file, to this path or into the folder of the program.
    Save(File, Option<PathBuf>),
    /// Connect to this server, or again to the same one, under this name.
    Connect(Option<Address>, Option<String>),
    /// Receive these chats from now on.
    Follow(Filter),
}

/// The connection, as the status line tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    /// Being made.
    Connecting,
    /// Lost; the next try is at this time of the program's clock.
    Waiting {
        until_ms: u64,
    },
    /// Lost for good.
    Down,
}

/// A question that the next key answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Whether to send so many pasted lines.
    Send(usize),
    /// Whether to leave: another Ctrl-C until this time.
    Leave { until_ms: u64 },
}

/// Which rows of the log are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// The newest.
    Bottom,
    /// The last row shown is this one of an entry.
    At { id: EntryId, row: usize },
}

/// A search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) wanted: String,
    /// The entries with hits, oldest first.
    pub(super) found: Vec<EntryId>,
    /// Which of them is shown.
    pub(super) at: usize,
}

/// A TAB that more TABs continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Completion {
    pub(super) start: usize,
    pub(super) candidates: Vec<String>,
    pub(super) next: usize,
}

/// A line that the session has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsent {
    entry: EntryId,
    pub(super) chat: NewChat,
    /// The member that it is for, if it is not for all.
    pub(super) to: Option<String>,
    /// The files that it names.
    pub(super) files: Vec<File>,
}

/// The state of the screen.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) log: Log,
    pub(super) composer: Composer,
    pub(super) history: History,
    pub(super) settings: Settings,
    pub(super) zone: TimeZone,
    /// The server, as the status line calls it.
    pub(super) server: Printable,
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) members: MemberList,
    pub(super) has_presence: bool,
    has_receipts: bool,
    has_direct: bool,
    has_greeted: bool,
    /// The epoch and the number of the last chat that was seen in it.
    seen: Option<(String, u64)>,

    outgoing: Outgoing,
    /// Lines that the session has not taken yet.
    pub(super) outbox: VecDeque<Unsent>,
    /// Lines that the session has taken: by its ids, with the time.
    sent: BTreeMap<u64, (EntryId, u64)>,
    /// The files that messages have named, the first of them with this number.
    files: VecDeque<File>,
    first_file: u64,
    /// What is sent and fetched now, for the status line.
    pub(super) transfers: BTreeMap<u64, (String, u64, u64)>,
    /// Directs that the server has confirmed, and whose state it has not told.
    accepted: BTreeMap<u64, EntryId>,
    /// When the lines of one's own that are not settled begin to say so.
    late_at_ms: VecDeque<u64>,
    /// How many lines lost connections have left unknown.
    pub(super) unknown: usize,
    /// How long the last receipt took, in milliseconds.
    pub(super) round_trip_ms: Option<u64>,
    /// Lines that the server refused, and lines that were given up.
    pub(super) refused: usize,
    pub(super) given_up: usize,
    pub(super) is_leaving: bool,
    pub(super) ask: Option<Ask>,
    /// How many lines the draft got by pastes.
    pub(super) pasted_lines: usize,
    pub(super) completion: Option<Completion>,
    pub(super) ignored: BTreeSet<String>,
    /// The keys of the names of this server.
    pub(super) known: KnownNames,
    /// The key of the last message of each name whose key is not the known one.
    changed: BTreeMap<String, SenderId>,
    /// Whether the server knows topics and filters.
    pub(super) has_follow: bool,
    mentions_max: usize,
    pub(super) filter_entries_max: usize,
    /// The topic of the lines that are typed; empty without one.
    pub(super) topic: String,
    /// What is followed, without those who are ignored.
    pub(super) following: Filter,
    pub(super) view: View,
    /// The size of the log on the screen: columns and rows.
    pub(super) size: (usize, usize),
    pub(super) search: Option<Search>,
    /// The first entry that was not read, and whether reading has gone on since.
    pub(super) marker: Option<EntryId>,
    is_marker_old: bool,
    /// Messages and mentions that nobody has seen yet.
    pub(super) unread: u64,
    pub(super) mentions: u64,
    /// Whether the terminal has the focus, if it tells.
    has_focus: Option<bool>,
    last_key_ms: u64,
    last_bell_ms: Option<u64>,
    pub(super) actions: Vec<Action>,
    pub(super) now: Now,
}

impl Model {
    pub(super) fn new(settings: Settings, zone: TimeZone, history: History, now: Now) -> Self {
        Self {
            log: Log::default(),
            composer: Composer::default(),
            history,
            settings,
            zone,
            server: Printable::new(),
            name: String::new(),
            link: Link::Connecting,
            members: MemberList::default(),
            has_presence: false,
            has_receipts: false,
            has_direct: false,
            has_greeted: false,
            seen: None,
            outgoing: Outgoing::new(0),
            outbox: VecDeque::new(),
            sent: BTreeMap::new(),
            files: VecDeque::new(),
            first_file: 1,
            transfers: BTreeMap::new(),
            accepted: BTreeMap::new(),
            late_at_ms: VecDeque::new(),
            unknown: 0,
            round_trip_ms: None,
            refused: 0,
            given_up: 0,
            is_leaving: false,
            ask: None,
            pasted_lines: 0,
            completion: None,
            ignored: BTreeSet::new(),
            known: KnownNames::default(),
            changed: BTreeMap::new(),
            has_follow: false,
            mentions_max: 0,
            filter_entries_max: 0,
            topic: String::new(),
            following: Filter::default(),
            view: View::Bottom,
            size: (80, 22),
            search: None,
            marker: None,
            is_marker_old: false,
            unread: 0,
            mentions: 0,
            has_focus: None,
            last_key_ms: now.ms,
            last_bell_ms: None,
            actions: Vec::new(),
            now,
        }
    }

    /// A session has begun, on the same server as the one before or on another. Returns
    /// whether it is another.
    pub(super) fn connected(&mut self, server: &Address, registered: &Registered) -> bool {
        let server = Printable::new().untrusted(&server.to_string());
        let is_same = self.server == server;
        self.server = server;
        if !is_same {
            self.seen = None;
            self.topic.clear();
            self.following = Filter::default();
        }
        let missed = self.missed(registered);
        self.registered(registered);
        let filter = self.filter();
        if self.has_follow && !filter.is_everything() {
            self.actions.push(Action::Follow(filter));
        }
        if is_same {
            self.notice(match missed {
                Some(missed) => self.missed_sentence(missed, self.unknown > 0),
                None => messages::not_resumed(ResumeFailure::OtherEpoch),
            });
            self.saw(registered.seq);
        } else {
            for line in messages::welcome(&registered.welcome) {
                self.notice(line);
            }
            self.has_greeted = false;
            if !self.has_presence {
                self.greet();
            }
        }
        !is_same
    }

    /// The server's answer to a Register, the first or a later one.
    fn registered(&mut self, registered: &Registered) {
        let has = |capability: Capability| registered.capabilities.contains(&capability.into());
        let limits = registered.limits.unwrap_or_default();
        self.outgoing = Outgoing::new(limits.text_bytes_max as usize);
        self.has_presence = has(Capability::Presence);
        self.has_receipts = has(Capability::Receipts);
        self.has_follow = has(Capability::Follow);
        self.mentions_max = match self.has_follow {
            true => limits.mentions_max as usize,
            false => 0,
        };
        self.filter_entries_max = limits.filter_entries_max as usize;
        self.has_direct = has(Capability::Direct);
        self.members.clear();
        self.round_trip_ms = None;
        self.link = Link::Up;
        self.name.clone_from(&registered.name);
        // Where a session is resumed, messages that were missed still come.
        if self.missed(registered).is_none() {
            self.log.forget_numbers();
            self.seen = Some((registered.epoch.clone(), registered.seq));
        }
    }

    /// How many messages were missed; `None` if the server counts anew.
    fn missed(&self, registered: &Registered) -> Option<u64> {
        match &self.seen {
            Some((epoch, seq)) if *epoch == registered.epoch => registered.seq.checked_sub(*seq),
            _ => None,
        }
    }

    /// What was said before the session, oldest first.
    pub(super) fn past(&mut self, chats: impl IntoIterator<Item = Chat>) {
        for mut chat in chats {
            if chat.removed {
                messages::REMOVED.clone_into(&mut chat.text);
            }
            let is_mention = !find::mentions(&chat.text, &self.name).is_empty();
            let id = SenderId::from_bytes(&chat.sender_id);
            let message = Kind::Message {
                key: self.known.mark(&chat.sender, id),
                sender: chat.sender,
                topic: chat.topic,
                text: chat.text,
                is_mention,
            };
            let at = self.at_unix_ms(chat.time_unix_ms);
            self.log.push(at, Some(chat.seq), message);
        }
    }

    /// The session has ended: what it had taken and not confirmed is unknown.
    pub(super) fn disconnected(&mut self, link: Link, sentence: Printable) {
        self.link = link;
        self.members.clear();
        self.forget_sent();
        self.notice(sentence);
    }

    /// The connection is lost: the server tells nothing more about its directs.
    fn forget_accepted(&mut self) {
        for entry in std::mem::take(&mut self.accepted).into_values() {
            self.log.settle(entry, Delivery::Unsettled, None);
        }
    }

    /// The session is over: what it has not confirmed is unknown.
    pub(super) fn forget_sent(&mut self) {
        self.forget_accepted();
        for (entry, _) in std::mem::take(&mut self.sent).into_values() {
            self.unknown += 1;
            self.log.settle(entry, Delivery::Unknown, None);
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Message {
                seq,
                sender,
                text,
                time_unix_ms,
                sender_id,
                topic,
                files,
                ..
            } => {
                self.judge(&sender, sender_id);
                let key = self.known.mark(&sender, sender_id);
                self.message(seq, (sender, key, topic), text, time_unix_ms);
                self.announce(files);
            }
            Event::Removed {
                seq,
                sender,
                time_unix_ms,
            } => {
                let text = messages::REMOVED.to_owned();
                let sender = (sender, KeyMark::None, String::new());
                self.message(seq, sender, text, time_unix_ms);
            }
            Event::Direct {
                sender,
                text,
                time_unix_ms,
                files,
                ..
            } => {
                self.direct(sender, text, time_unix_ms);
                self.announce(files);
            }
            Event::DirectState { id, is_delivered } => {
                if let Some(entry) = self.accepted.remove(&id) {
                    let delivery = match is_delivered {
                        true => Delivery::Delivered,
                        false => Delivery::Undelivered,
                    };
                    self.log.settle(entry, delivery, None);
                }
            }
            Event::Members { names, more } => {
                for name in names {
                    self.members.add(name);
                }
                if !more && !self.has_greeted {
                    self.greet();
                }
            }
            Event::Joined { name } => {
                let sentence = Printable::new().name(&name).trusted(" joined");
                self.log.presence(self.at(), sentence, true);
                self.members.add(name);
            }
            Event::Left { name, reason } => {
                let sentence = messages::left(&name, reason);
                self.log.presence(self.at(), sentence, false);
                self.members.remove(&name);
            }
            Event::Receipt { id, seq } => {
                self.saw(seq);
                if let Some((entry, sent_ms)) = self.sent.remove(&id) {
                    self.round_trip_ms = Some(self.now.ms.saturating_sub(sent_ms));
                    if seq > 0 {
                        self.log.settle(entry, Delivery::Sent, Some(seq));
                    } else {
                        self.accepted.insert(id, entry);
                        self.log.settle(entry, Delivery::Accepted, None);
                        if self.accepted.len() > DIRECTS_ACCEPTED_MAX {
                            self.accepted.pop_first();
                        }
                    }
                }
            }
            Event::Refused {
                id, code, detail, ..
            } => {
                self.refused += usize::from(id != 0);
                let reason = messages::refusal(code, &detail);
                match self.sent.remove(&id) {
                    Some((entry, _)) => {
                        self.log.settle(entry, Delivery::NotSent(reason), None);
                    }
                    None => self.notice(Printable::new().trusted("refused: ").append(&reason)),
                }
            }
            Event::Reconnecting { after, reason } => {
                let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                let until_ms = self.now.ms.saturating_add(after_ms);
                self.forget_accepted();
                if self.link == Link::Up {
                    self.members.clear();
                    self.notice(messages::reconnecting(&reason, after));
                }
                self.link = Link::Waiting { until_ms };
            }
            Event::Resumed {
                missed,
                is_filtered,
                registered,
            } => {
                self.registered(&registered);
                self.notice(messages::resumed(missed, is_filtered));
            }
            Event::NotResumed { reason, registered } => {
                let missed = self.missed(&registered);
                self.registered(&registered);
                self.notice(match missed {
                    Some(missed) => self.missed_sentence(missed, !self.sent.is_empty()),
                    None => messages::not_resumed(reason),
                });
                // What was missed does not come any more.
                self.saw(registered.seq);
            }
            // Counted by the next event.
            Event::Gap { .. } => {}
            Event::Following { seq, .. } | Event::Covered { seq, .. } => self.saw(seq),
            Event::Unknown { id, .. } => {
                self.unknown += 1;
                if let Some((entry, _)) = self.sent.remove(&id) {
                    self.log.settle(entry, Delivery::Unknown, None);
                }
            }
            Event::Ended(_) => {}
        }
    }

    fn message(
        &mut self,
        seq: u64,
        (sender, key, topic): (String, KeyMark, String),
        text: String,
        time_unix_ms: i64,
    ) {
        self.saw(seq);
        if self.ignored.contains(&sender.to_ascii_lowercase()) {
            return;
        }
        let is_mention = !find::mentions(&text, &self.name).is_empty();
        if is_mention {
            self.alert(&sender, &text);
        }
        let at = match time_unix_ms {
            ..=0 => self.at(),
            unix_ms => self.at_unix_ms(unix_ms),
        };
        let message = Kind::Message {
            key,
            sender,
            topic,
            text,
            is_mention,
        };
        let id = self.log.push(at, Some(seq), message);
        self.count_unread(id, is_mention);
    }

    /// A line to this member alone.
    fn direct(&mut self, sender: String, text: String, time_unix_ms: i64) {
        if self.ignored.contains(&sender.to_ascii_lowercase()) {
            return;
        }
        self.alert(&sender, &text);
        let at = match time_unix_ms {
            ..=0 => self.at(),
            unix_ms => self.at_unix_ms(unix_ms),
        };
        let id = self.log.push(at, None, Kind::Direct { sender, text });
        self.count_unread(id, true);
    }

    /// A message names files, which can be saved by their numbers: nothing is fetched before
    /// the user says so (CHAT-FILE-18).
    fn announce(&mut self, files: Vec<File>) {
        for file in files {
            if self.files.len() >= FILES_MAX {
                self.files.pop_front();
                self.first_file += 1;
            }
            let number = self.first_file + self.files.len() as u64;
            let line = Printable::new()
                .trusted("file ")
                .number(number)
                .trusted(": ");
            let line = line.untrusted(&file.name).trusted(", ");
            let line = line.untrusted(&file_size(file.size)).trusted("; /save ");
            self.notice(line.number(number).trusted(" fetches it"));
            self.files.push_back(file);
        }
    }

    /// The file with a number.
    pub(super) fn file(&self, number: u64) -> Option<&File> {
        let index = number.checked_sub(self.first_file)?;
        self.files.get(usize::try_from(index).ok()?)
    }

    fn count_unread(&mut self, id: EntryId, is_mention: bool) {
        if self.is_away() || self.view != View::Bottom {
            self.unread += 1;
            self.mentions += u64::from(is_mention);
            if self.marker.is_none() || self.is_marker_old {
                self.marker = Some(id);
                self.is_marker_old = false;
            }
        }
    }

    /// Tells when the key of a name has changed, and remembers the first (CHAT-ID-17).
    fn judge(&mut self, name: &str, id: Option<SenderId>) {
        match self.known.judge(name, id) {
            Verdict::Nothing => {}
            Verdict::Remember(id) => {
                let action = Action::KeepName(name.to_owned(), id);
                self.actions.push(action);
            }
            Verdict::Tell(before) => {
                let how = match id {
                    Some(_) => Printable::new().trusted("/trust ").name(name),
                    None => Printable::new().trusted("it has lost it"),
                };
                self.notice(known_names::changed(name, before, id, &how));
            }
        }
        if let (KeyMark::Changed(id), true) = (
            self.known.mark(name, id),
            self.changed.len() < NAMES_CHANGED_MAX,
        ) {
            self.changed.insert(name.to_ascii_lowercase(), id);
        }
    }

    /// The user says that the key that a name has now is the right one.
    pub(super) fn trust(&mut self, name: &str) {
        let line = Printable::new();
        let Some(id) = self.changed.remove(&name.to_ascii_lowercase()) else {
            let line = line.trusted("the key of ").name(name);
            return self.notice(line.trusted(" has not changed"));
        };
        self.known.add(name, id);
        self.actions.push(Action::KeepName(name.to_owned(), id));
        self.notice(
            line.trusted("from now on ")
                .name(name)
                .trusted(" has the key ")
                .untrusted(&id.to_string()),
        );
    }

    fn saw(&mut self, seq: u64) {
        if let Some((_, seen)) = &mut self.seen {
            *seen = (*seen).max(seq);
        }
    }

    /// Bell and desktop notice for a mention.
    fn alert(&mut self, sender: &str, text: &str) {
        let since = self
            .last_bell_ms
            .map(|last| self.now.ms.saturating_sub(last));
        if since.is_some_and(|since| since < BELL_INTERVAL_MS) {
            return;
        }
        self.last_bell_ms = Some(self.now.ms);
        if self.settings.has_bell {
            self.actions.push(Action::Bell);
        }
        if self.settings.notifies && (self.has_focus != Some(true) || self.is_idle()) {
            let text: String = text.chars().take(NOTIFY_CHARS_MAX).collect();
            self.actions
                .push(Action::Notify(Printable::message(sender, &text)));
        }
    }

    fn is_idle(&self) -> bool {
        self.now.ms.saturating_sub(self.last_key_ms) >= IDLE_MS
    }

    fn is_away(&self) -> bool {
        self.has_focus == Some(false) || self.is_idle()
    }

    /// The terminal got or lost the focus.
    pub(super) fn focus(&mut self, has_focus: bool) {
        self.has_focus = Some(has_focus);
        if has_focus {
            self.last_key_ms = self.now.ms;
            self.is_seen();
        }
    }

    /// A key was pressed: somebody reads.
    pub(super) fn touched(&mut self) {
        self.last_key_ms = self.now.ms;
        if self.has_focus == Some(false) {
            self.has_focus = None;
        }
        self.is_seen();
    }

    /// What is below has been read, if it is shown.
    pub(super) fn is_seen(&mut self) {
        if self.view == View::Bottom && !self.is_away() {
            self.unread = 0;
            self.mentions = 0;
            self.is_marker_old = true;
        }
    }

    fn greet(&mut self) {
        self.has_greeted = true;
        let line = Printable::new()
            .trusted("you are ")
            .name(&self.name)
            .trusted(", ");
        self.notice(
            line.append(&self.who())
                .trusted("; /help shows the commands"),
        );
    }

    pub(super) fn who(&self) -> Printable {
        match (&self.link, self.has_presence) {
            (Link::Up, true) => self.members.here(&self.name),
            (Link::Up, false) => Printable::new().trusted("this server does not tell who is here"),
            _ => Printable::new().trusted("there is no connection"),
        }
    }

    pub(super) fn notice(&mut self, line: Printable) {
        self.log.push(self.at(), None, Kind::Notice(line));
    }

    pub(super) fn help(&mut self) {
        for (name, arguments, what) in command::COMMANDS {
            let line = Printable::new().trusted(name).trusted(arguments);
            self.notice(line.trusted(" ").trusted(what));
        }
        for line in command::KEYS {
            self.notice(Printable::new().trusted(line));
        }
    }

    /// The time of the clock on the wall.
    fn at(&self) -> DateTime {
        self.at_unix_ms(self.now.unix_ms)
    }

    fn at_unix_ms(&self, unix_ms: i64) -> DateTime {
        let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        self.zone.to_datetime(time)
    }

    /// Queues one line for the session: one text, or more if it is too long.
    pub(super) fn queue(&mut self, line: &str) {
        self.queue_for(None, line, Vec::new());
    }

    /// A file was uploaded: queues the line that names it.
    pub(super) fn attached(&mut self, file: File, text: &str) {
        let said = file_text(&file);
        let text = match text.is_empty() {
            true => said,
            false => format!("{text} {said}"),
        };
        self.queue_for(None, &text, vec![file]);
    }

    /// Queues one line for one member alone.
    pub(super) fn queue_direct(&mut self, name: String, line: &str) {
        match self.has_direct {
            true => self.queue_for(Some(name), line, Vec::new()),
            false => self
                .notice(Printable::new().trusted("not sent: this server takes no direct messages")),
        }
    }

    fn queue_for(&mut self, to: Option<String>, line: &str, mut files: Vec<File>) {
        let (topic, line) = match topics::split(line) {
            _ if to.is_some() || !self.has_follow => (String::new(), line),
            Some((topic, line)) => (topic.to_owned(), line),
            None if line.starts_with("##") => {
                (self.topic.clone(), line.get(1..).unwrap_or_default())
            }
            None => (self.topic.clone(), line),
        };
        let mentions_max = if to.is_some() { 0 } else { self.mentions_max };
        let mut texts = Vec::new();
        self.outgoing.push(line.as_bytes(), |text| texts.push(text));
        self.outgoing.finish(|text| texts.push(text));
        for text in texts {
            if self.outbox.len() >= LINES_WAITING_MAX {
                self.given_up += 1;
                self.notice(Printable::new().trusted("not sent: too many lines are waiting"));
                return;
            }
            let own = Kind::Own {
                name: self.name.clone(),
                to: to.clone(),
                topic: topic.clone(),
                text: text.clone(),
                delivery: Delivery::Waiting,
                typed_ms: self.now.ms,
            };
            let id = self.log.push(self.at(), None, own);
            self.outbox.push_back(Unsent {
                entry: id,
                chat: topics::chat(text, &topic, mentions_max),
                to: to.clone(),
                files: std::mem::take(&mut files),
            });
            self.late_at_ms.push_back(self.now.ms + LATE_MS);
        }
        // Whoever writes has read.
        self.marker = None;
        self.view = View::Bottom;
        self.is_seen();
    }

    /// The session has taken the first waiting line under this id.
    pub(super) fn taken(&mut self, id: u64) {
        let Some(Unsent { entry, .. }) = self.outbox.pop_front() else {
            return;
        };
        if self.has_receipts {
            self.sent.insert(id, (entry, self.now.ms));
            self.log.settle(entry, Delivery::Sending, None);
        } else {
            self.log.settle(entry, Delivery::Unconfirmable, None);
        }
    }

    /// The session does not take the first waiting line.
    pub(super) fn not_taken(&mut self, reason: &str) {
        if let Some(Unsent { entry, .. }) = self.outbox.pop_front() {
            self.given_up += 1;
            let reason = Printable::new().untrusted(reason);
            self.log.settle(entry, Delivery::NotSent(reason), None);
        }
    }

    /// Gives up the lines that wait.
    pub(super) fn give_up(&mut self) {
        for Unsent { entry, .. } in std::mem::take(&mut self.outbox) {
            self.given_up += 1;
            let reason = Printable::new().trusted("you left");
            self.log.settle(entry, Delivery::NotSent(reason), None);
        }
    }

    /// Time has passed. Returns whether that changes the screen.
    pub(super) fn tick(&mut self) -> bool {
        let mut is_changed = false;
        while self.late_at_ms.front().is_some_and(|&at| at <= self.now.ms) {
            self.late_at_ms.pop_front();
            is_changed = true;
        }
        if let Some(Ask::Leave { until_ms }) = self.ask
            && until_ms <= self.now.ms
        {
            self.ask = None;
            is_changed = true;
        }
        is_changed || matches!(self.link, Link::Waiting { .. })
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn next_tick_ms(&self) -> Option<u64> {
        let late = self.late_at_ms.front().copied();
        let ask = match self.ask {
            Some(Ask::Leave { until_ms }) => Some(until_ms),
            _ => None,
        };
        // The seconds are counted down.
        let wait = match self.link {
            Link::Waiting { until_ms } if self.now.ms < until_ms => {
                let left_ms = until_ms - self.now.ms;
                Some(self.now.ms + (left_ms % 1_000).max(1))
            }
            _ => None,
        };
        [late, ask, wait].into_iter().flatten().min()
    }
}

impl Model {
    /// What the server is asked for: what is followed, and who is ignored.
    pub(super) fn filter(&self) -> Filter {
        let room = self.filter_entries_max;
        let followed = self.following.topics.len() + self.following.senders.len();
        let ignored = self.ignored.iter().take(room.saturating_sub(followed));
        Filter {
            ignore: ignored.cloned().collect(),
            ..self.following.clone()
        }
    }

    /// "connected again; you missed 3 messages", with a filter "up to 3". A line whose fate
    /// is unknown may be one of them.
    fn missed_sentence(&self, missed: u64, has_unknown: bool) -> Printable {
        let line = Printable::new().trusted("connected again; ");
        let line = match missed {
            0 => line.trusted("you missed nothing"),
            _ => messages::missed(line, missed, !self.filter().is_everything()),
        };
        match missed > 0 && has_unknown {
            true => line.trusted(", or your unknown lines are among them"),
            false => line,
        }
    }
}
