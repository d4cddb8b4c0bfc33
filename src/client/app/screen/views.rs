//! Views: the room, and one for each topic and each partner of directs. A view is a choice
//! of entries of the one log, so its messages take no memory of their own. Pure.

use super::composer::Draft;
use super::log::{Entry, EntryId, Kind, ViewId};

/// How many views there may be, the room among them. Beyond that the one that was used
/// longest ago gives way, if everything in it was read.
pub(super) const VIEWS_MAX: usize = 50;

/// The view that is always there.
pub(super) const ROOM: ViewId = 0;

/// What a view shows, and where the lines go that are typed in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// Everything.
    Room,
    /// The messages of a topic.
    Topic(String),
    /// The directs from and to a member.
    Direct(String),
}

impl Subject {
    /// The topic of a message, or the room for none.
    pub(super) fn of_topic(topic: &str) -> Self {
        match topic {
            "" => Self::Room,
            topic => Self::Topic(topic.to_owned()),
        }
    }

    /// "room", "#build" or "@Bob".
    pub(super) fn label(&self) -> String {
        match self {
            Self::Room => "room".to_owned(),
            Self::Topic(topic) => format!("#{topic}"),
            Self::Direct(name) => format!("@{name}"),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Room, Self::Room) => true,
            (Self::Topic(one), Self::Topic(other)) | (Self::Direct(one), Self::Direct(other)) => {
                one.eq_ignore_ascii_case(other)
            }
            _ => false,
        }
    }
}

/// Which rows of a view are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scroll {
    /// The newest.
    Bottom,
    /// The last row shown is this one of an entry.
    At { id: EntryId, row: usize },
}

/// One view.
#[derive(Debug)]
pub(super) struct View {
    pub(super) id: ViewId,
    pub(super) subject: Subject,
    /// Messages and mentions of this subject alone that nobody has seen yet. What has no
    /// view of its own counts for the room.
    pub(super) unread: u64,
    pub(super) mentions: u64,
    /// The first entry that was not read, and whether reading has gone on since.
    pub(super) marker: Option<EntryId>,
    is_marker_old: bool,
    pub(super) scroll: Scroll,
    /// What is being written here while another view is shown.
    pub(super) draft: Draft,
    /// When it was last used.
    used: u64,
}

impl View {
    fn new(id: ViewId, subject: Subject) -> Self {
        Self {
            id,
            subject,
            unread: 0,
            mentions: 0,
            marker: None,
            is_marker_old: false,
            scroll: Scroll::Bottom,
            draft: Draft::default(),
            used: 0,
        }
    }

    pub(super) fn is_room(&self) -> bool {
        self.subject == Subject::Room
    }

    /// Whether an entry is shown here.
    pub(super) fn shows(&self, entry: &Entry) -> bool {
        match (&self.subject, &entry.kind) {
            (Subject::Room, _) => true,
            (_, Kind::Notice(_, view)) => *view == self.id,
            (
                Subject::Topic(topic),
                Kind::Message { topic: of, .. }
                | Kind::Own {
                    topic: of,
                    to: None,
                    ..
                },
            ) => of.eq_ignore_ascii_case(topic),
            (
                Subject::Direct(name),
                Kind::Direct { sender: with, .. } | Kind::Own { to: Some(with), .. },
            ) => with.eq_ignore_ascii_case(name),
            _ => false,
        }
    }

    fn mark(&mut self, entry: EntryId) {
        if self.marker.is_none() || self.is_marker_old {
            self.marker = Some(entry);
            self.is_marker_old = false;
        }
    }

    fn was_read(&mut self) {
        self.unread = 0;
        self.mentions = 0;
        self.is_marker_old = true;
    }

    /// Whether nothing is lost with it.
    fn may_give_way(&self) -> bool {
        !self.is_room() && self.unread == 0 && self.draft.is_empty()
    }
}

/// All views, the room first.
#[derive(Debug)]
pub(super) struct Views {
    room: View,
    others: Vec<View>,
    current: ViewId,
    last_id: ViewId,
    uses: u64,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            room: View::new(ROOM, Subject::Room),
            others: Vec::new(),
            current: ROOM,
            last_id: ROOM,
            uses: 0,
        }
    }
}

