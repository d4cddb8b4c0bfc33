//! Register: checks the first message of a connection, and opens the session (CHAT-REG,
//! CHAT-ADM, CHAT-NAME).

use std::sync::Arc;

use crate::{
    name::Name,
    room::{self, Claim, ClaimResult, Claimed, Command, JoinLine},
    wire::{
        self, ClientEnvelope, ResumeFailure, client_envelope::Message as Sent,
        server_envelope::Message,
    },
};

use super::{
    Context, Effect, Event, Sessions, State, envelope,
    granted::Granted,
    members,
    pending::{Joining, PendingRegister},
    rejection,
    state::{Coverage, Session},
};

impl Sessions {
    pub(super) fn handle_unregistered(
        &mut self,
        context: &mut Context<'_>,
        since_ms: u64,
        event: Event,
    ) {
        match event {
            Event::Message(ClientEnvelope {
                message: Some(Sent::Register(register)),
            }) => self.register(context, since_ms, &register),
            // CHAT-REG-2: any other first message, known or not.
            Event::Message(_) => self.end_with(context, rejection::not_registered()),
            // CHAT-REG-5
            Event::Tick { reads_drained, .. }
                if reads_drained && self.register_is_late(context.now.elapsed_ms, since_ms) =>
            {
                let deadline_ms = self.limits.register_deadline_ms;
                self.end_with(context, rejection::register_timeout(deadline_ms));
            }
            Event::Tick { .. } => {}
            event => self.handle_stream(context, event),
        }
    }

    fn register(&mut self, context: &mut Context<'_>, since_ms: u64, register: &wire::Register) {
        // CHAT-ADM-2: the password first, so that a stranger learns nothing about names.
        if let Err(rejection) = self.access.check_password(&register.password) {
            return self.end_with(context, rejection);
        }
        let name = match Name::parse(&register.name) {
            Ok(name) => name,
            Err(error) => return self.end_with(context, rejection::name(error)),
        };
        // CHAT-ADM-4
        if let Err(rejection) = self.access.check_name(&name) {
            return self.end_with(context, rejection);
        }
        // CHAT-MOD-3
        if let Err(rejection) = self.moderation.check_name(&name, context.now.unix_ms) {
            return self.end_with(context, rejection);
        }
        if let Some(retry_after_ms) = self.unreachable_ms() {
            let answer = rejection::cluster_unreachable(retry_after_ms);
            return self.end_with(context, answer);
        }
        let key = match self.key_to_prove(register) {
            Ok(key) => key,
            Err(rejection) => return self.end_with(context, rejection),
        };
        // CHAT-ID-8: before the Challenge, since no proof could help.
        if let Err(rejection) = self.check_owner(context, &name, key.map(|(key, _)| key)) {
            return self.end_with(context, rejection);
        }
        // Nothing could be kept of its session, and its Registered would wait for that.
        if self.refuses_for_space() {
            return self.end_with(context, rejection::store_full());
        }
        let granted = Granted::from_asked(&register.capabilities, self.offer);
        let filter = register.filter.as_ref();
        let filter = match self.parse_filter(granted, name.as_str(), filter) {
            Ok(filter) => filter,
            Err(rejection) => return self.end_with(context, rejection), // CHAT-FOL-5
        };
        let resume = register.resume.as_ref().filter(|_| granted.resume);
        let claim = resume.map(|resume| Claim {
            token: resume.token.clone(),
            epoch: resume.epoch.clone(),
            seq: resume.seq,
            attempt: resume.attempt,
        });
        let pending = PendingRegister {
            since_ms,
            name,
            granted,
            claim,
            key: key.map(|(key, _)| key),
            filter,
        };
        match key {
            Some((_, nonce)) => self.challenge(context, pending, nonce),
            None => self.admit(context, pending),
        }
    }

