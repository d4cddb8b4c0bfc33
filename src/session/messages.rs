//! Messages: handles the messages of a registered client (CHAT-CHAT, CHAT-LEAVE,
//! CHAT-KEEP), and rejects some of them without ending the session.

use crate::{
    room::{self, Command},
    text::Text,
    wire::{
        self, ClientEnvelope, ServerEnvelope, client_envelope::Message as Sent, get_history,
        server_envelope::Message,
    },
};

use super::{
    CloseReason, Context, Edge, Effect, Event, PageRequest, Sessions, State, envelope, receipt,
    rejection::{self, Rejection},
    silence::Silence,
};

impl Sessions {
    pub(super) fn handle_registered(&mut self, context: &mut Context<'_>, event: Event) {
        let member = context.id.member();
        match event {
            Event::Message(envelope) => {
                self.note_activity(&context.room, member);
                self.session(context.id).silence = Silence::new(context.now.elapsed_ms);
                self.handle_message(context, envelope);
            }
            Event::Tick {
                reads_drained,
                replies_flushed,
                progress,
            } => {
                self.cover(context);
                if let Some(State::Registered(session)) = self.states.get_mut(context.id.0)
                    && session.may_resume(context.now.elapsed_ms)
                {
                    session.is_throttled = false;
                }
                if reads_drained {
                    self.handle_silence(context, replies_flushed, progress);
                } else {
                    self.suspend_probe(&context.room, member);
                    self.session(context.id).silence = Silence::new(context.now.elapsed_ms);
                }
            }
            event => self.handle_stream(context, event),
        }
    }

    fn handle_message(&mut self, context: &mut Context<'_>, envelope: ClientEnvelope) {
        let granted = self.session(context.id).granted;
        match envelope.message {
            Some(Sent::Chat(chat)) => self.handle_chat(context, chat),
            Some(Sent::Leave(_)) => self.end(context, CloseReason::Leave), // CHAT-LEAVE-2
            // CHAT-REG-6, CHAT-ID-7
            Some(Sent::Register(_) | Sent::Proof(_)) => {
                self.reject_message(context, rejection::already_registered().non_fatal());
            }
            // CHAT-GROW-6
            Some(Sent::Ping(_) | Sent::Pong(_)) if !granted.keepalive => {
                self.reject_message(context, rejection::keepalive_not_granted().non_fatal());
            }
            // CHAT-KEEP-1
            Some(Sent::Ping(ping)) => context.reply(self::envelope(Message::Pong(wire::Pong {
                token: ping.token,
            }))),
            // CHAT-GROW-6
            Some(Sent::GetHistory(_)) if !granted.history => {
                let answer = rejection::history_not_granted(self.offer.history);
                self.reject_message(context, answer.non_fatal());
            }
            Some(Sent::GetHistory(request)) => self.handle_get_history(context, &request),
            // CHAT-GROW-6
            Some(Sent::Direct(_) | Sent::DirectAck(_)) if !granted.direct => {
                self.reject_message(context, rejection::direct_not_granted().non_fatal());
            }
            Some(Sent::Direct(direct)) => self.handle_direct(context, direct),
            Some(Sent::DirectAck(ack)) => self.handle_direct_ack(context, ack.seq),
            Some(Sent::Follow(_)) if !granted.follow => {
                self.reject_message(context, rejection::follow_not_granted().non_fatal());
            }
            Some(Sent::Follow(follow)) => self.handle_follow(context, &follow),
            // CHAT-GROW-6
            Some(Sent::PutFile(_) | Sent::FileData(_) | Sent::GetFile(_)) if !granted.files => {
                let answer = rejection::files_not_granted(self.offer.files);
                self.reject_message(context, answer.non_fatal());
            }
            Some(Sent::PutFile(put)) => self.handle_put_file(context, &put),
            Some(Sent::FileData(data)) => self.handle_file_data(context, data),
            Some(Sent::GetFile(get)) => self.handle_get_file(context, &get),
            // CHAT-KEEP-5: its arrival was noted above.
            Some(Sent::Pong(_)) => {}
            // CHAT-GROW-1
            None => self.reject_message(context, rejection::unknown_message().non_fatal()),
        }
    }

    fn handle_get_history(&mut self, context: &mut Context<'_>, request: &wire::GetHistory) {
        let chats_max = self.limits.history_page_max;
        let edge = request.edge.map(|edge| match edge {
            get_history::Edge::Before(seq) => Edge::Before(seq),
            get_history::Edge::After(seq) => Edge::After(seq),
        });
        let granted = self.session(context.id).granted;
        let name = context.room.name(context.id.member());
        let name = name.map_or("", |name| name.as_str());
        let filter = self.parse_filter(granted, name, request.filter.as_ref());
        let rejection = match (edge, filter) {
            (Some(edge), Ok(filter)) if (1..=chats_max).contains(&request.limit) => {
                self.session(context.id).awaits_page = true;
                return context.effects.push(Effect::FetchPage(PageRequest {
                    id: request.id,
                    edge,
                    chats_max: request.limit,
                    filter,
                }));
            }
            (_, Err(rejection)) => rejection, // CHAT-FOL-5
            _ => rejection::page(chats_max),  // CHAT-HIST-7
        };
        self.reject_message(context, rejection.for_request(request.id));
    }