impl Views {
    pub(super) fn iter(&self) -> impl Iterator<Item = &View> {
        std::iter::once(&self.room).chain(&self.others)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut View> {
        std::iter::once(&mut self.room).chain(&mut self.others)
    }

    pub(super) fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// The view that is shown.
    pub(super) fn current(&self) -> &View {
        let mut others = self.others.iter();
        let current = others.find(|view| view.id == self.current);
        current.unwrap_or(&self.room)
    }

    pub(super) fn current_mut(&mut self) -> &mut View {
        let mut others = self.others.iter_mut();
        let current = others.find(|view| view.id == self.current);
        current.unwrap_or(&mut self.room)
    }

    /// The place of the shown view in the list, from 0.
    pub(super) fn current_index(&self) -> usize {
        let current = self.current().id;
        self.iter().position(|view| view.id == current).unwrap_or(0)
    }

    /// The view at this place of the list, from 0.
    pub(super) fn at(&self, index: usize) -> Option<ViewId> {
        self.iter().nth(index).map(|view| view.id)
    }

    /// The topics that have a view, as they are typed.
    pub(super) fn topics(&self) -> impl Iterator<Item = String> + '_ {
        let topics = self.others.iter().map(|view| &view.subject);
        let topics = topics.filter(|subject| matches!(subject, Subject::Topic(_)));
        topics.map(Subject::label)
    }

    /// The view of a subject, a new one if need be; `None` if there are too many.
    pub(super) fn open(&mut self, subject: Subject) -> Option<ViewId> {
        self.uses += 1;
        let uses = self.uses;
        if let Some(view) = self.iter_mut().find(|view| view.subject.is(&subject)) {
            view.used = uses;
            return Some(view.id);
        }
        if self.len() >= VIEWS_MAX {
            let current = self.current().id;
            let unused = self.others.iter().enumerate();
            let unused = unused.filter(|(_, view)| view.id != current && view.may_give_way());
            let (oldest, _) = unused.min_by_key(|(_, view)| view.used)?;
            self.others.remove(oldest);
        }
        self.last_id += 1;
        let mut view = View::new(self.last_id, subject);
        view.used = uses;
        self.others.push(view);
        Some(self.last_id)
    }

    /// Shows another view.
    pub(super) fn show(&mut self, id: ViewId) {
        self.uses += 1;
        let uses = self.uses;
        let mut is_there = false;
        for view in self.iter_mut().filter(|view| view.id == id) {
            view.used = uses;
            is_there = true;
        }
        if is_there {
            self.current = id;
        }
    }

    /// Closes the view that is shown, unless it is the room. What was not read in it counts
    /// for the room.
    pub(super) fn close(&mut self) {
        let current = self.current;
        let Some(index) = self.others.iter().position(|view| view.id == current) else {
            return;
        };
        let closed = self.others.remove(index);
        self.room.unread += closed.unread;
        self.room.mentions += closed.mentions;
        self.current = ROOM;
    }

    /// Closes all but the room, and returns their drafts.
    pub(super) fn clear(&mut self) -> Vec<Draft> {
        self.current = ROOM;
        self.room.was_read();
        std::mem::take(&mut self.others)
            .into_iter()
            .map(|view| view.draft)
            .collect()
    }

    /// Whether what has this view of its own is on the screen now.
    pub(super) fn is_shown(&self, id: ViewId) -> bool {
        let current = self.current();
        current.is_room() || current.id == id
    }

    /// An entry of this view has come, and nobody has seen it.
    pub(super) fn count(&mut self, id: ViewId, entry: EntryId, is_mention: bool) {
        let own = match self.others.iter_mut().find(|view| view.id == id) {
            Some(own) => {
                self.room.mark(entry);
                own
            }
            None => &mut self.room,
        };
        own.mark(entry);
        own.unread += 1;
        own.mentions += u64::from(is_mention);
    }

