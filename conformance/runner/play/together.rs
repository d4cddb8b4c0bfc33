//! Steps that read several messages: interleaved lanes, catching up, a file in its pieces,
//! and the common end of a room.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{Outcome, Play, StepError};
use crate::{
    conn::Event,
    problem::{Problem, Received},
    timing::announced,
    transcript::{Action, Arrival, Step, Wanted, print},
    verdict::{Kind, millis},
};

impl Play<'_> {
    pub(super) fn skip(&mut self, who: &str) -> Outcome {
        self.pump_what_has_come(who, self.context.timing.rest())?;
        for queue in &mut self.conn(who)?.queues {
            queue.clear();
        }
        Ok(())
    }

    /// Every chat since its Registered, in order and without a gap, up to the last
    /// that anybody has or, unless it must have everything, up to an early end.
    pub(super) fn catch_up(&mut self, who: &str, with_everything: bool) -> Outcome {
        let first = self.bindings.get(&format!("{who}.seq"));
        let mut last: u64 = first.and_then(|s| s.parse().ok()).unwrap_or(0);
        self.conn(who)?.widen_window();
        while last < self.last_seq {
            self.in_time()?;
            let deadline = self.until();
            match self.next(who, deadline, true) {
                Ok(Event::Message(message)) if message.kind == "chat" => {
                    let seq = message.body["seq"]
                        .as_str()
                        .and_then(|s| s.parse::<u64>().ok());
                    let due = self.bindings.nth_after(last, 1);
                    if seq != Some(due) {
                        let sentence =
                            format!("{who} received another number than the next after {last}");
                        return Err(Problem::new(Kind::WrongAnswer, &["CHAT-ORD-4"], sentence)
                            .showing(&message)
                            .into());
                    }
                    last = due;
                }
                Ok(Event::Message(message))
                    if message.body["code"] == "ERROR_CODE_SLOW_CONSUMER" && !with_everything => {}
                Ok(Event::Message(message)) => {
                    self.not_too_late_to_read()?;
                    return Err(self.unexpected(who, &message).into());
                }
                Ok(Event::Closed) if with_everything => {
                    self.not_too_late_to_read()?;
                    let sentence = format!(
                        "{who} was closed after number {last}, and others have up to {}",
                        self.last_seq
                    );
                    return Err(Problem::new(Kind::Closed, &[], sentence).into());
                }
                // Told to go, or cut off where nothing could be said to it any more.
                Ok(Event::Closed) => return Ok(()),
                Err(StepError::Problem(problem))
                    if problem.sentence.contains("inside a frame") && !with_everything =>
                {
                    return Ok(());
                }
                Ok(Event::Timeout) => return Err(self.silent(who).into()),
                Err(error) => {
                    self.not_too_late_to_read()?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The bytes of a file in FileData: in order, without a gap, and none above the bound.
    pub(super) fn pieces(&mut self, who: &str, wanted: &Wanted) -> Outcome {
        let body = self.bindings.fill(&wanted.body)?;
        let decode = |body: &Value| STANDARD.decode(body["data"].as_str().unwrap_or_default());
        let offset_of = |body: &Value| body["offset"].as_str().unwrap_or("0").parse::<u64>().ok();
        let data = decode(&body).map_err(|error| format!("the data is no base64: {error}"))?;
        let mut offset = offset_of(&body).ok_or_else(|| "the offset is no number".to_owned())?;
        let piece_max = self.bindings.limits.get("file_chunk_bytes_max");
        let queue = self.conn(who)?.queue_of(&wanted.kind);
        let mut left = &data[..];
        while !left.is_empty() {
            self.in_time()?;
            let deadline = self.until();
            let Some(message) = self.take(who, queue, deadline, true)? else {
                return Err(self.silent(who).into());
            };
            let piece = decode(&message.body).unwrap_or_default();
            let is_next = message.body["sha256"] == body["sha256"]
                && offset_of(&message.body) == Some(offset)
                && (1..=piece_max).contains(&(piece.len() as u64))
                && left.starts_with(&piece);
            if !is_next {
                let sentence = format!(
                    "{who} received another piece than the next one from {offset} on, of at most {piece_max} bytes"
                );
                return Err(Problem::new(Kind::WrongAnswer, &[], sentence)
                    .showing(&message)
                    .into());
            }
            offset += piece.len() as u64;
            left = &left[piece.len()..];
        }
        Ok(())
    }

    /// A member that has not read for as long as the write deadline may be cut off: then the
    /// suite was too slow.
    fn not_too_late_to_read(&self) -> Outcome {
        let deadline = announced(self.bindings.limits.get("write_deadline_ms"));
        if self.began.elapsed() >= deadline {
            let ms = millis(deadline);
            let sentence = format!("this machine is too busy to read again within {ms} ms");
            return Err(StepError::Late(sentence));
        }
        Ok(())
    }

    /// Each chat that `who` sent so far either reached `receiver` or was refused with
    /// RATE_LIMITED, and the numbers have no gap. An answer to `who` and a chat by a
    /// helper, both sent behind them, show that nothing more comes.
    pub(super) fn account(&mut self, who: &str, receiver: &str) -> Outcome {
        let sent = self.said.get(who).copied().unwrap_or(0);
        let refused = self.refused(who)?;
        let helper = self.helper_says("that was all")?;
        let name = self.bindings.get(who).unwrap_or(who).to_owned();
        let (mut heard, mut last) = (0, None);
        loop {
            let deadline = self.until();
            let queued = self.conn(receiver)?.queues[1].pop_front();
            let event = match queued {
                Some(message) => Event::Message(message),
                None => self.conn(receiver)?.next(deadline)?,
            };
            let mut message = match event {
                Event::Message(message) => message,
                Event::Timeout => return Err(self.silent(receiver).into()),
                Event::Closed => {
                    let sentence = format!("{receiver}'s connection was closed");
                    return Err(Problem::new(Kind::Closed, &[], sentence).into());
                }
            };
            let is_end = message.body["sender"] == helper.as_str();
            if message.kind != "chat" || (!is_end && self.is_foreign(&mut message)) {
                continue;
            }
            let seq = message.body["seq"].as_str().and_then(|s| s.parse().ok());
            let is_next = last.is_none_or(|last| seq == Some(self.bindings.nth_after(last, 1)));
            if !is_next {
                let sentence = format!("{receiver} received another number than the next");
                return Err(Problem::new(Kind::WrongAnswer, &["CHAT-CHAT-8"], sentence)
                    .showing(&message)
                    .into());
            }
            last = seq;
            if is_end {
                self.bindings.foreign_seqs.extend(seq);
                break;
            }
            heard += u64::from(message.body["sender"] == name.as_str());
        }
        let sentence = format!(
            "of {sent} chats by {who}, {heard} reached {receiver} and {refused} were refused"
        );
        match (heard + refused).cmp(&sent) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => {
                Err(Problem::new(Kind::WrongAnswer, &["CHAT-LIM-3"], sentence).into())
            }
            std::cmp::Ordering::Greater => {
                Err(Problem::new(Kind::WrongAnswer, &["CHAT-CHAT-8"], sentence).into())
            }
        }
    }

    /// How many chats of a member were refused for the rate, up to the answer to an
    /// empty envelope that is sent here.
    fn refused(&mut self, who: &str) -> Result<u64, StepError> {
        let conn = self.conn(who)?;
        conn.send(&[0], 1, "an empty envelope")?;
        conn.flush()?;
        let mut refused = 0;
        loop {
            let deadline = self.until();
            let Some(message) = self.take(who, 0, deadline, true)? else {
                return Err(self.silent(who).into());
            };
            match message.body["code"].as_str() {
                Some("ERROR_CODE_RATE_LIMITED") => refused += 1,
                Some("ERROR_CODE_UNKNOWN_MESSAGE") => return Ok(refused),
                None if message.kind == "receipt" => {}
                _ => return Err(self.unexpected(who, &message).into()),
            }
        }
    }

    /// Members that receive ServerClosing have received the same chats, their own as
    /// Receipts.
    pub(super) fn same_end(&mut self, people: &[String]) -> Outcome {
        let mut first: Option<Vec<u64>> = None;
        for who in people {
            self.who.clone_from(who);
            let mut heard = Vec::new();
            let queues = &mut self.conn(who)?.queues;
            let mut read: Vec<Received> = queues.iter_mut().flat_map(|q| q.drain(..)).collect();
            while !read.iter().any(|m| m.kind == "server_closing") {
                self.in_time()?;
                let deadline = self.until();
                match self.next(who, deadline, true)? {
                    Event::Message(message) => read.push(message),
                    Event::Timeout => return Err(self.silent(who).into()),
                    Event::Closed => {
                        let sentence =
                            format!("{who}'s connection was closed without ServerClosing");
                        return Err(Problem::new(Kind::Closed, &["CHAT-CLOSE-1"], sentence).into());
                    }
                }
            }
            for message in read {
                if matches!(message.kind.as_str(), "chat" | "receipt") {
                    heard.extend(
                        message.body["seq"]
                            .as_str()
                            .and_then(|s| s.parse::<u64>().ok()),
                    );
                }
            }
            self.closed(who, &Arrival::Anytime, false)?;
            heard.sort_unstable();
            match &first {
                None => first = Some(heard),
                Some(first) if *first == heard => {}
                Some(first) => {
                    let (one, other) = (&people[0], first.len());
                    let sentence = format!(
                        "{who} received {} chats before ServerClosing, but {one} received {other}",
                        heard.len()
                    );
                    return Err(Problem::new(Kind::WrongAnswer, &[], sentence).into());
                }
            }
        }
        Ok(())
    }

    pub(super) fn any_order(&mut self, lanes: &[Vec<Step>]) -> Outcome {
        // The order between connections shows nothing: each is read by itself.
        let mut people: Vec<&str> = Vec::new();
        for who in lanes.iter().flatten().filter_map(|s| s.action.who()) {
            if !people.contains(&who) {
                people.push(who);
            }
        }
        for who in people {
            let mut left: Vec<Vec<&Wanted>> = lanes
                .iter()
                .map(|lane| {
                    lane.iter()
                        .filter_map(|step| match &step.action {
                            Action::Receive { who: w, wanted, .. } if w == who => wanted.first(),
                            _ => None,
                        })
                        .collect()
                })
                .collect();
            while left.iter().any(|lane| !lane.is_empty()) {
                self.take_from_lanes(who, &mut left)?;
            }
        }
        Ok(())
    }

    fn take_from_lanes(&mut self, who: &str, left: &mut [Vec<&Wanted>]) -> Outcome {
        let heads: Vec<&Wanted> = left
            .iter()
            .filter_map(|lane| lane.first().copied())
            .collect();
        let shown: Vec<String> = heads.iter().map(|w| print::wanted(w)).collect();
        self.expected = format!("{who} receives, in any order, {}", shown.join(" / "));
        let deadline = self.until();
        // A stream that nothing is wanted of any more is not waited for.
        let conn = self.conn(who)?;
        let queues: Vec<usize> = heads.iter().map(|w| conn.queue_of(&w.kind)).collect();
        let read = queues.iter().find(|q| !conn.queues[**q].is_empty());
        let queue = read.or(queues.first()).copied().unwrap_or(0);
        let Some(message) = self.take(who, queue, deadline, true)? else {
            return Err(self.silent(who).into());
        };
        for lane in left.iter_mut() {
            let Some(wanted) = lane.first().filter(|w| w.kind == message.kind) else {
                continue;
            };
            let mut bindings = self.bindings.clone();
            if bindings.matches(&wanted.body, Some(&message.body))? {
                self.bindings = bindings;
                lane.remove(0);
                return Ok(());
            }
        }
        Err(self.unexpected(who, &message).into())
    }
}