    fn handle_chat(&mut self, context: &mut Context<'_>, mut chat: wire::Chat) {
        // CHAT-RES-11: before anything that could refuse what the others have seen.
        if let Some(sent) = context.room.sent(context.id.member(), chat.id) {
            return context.reply(receipt(sent));
        }
        let text = match self.check_text(context, std::mem::take(&mut chat.text)) {
            Ok(text) => text,
            // CHAT-CHAT-8
            Err(rejection) => return self.reject_message(context, rejection.for_request(chat.id)),
        };
        if !self.session(context.id).granted.follow {
            // CHAT-FOL-2. The text is nobody's to read (CHAT-FOL-3).
            chat.topic.clear();
            chat.mentions.clear();
        } else if let Err(rejection) = self.check_topic(&chat) {
            return self.reject_message(context, rejection.for_request(chat.id));
        }
        if let Err(answer) = self.check_files(context, &chat.files, chat.id) {
            return self.reject_message(context, *answer);
        }
        if let Err(retry_after_ms) = self.take_chat_token(context) {
            let answer = rejection::rate(retry_after_ms).for_request(chat.id);
            return self.reject_message(context, answer);
        }
        if !self.has_files(context, &chat.files) {
            let answer = rejection::file(wire::ErrorCode::FileUnknown, &self.limits);
            return self.reject_message(context, answer.for_request(chat.id)); // CHAT-FILE-1
        }
        let receipts = self.session(context.id).granted.receipts;
        if self.refuses_for_space() {
            let answer = rejection::storage_full().for_request(chat.id);
            return self.reject_message(context, answer);
        }
        let command = Command::Chat {
            member: context.id.member(),
            text,
            topic: chat.topic,
            mentions: chat.mentions,
            files: chat.files,
            id: chat.id,
            time_unix_ms: context.now.unix_ms,
        };
        match self.order(context, command) {
            Some(event) => {
                self.note_named(&event);
                answer_chat(context, chat.id, receipts, event);
            }
            None => self.await_chat(context, chat.id, receipts),
        }
    }

    /// Judges the text of a Chat or a Direct, and whether its sender may speak (CHAT-MOD-4).
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn check_text(
        &self,
        context: &Context<'_>,
        text: String,
    ) -> Result<Text, Rejection> {
        self.check_mute(context)?;
        let text_bytes_max = self.limits.text_bytes_max;
        Text::parse(text, text_bytes_max).map_err(|error| rejection::text(error, text_bytes_max))
    }

    /// Takes a token of the member for a Chat or a Direct.
    ///
    /// # Errors
    ///
    /// In how many milliseconds it has another (CHAT-LIM-3).
    pub(super) fn take_chat_token(&mut self, context: &Context<'_>) -> Result<(), u32> {
        let session = self.session(context.id);
        let Some(rate) = session.limits.chat_rate() else {
            return Ok(());
        };
        let interval_ms = u64::from(rate.interval_ms);
        let taken = session.chat_rate.take_delayed(
            context.now.elapsed_ms,
            context.now.earliest_arrival_ms, // CHAT-LIM-2
            interval_ms,
            interval_ms * u64::from(rate.burst),
        );
        // Never more than one interval, which is a u32.
        taken.map_err(|wait_ms| u32::try_from(wait_ms).unwrap_or(u32::MAX))
    }

    /// Rejects a message of a member, and ends its session if that happens too often
    /// (CHAT-ERR-8, CHAT-ERR-9).
    pub(super) fn reject_message(&mut self, context: &mut Context<'_>, answer: ServerEnvelope) {
        context.reply(answer);
        let now_ms = context.now.elapsed_ms;
        let session = self.session(context.id);
        if let Some(errors_max) = session.limits.errors_max
            && session.error_budget.charge(now_ms, errors_max)
        {
            self.end_with(context, rejection::too_many_errors());
        }
    }
}

/// Publishes a chat that was applied, and gives its sender the receipt.
pub(super) fn answer_chat(context: &mut Context<'_>, id: u64, receipts: bool, event: room::Event) {
    let sent = match event {
        room::Event::Accepted {
            seq,
            time_unix_ms,
            published,
        } => {
            context.effects.push(Effect::Publish(published));
            room::Sent {
                id,
                seq,
                time_unix_ms,
            }
        }
        // Its first copy was still on its way when this one was read.
        room::Event::Repeated(sent) => sent,
        _ => return, // A registered session is a member, so this cannot be.
    };
    if receipts {
        // CHAT-RCPT-1, CHAT-RCPT-3; rejections go through the same queue of replies,
        // so the answers keep the order of the chats (CHAT-RCPT-2).
        context.reply(receipt(sent));
    }
}
