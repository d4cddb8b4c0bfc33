//! Paging of members: sends a new member with presence the names of all members, in
//! pages that fit into a frame (CHAT-PRES-1).

use crate::{
    limits::Limits,
    name::Name,
    room::Room,
    wire::{self, ServerEnvelope, server_envelope::Message},
};

use super::{ConnectionId, Sessions, State, envelope, state::Session};

/// How much a Members takes beyond its names at most, in bytes: the tag and the length of
/// the message, and `more`.
const MEMBERS_OVERHEAD_BYTES_MAX: usize = 16;

impl Sessions {
    /// The next page of members that is due to a member (CHAT-PRES-1). The caller asks
    /// for it when the connection has nothing else to send, so one page at a time takes
    /// memory. The page has the names of this moment, so no Left for any of them was sent
    /// before (CHAT-PRES-4).
    pub fn more_members(&mut self, room: &Room, id: &ConnectionId) -> Option<ServerEnvelope> {
        if self.closing.is_some() {
            return None; // CHAT-CLOSE-2: ServerClosing may have been sent.
        }
        let Some(State::Registered(session)) = self.states.get_mut(id.0) else {
            return None;
        };
        let after = session.members_after.take()?;
        Some(next_page(&self.limits, session, room, Some(&after)))
    }
}

/// A page of the members behind `after`, as many as fit into a frame.
pub(super) fn next_page(
    limits: &Limits,
    session: &mut Session,
    room: &Room,
    after: Option<&Name>,
) -> ServerEnvelope {
    let bytes_max = limits.frame_bytes_max as usize - MEMBERS_OVERHEAD_BYTES_MAX;
    let mut page = wire::Members::default();
    let mut last = None;
    let mut page_bytes = 0;
    for name in room.names_after(after) {
        // A tag, a length of one byte, the name.
        page_bytes += 2 + name.as_str().len();
        if page_bytes > bytes_max {
            page.more = true;
            break;
        }
        page.names.push(name.as_str().to_owned());
        last = Some(name);
    }
    session.members_after = last.filter(|_| page.more).cloned().map(Box::new);
    envelope(Message::Members(page))
}
