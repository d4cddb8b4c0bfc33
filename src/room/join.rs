//! Joining and leaving: who has which name and which line.

use std::collections::VecDeque;

use crate::{
    log::Audience,
    name::Name,
    wire::{self, LeftReason, ResumeFailure, server_envelope::Message},
};

use super::{
    Change, ClaimResult, Claimed, Event, JoinKey, JoinLine, Line, LineId, MemberId, Ownership,
    Publication, Replaced, Room,
};

impl Room {
    /// CHAT-NAME-3: the first Join in the order takes the name.
    pub(super) fn join(
        &mut self,
        member: MemberId,
        name: Name,
        time_unix_ms: i64,
        resume: Option<Box<JoinLine>>,
        key: Option<&JoinKey>,
    ) -> Event {
        // CHAT-ID-8
        if self.owners.key(&name, time_unix_ms).is_some()
            && !self.is_owner(&name, key, time_unix_ms)
        {
            return Event::NameOwned;
        }
        let claim = resume.as_ref().and_then(|resume| resume.claim.as_ref());
        let mut judged = claim.map(|claim| self.judge(claim, &name, time_unix_ms));
        let holder = self.holder(&name);
        let open = match judged {
            Some(ClaimResult::Replaced) => return Event::Replaced,
            Some(ClaimResult::Valid {
                member: Some(member),
                ..
            }) => Some(member),
            // CHAT-ID-9: whoever has the name of its owner is a ghost, or had it before.
            _ => holder.filter(|_| self.is_owner(&name, key, time_unix_ms)),
        };
        if holder.is_some_and(|holder| open != Some(holder)) || self.members.get(member).is_some() {
            return Event::NameTaken; // CHAT-RES-13: no line has changed.
        }
        let replaced = open.and_then(|open| self.replace(open, time_unix_ms));
        if replaced.is_some() {
            // To make room, the line may have ended.
            judged = claim.map(|claim| self.judge(claim, &name, time_unix_ms));
        }
        let joined = wire::Joined {
            name: name.as_str().to_owned(),
        };
        self.members.insert(member, name);
        self.names.insert(&self.members, member);
        if let Some(key) = key {
            self.join_key(member, key, time_unix_ms);
        }
        let claimed =
            resume.and_then(|resume| self.join_line(member, time_unix_ms, *resume, judged));
        Event::Joined {
            replaced,
            claimed,
            // CHAT-PRES-2
            published: Publication::new(Audience::Presence, Message::Joined(joined)),
        }
    }

    /// Whether a key owns a name.
    fn is_owner(&self, name: &Name, key: Option<&JoinKey>, time_unix_ms: i64) -> bool {
        key.is_some_and(|it| {
            it.ownership == Ownership::Operator
                || self.owners.key(name, time_unix_ms) == Some(it.key)
        })
    }

    /// CHAT-RES-5, CHAT-ID-9: the open session of a line that goes on in another ends, or
    /// of a name that belongs to another.
    fn replace(&mut self, member: MemberId, time_unix_ms: i64) -> Option<Box<Replaced>> {
        match self.leave(member, LeftReason::ConnectionLost, time_unix_ms) {
            Event::Left {
                name,
                chats,
                published,
            } => Some(Box::new(Replaced {
                member,
                name,
                chats,
                published,
            })),
            _ => None,
        }
    }

    /// Notes the key that a new member has proved, which may own its name now.
    fn join_key(&mut self, member: MemberId, key: &JoinKey, time_unix_ms: i64) {
        let Some(entry) = self.members.get_mut(member) else {
            return;
        };
        entry.granted().sender_id = Some(key.key.sender_id());
        let is_owned = self.owners.key(&entry.name, time_unix_ms) == Some(key.key);
        if !is_owned && key.ownership != Ownership::FirstProof {
            return;
        }
        let (is_owner, freed) = self.owners.join(&entry.name, key.key, time_unix_ms);
        entry.granted().is_owner = is_owner;
        let name = entry.name.clone();
        if let Some(changes) = &mut self.changes {
            changes.extend(freed.into_iter().map(Change::Disowned));
        }
        self.note_owner(&name);
    }