    /// The end of the view that is shown has been read.
    pub(super) fn were_read(&mut self) {
        if self.current().is_room() {
            self.iter_mut().for_each(View::was_read);
        } else {
            self.current_mut().was_read();
            if self.unread() == 0 {
                self.room.marker = None;
            }
        }
    }

    /// How much nobody has seen in all of them.
    pub(super) fn unread(&self) -> u64 {
        self.iter().map(|view| view.unread).sum()
    }

    pub(super) fn mentions(&self) -> u64 {
        self.iter().map(|view| view.mentions).sum()
    }

    /// How much of what the shown view shows nobody has seen.
    pub(super) fn unread_here(&self) -> u64 {
        match self.current() {
            view if view.is_room() => self.unread(),
            view => view.unread,
        }
    }

    /// The view to look at next: with a mention, else with anything unread.
    pub(super) fn next_active(&self) -> Option<ViewId> {
        let current = self.current().id;
        let others = || self.iter().filter(|view| view.id != current);
        let mentioned = others().find(|view| view.mentions > 0);
        let active = mentioned.or_else(|| others().find(|view| view.unread > 0));
        active.map(|view| view.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: usize) -> Subject {
        Subject::Topic(format!("t{number}"))
    }

    fn find(views: &Views, subject: &Subject) -> Option<ViewId> {
        let found = views.iter().find(|view| view.subject.is(subject));
        found.map(|view| view.id)
    }

    #[test]
    fn the_number_of_views_is_bounded_and_nothing_unread_gives_way() {
        let mut views = Views::default();
        let first = views.open(topic(1)).expect("a view");
        for number in 2..VIEWS_MAX {
            views.open(topic(number)).expect("a view");
        }
        assert_eq!(views.len(), VIEWS_MAX);
        // The one that was used longest ago gives way, unless something is unread in it.
        views.count(first, 7, true);
        views.open(topic(100)).expect("a view");
        assert_eq!((views.len(), find(&views, &topic(2))), (VIEWS_MAX, None));
        assert_eq!(find(&views, &Subject::Topic("T1".to_owned())), Some(first));
        // Nor the one that is shown, nor one with a draft.
        let shown = find(&views, &topic(3)).expect("a view");
        views.show(shown);
        for number in 4..VIEWS_MAX {
            let view = find(&views, &topic(number)).expect("a view");
            views.count(view, 8, false);
        }
        let last = find(&views, &topic(100)).expect("a view");
        let draft = views.others.iter_mut().find(|view| view.id == last);
        let mut composer = super::super::composer::Composer::default();
        composer.insert("half");
        composer.exchange(&mut draft.expect("a view").draft);
        assert_eq!(views.open(topic(101)), None);
        assert_eq!(views.len(), VIEWS_MAX);
        // What has no view counts for the room, and is read there with all the rest.
        views.count(ROOM, 9, false);
        assert_eq!(
            (views.unread(), views.mentions()),
            (VIEWS_MAX as u64 - 2, 1)
        );
        views.show(ROOM);
        views.were_read();
        assert_eq!((views.unread(), views.mentions()), (0, 0));
        assert!(views.open(topic(101)).is_some());
    }

    #[test]
    fn each_message_is_counted_once() {
        let mut views = Views::default();
        let build = views.open(topic(1)).expect("a view");
        let bob = Subject::Direct("Bob".to_owned());
        let bob = views.open(bob).expect("a view");
        views.count(build, 1, false);
        views.count(bob, 2, true);
        views.count(ROOM, 3, false);
        assert_eq!((views.unread(), views.unread_here()), (3, 3));
        assert_eq!(views.next_active(), Some(bob));
        views.show(build);
        assert_eq!(views.unread_here(), 1);
        views.were_read();
        assert_eq!((views.unread(), views.unread_here()), (2, 0));
        // The room still marks where its reader stopped.
        assert_eq!(views.room.marker, Some(1));
        views.show(bob);
        views.close();
        assert_eq!(
            (views.len(), views.room.unread, views.room.mentions),
            (2, 2, 1)
        );
        assert_eq!(views.current().id, ROOM);
    }
}