    /// Lets in a client whose key is proved, or that has none: makes it wait for its
    /// name, or join.
    pub(super) fn admit(&mut self, context: &mut Context<'_>, register: PendingRegister) {
        let PendingRegister {
            name, claim, key, ..
        } = &register;
        // CHAT-MOD-3, CHAT-ID-8: another may have become the owner since the Challenge, and
        // the operator may have banned the name.
        if let Err(rejection) = self.moderation.check_name(name, context.now.unix_ms) {
            return self.end_with(context, rejection);
        }
        if let Err(rejection) = self.check_owner(context, name, *key) {
            return self.end_with(context, rejection);
        }
        let mut replaces = None;
        // A node that is behind does not know the token or the number yet; the order does.
        let mut is_for_the_order = false;
        if let Some(claim) = claim {
            match context.room.judge(claim, name, context.now.unix_ms) {
                // CHAT-RES-6
                ClaimResult::Replaced => return self.end_with(context, rejection::replaced()),
                // CHAT-RES-5: the Join ends that one's session.
                ClaimResult::Valid { member, .. } => replaces = member,
                ClaimResult::Failed(ResumeFailure::UnknownToken | ResumeFailure::FutureSeq) => {
                    is_for_the_order = self.is_clustered();
                }
                ClaimResult::Failed(_) => {}
            }
        }
        // CHAT-ID-9: no other than the owner could have come in, so a holder is a ghost, or
        // from before the name was owned.
        let is_owner = key.is_some() && self.owner(context, name) == *key;
        if let Some(holder) = context.room.holder(name)
            && replaces != Some(holder)
            && !is_owner
            && !is_for_the_order
            && self.wait_for_name(context.now.elapsed_ms, name, holder, context.id)
        {
            // CHAT-NAME-7: a later tick answers it.
            if let Some(state) = self.states.get_mut(context.id.0) {
                *state = State::AwaitingName(Box::new(register));
            }
        } else {
            let unchecked = self.is_clustered().then(|| Box::new(register.clone()));
            self.join(context, register, unchecked);
        }
    }

    /// Asks the room for a name, and opens the session if it is free. `unchecked`: see
    /// [`Joining`].
    pub(super) fn join(
        &mut self,
        context: &mut Context<'_>,
        register: PendingRegister,
        unchecked: Option<Box<PendingRegister>>,
    ) {
        let PendingRegister {
            name,
            mut granted,
            claim,
            key,
            filter,
            ..
        } = register;
        let token = (self.offer.fresh_token)().filter(|_| granted.resume);
        granted.resume = token.is_some();
        let command = Command::Join {
            member: context.id.member(),
            name: name.clone(),
            time_unix_ms: context.now.unix_ms,
            resume: token.map(|token| Box::new(JoinLine { token, claim })),
            key: key.map(|key| Box::new(self.join_key(&name, key))),
        };
        let joining = Joining {
            name,
            granted,
            token,
            has_key: key.is_some(),
            filter,
            unchecked,
        };
        match self.order(context, command) {
            Some(event) => self.joined(context, joining, event),
            None => {
                if let Some(state) = self.states.get_mut(context.id.0) {
                    *state = State::Joining(Box::new(joining));
                }
            }
        }
    }