    /// Hands the owner of a name to the store.
    fn note_owner(&mut self, name: &Name) {
        if let (Some(changes), Some(owner)) = (&mut self.changes, self.owners.get(name)) {
            changes.push(Change::Owned(name.clone(), owner));
        }
    }

    /// Gives a new member its line: the one that it claimed, or a new one.
    fn join_line(
        &mut self,
        member: MemberId,
        time_unix_ms: i64,
        JoinLine { token, claim }: JoinLine,
        judged: Option<ClaimResult>,
    ) -> Option<Claimed> {
        let member_entry = self.members.get_mut(member)?;
        let (id, claimed) = match (judged, claim) {
            (Some(ClaimResult::Valid { line, .. }), Some(claim)) => {
                self.lines.resume(line, member, &claim, token);
                let began_seq = self.lines.get(line).map_or(0, |line| line.began_seq);
                // CHAT-RES-8
                let from_seq = claim.seq.max(began_seq) + 1;
                let from_seq = from_seq.max(self.oldest_seq);
                (line, Some(Claimed::Resumed { from_seq }))
            }
            (judged, _) => {
                let line = Line {
                    name: member_entry.name.clone(),
                    tokens: [token].into(),
                    attempt: 0,
                    began_seq: self.seq,
                    seen_unix_ms: time_unix_ms,
                    sent: VecDeque::new(),
                    member: None,
                };
                let failed = judged.map(|judged| match judged {
                    ClaimResult::Failed(reason) => Claimed::Failed(reason),
                    ClaimResult::Valid { .. } | ClaimResult::Replaced => {
                        Claimed::Failed(ResumeFailure::UnknownToken)
                    }
                });
                (self.lines.begin(member, line), failed)
            }
        };
        member_entry.granted().line = Some(id);
        self.note_line(id);
        claimed
    }

    /// Hands a line to the store.
    fn note_line(&mut self, id: LineId) {
        if let (Some(changes), Some(line)) = (&mut self.changes, self.lines.get(id)) {
            changes.push(Change::Line(id, Box::new(line.to_keep())));
        }
    }

    /// Frees the name (CHAT-NAME-5) and tells the members with presence (CHAT-PRES-3).
    pub(super) fn leave(
        &mut self,
        member: MemberId,
        reason: LeftReason,
        time_unix_ms: i64,
    ) -> Event {
        // Before the member is removed, since the index looks up its name.
        self.names.remove(&self.members, member);
        let Some(gone) = self.members.remove(member) else {
            return Event::Ignored;
        };
        if let Some(line) = gone.line() {
            self.leave_line(line, reason, time_unix_ms);
        }
        if gone.is_owner() {
            self.owners.leave(&gone.name, time_unix_ms);
            self.note_owner(&gone.name);
        }
        let left = wire::Left {
            name: gone.name.as_str().to_owned(),
            reason: reason.into(),
        };
        Event::Left {
            name: gone.name,
            chats: gone.chats,
            published: Publication::new(Audience::Presence, Message::Left(left)),
        }
    }

    /// The session of a line has ended: with a Leave, or by the operator, the line has too
    /// (CHAT-RES-4, CHAT-MOD-5).
    fn leave_line(&mut self, line: LineId, reason: LeftReason, time_unix_ms: i64) {
        let mut ended = Vec::new();
        if let LeftReason::Leave | LeftReason::Kicked | LeftReason::Banned = reason {
            self.lines.end(line);
            ended.push(line);
        } else {
            ended = self.lines.suspend(line, time_unix_ms);
            self.note_line(line);
        }
        if let Some(changes) = &mut self.changes {
            changes.extend(ended.into_iter().map(Change::LineEnded));
        }
    }
}
