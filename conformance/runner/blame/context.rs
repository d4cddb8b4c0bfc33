//! Context: the steps of the same person before a step, as far as they tell which rule
//! decides it.

use crate::transcript::{Action, Case, Content, Payload, Side, Step};

/// The steps of the same person before a step.
pub(super) struct Context {
    pub(super) side: Side,
    pub(super) is_after_fatal_error: bool,
    pub(super) is_after_leave: bool,
    /// Whether something that was due before the Leave has come since.
    pub(super) has_received_since_leave: bool,
    pub(super) is_after_end_of_stream: bool,
    pub(super) is_after_closing: bool,
    /// Whether the last bytes were a complete frame.
    pub(super) has_sent_frame: bool,
}

impl Context {
    /// The context of a step of this case.
    pub(super) fn of(case: &Case, step: &Step) -> Self {
        let mut context = Self {
            side: case.side(),
            is_after_fatal_error: false,
            is_after_leave: false,
            has_received_since_leave: false,
            is_after_end_of_stream: false,
            is_after_closing: false,
            has_sent_frame: false,
        };
        context.add(&case.steps, step);
        context
    }

    /// Takes in the steps up to this one; whether it was among them.
    fn add(&mut self, steps: &[Step], until: &Step) -> bool {
        let who = until.action.who();
        for step in steps {
            if std::ptr::eq(step, until) {
                return true;
            }
            match &step.action {
                Action::Repeat { steps, .. } if self.add(steps, until) => return true,
                Action::AnyOrder(lanes) if lanes.iter().any(|lane| self.add(lane, until)) => {
                    return true;
                }
                action if action.who() == who => self.note(action),
                _ => {}
            }
        }
        false
    }

    fn note(&mut self, action: &Action) {
        match action {
            Action::Connect { .. } | Action::Join { .. } => {
                self.is_after_fatal_error = false;
                self.is_after_leave = false;
                self.has_received_since_leave = false;
                self.is_after_end_of_stream = false;
            }
            Action::Send { payload, .. } => {
                self.is_after_leave |= kind_of(payload) == Some("leave");
                self.has_sent_frame =
                    matches!(payload, Payload::Frame { cut_at, .. } if cut_at.is_none());
            }
            Action::HalfClose { .. } => self.is_after_end_of_stream = true,
            Action::Receive { wanted, .. } => {
                let last = wanted.first();
                self.has_received_since_leave |= self.is_after_leave;
                self.is_after_fatal_error =
                    last.is_some_and(|w| w.kind == "error" && w.body["endsSession"] == true);
                self.is_after_closing = last.is_some_and(|w| w.kind == "server_closing");
            }
            _ => {}
        }
    }
}

fn kind_of(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::Frame {
            envelope: Content::Message { kind, .. },
            ..
        } => Some(kind),
        _ => None,
    }
}