    /// The Join was applied: opens the session, if it has the name.
    pub(super) fn joined(
        &mut self,
        context: &mut Context<'_>,
        joining: Joining,
        event: room::Event,
    ) {
        let Joining {
            name,
            granted,
            token,
            has_key,
            filter,
            unchecked,
        } = joining;
        if matches!(event, room::Event::NameTaken)
            && let Some(register) = unchecked
            && let Some(holder) = context.room.holder(&name)
            && self.wait_for_name(context.now.elapsed_ms, &name, holder, context.id)
        {
            // CHAT-NAME-7
            if let Some(state) = self.states.get_mut(context.id.0) {
                *state = State::AwaitingName(register);
            }
            return;
        }
        let (replaced, claimed, published) = match event {
            room::Event::Joined {
                replaced,
                claimed,
                published,
            } => (replaced, claimed, published),
            // CHAT-RES-6: it has waited for the name, and a later attempt has not.
            room::Event::Replaced => return self.end_with(context, rejection::replaced()),
            // CHAT-ID-8: it has waited for the name, and another has come to own it.
            room::Event::NameOwned => {
                return self.end_with(context, rejection::name_owned(&name, has_key));
            }
            // CHAT-NAME-3, CHAT-NAME-4
            _ => return self.end_with(context, rejection::name_in_use(&name)),
        };
        let (from_seq, resume_failure) = match claimed {
            None => (None, ResumeFailure::Unspecified),
            Some(Claimed::Resumed { from_seq }) => (Some(from_seq), ResumeFailure::Unspecified),
            Some(Claimed::Failed(reason)) => (None, reason), // CHAT-RES-10
        };
        if let Some(replaced) = replaced {
            self.replaced(*replaced, context.effects);
        }
        // Publish before Subscribe, so that the newcomer's position in the log is behind
        // its own Joined (CHAT-PRES-6).
        context.effects.push(Effect::Publish(published));
        // CHAT-ORD-4, CHAT-ORD-5: the log from here on, and nothing earlier, unless it
        // resumes (CHAT-RES-9).
        context.effects.push(Effect::Subscribe {
            name: name.clone(),
            presence: granted.presence,
            files: granted.files,
            from_seq,
            filter: filter.clone(), // CHAT-FOL-9
            sender_id: context.room.sender_id(context.id.member()),
        });
        // CHAT-REG-3: replies go out before the log, and this is the first.
        context.reply(envelope(Message::Registered(wire::Registered {
            name: name.as_str().to_owned(), // CHAT-REG-4
            epoch: context.room.epoch().to_owned(),
            seq: context.room.seq(), // CHAT-ORD-6
            capabilities: granted.to_wire(),
            limits: Some(self.limits.announced_with(|it| self.offer.grants(it))),
            resume_token: token.map_or_else(Vec::new, |token| token.to_vec()), // CHAT-RES-2
            resumed_from: from_seq.unwrap_or(0),                               // CHAT-RES-8
            oldest_seq: match self.offer.history {
                true => context.room.oldest_seq(),
                false => 0,
            },
            welcome: self.welcome.as_str().to_owned(),
            resume_failure: resume_failure.into(),
        })));
        let seq = context.room.seq();
        let coverage = match filter {
            // The Covered behind what it resumes reaches as far (CHAT-COV-3).
            Some(_) => Coverage::Filtered { seq },
            None => Coverage::Everything {
                since_seq: from_seq.map_or(seq, |seq| seq - 1),
                own: 0,
            },
        };
        self.last_serial += 1;
        let after_seq = match from_seq {
            Some(from_seq) => from_seq.saturating_sub(1),
            None => context.room.seq(),
        };
        let limits = Arc::clone(&self.limits);
        let after = (after_seq, coverage);
        let mut session = Session::new(limits, granted, after, self.last_serial, context.now);
        session.filter = filter;
        if granted.presence {
            let page = members::next_page(&self.limits, &mut session, &context.room, None);
            context.reply(page);
        }
        if let Some(state) = self.states.get_mut(context.id.0) {
            *state = State::Registered(Box::new(session));
        }
    }

    pub(super) fn handle_awaiting_name(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Tick { .. } => self.handle_name_wait(context),
            // The server does not read from it, and the client must not send (CHAT-REG-10).
            Event::Message(_) => self.end_with(context, rejection::not_registered()),
            event => self.handle_stream(context, event),
        }
    }

    pub(super) fn handle_joining(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Tick { .. } => {}
            // The server does not read from it, and the client must not send (CHAT-REG-10).
            Event::Message(_) => self.end_with(context, rejection::not_registered()),
            event => self.handle_stream(context, event),
        }
    }

    pub(super) fn register_is_late(&self, now_ms: u64, since_ms: u64) -> bool {
        now_ms.saturating_sub(since_ms) >= u64::from(self.limits.register_deadline_ms)
    }
}
