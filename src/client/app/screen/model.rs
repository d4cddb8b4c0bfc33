//! Model: the state of the full-screen client. Events of the session (`events`, `link`), of
//! the user (`keys`) and of the clock come in; what is to be done comes out as actions.
//! Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::command;
use super::composer::Composer;
use super::history::History;
use super::log::{EntryId, Kind, Log, ViewId};
use super::settings::Settings;
use super::views::{Subject, Views};
use crate::address::Address;
use crate::client::app::known_names::KnownNames;
use crate::client::app::member_list::MemberList;
use crate::client::{Filter, NewChat, Outgoing, Printable, SenderId};
use crate::wire::File;

/// How long a sent line may be unconfirmed before it says so, in milliseconds.
pub(super) const LATE_MS: u64 = 2_000;

/// How many names may be ignored.
pub(super) const IGNORED_MAX: usize = 1_000;

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
    /// Upload this file, and send it with this text to those who see this.
    Attach(PathBuf, String, Subject),
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
    pub(super) entry: EntryId,
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
    /// The address that was given, and the server, as the status line calls it.
    pub(super) address: String,
    pub(super) server: Printable,
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) members: MemberList,
    pub(super) has_presence: bool,
    pub(super) has_receipts: bool,
    pub(super) has_direct: bool,
    pub(super) has_greeted: bool,
    /// The epoch and the number of the last chat that was seen in it.
    pub(super) seen: Option<(String, u64)>,

    pub(super) outgoing: Outgoing,
    /// Lines that the session has not taken yet.
    pub(super) outbox: VecDeque<Unsent>,
    /// Lines that the session has taken: by its ids, with the time.
    pub(super) sent: BTreeMap<u64, (EntryId, u64)>,
    /// The files that messages have named, the first of them with this number.
    pub(super) files: VecDeque<File>,
    pub(super) first_file: u64,
    /// What is sent and fetched now, for the status line.
    pub(super) transfers: BTreeMap<u64, (String, u64, u64)>,
    /// Directs that the server has confirmed, and whose state it has not told.
    pub(super) accepted: BTreeMap<u64, EntryId>,
    /// When the lines of one's own that are not settled begin to say so.
    pub(super) late_at_ms: VecDeque<u64>,
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
    pub(super) changed: BTreeMap<String, SenderId>,
    /// Whether the server knows topics and filters.
    pub(super) has_follow: bool,
    pub(super) mentions_max: usize,
    pub(super) filter_entries_max: usize,
    /// The topic of the lines that are typed in the room; empty without one.
    pub(super) topic: String,
    /// What is followed, without those who are ignored.
    pub(super) following: Filter,
    pub(super) views: Views,
    /// The size of the log on the screen: columns and rows.
    pub(super) size: (usize, usize),
    pub(super) search: Option<Search>,
    /// Whether the terminal has the focus, if it tells.
    pub(super) has_focus: Option<bool>,
    pub(super) last_key_ms: u64,
    pub(super) last_bell_ms: Option<u64>,
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
            address: String::new(),
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
            views: Views::default(),
            size: (80, 22),
            search: None,
            has_focus: None,
            last_key_ms: now.ms,
            last_bell_ms: None,
            actions: Vec::new(),
            now,
        }
    }

    pub(super) fn who(&self) -> Printable {
        match (&self.link, self.has_presence) {
            (Link::Up, true) => self.members.here(&self.name),
            (Link::Up, false) => Printable::new().trusted("this server does not tell who is here"),
            _ => Printable::new().trusted("there is no connection"),
        }
    }

    /// A notice in the view that is shown.
    pub(super) fn notice(&mut self, line: Printable) {
        self.notice_in(self.views.current().id, line);
    }

    /// A notice in this view, and in the room.
    pub(super) fn notice_in(&mut self, view: ViewId, line: Printable) {
        self.log.push(self.at(), None, Kind::Notice(line, view));
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
    pub(super) fn at(&self) -> DateTime {
        self.at_unix_ms(self.now.unix_ms)
    }

    pub(super) fn at_unix_ms(&self, unix_ms: i64) -> DateTime {
        let time = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        self.zone.to_datetime(time)
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
