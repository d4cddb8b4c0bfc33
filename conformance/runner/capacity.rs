//! Capacity: the connections that the server takes, as the options say, shared among the
//! cases that are played at the same time.

use std::{
    collections::VecDeque,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    connection_caps::ConnectionCaps,
    timing::MINUTE,
    transcript::{Action, Case, Step, expr::Limits},
};

/// The connections that one play of a case opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// How many are open at a time, at the most.
    pub at_once: usize,
    /// How many are opened in all.
    pub in_all: usize,
}

impl Need {
    /// What a case opens, at these limits.
    pub fn of(case: &Case, limits: &Limits) -> Self {
        let mut need = Self::default();
        need.add(&case.steps, limits);
        need.at_once += case.people().len();
        need
    }

    fn add(&mut self, steps: &[Step], limits: &Limits) {
        /// "The server still serves": two members.
        const SERVED: usize = 2;
        for step in steps {
            match &step.action {
                Action::Connect { .. } | Action::Join { .. } => self.in_all += 1,
                Action::Serves => {
                    self.in_all += SERVED;
                    self.at_once += SERVED;
                }
                Action::Crowd(count) => {
                    let count = usize::try_from(count.value(limits)).unwrap_or(usize::MAX);
                    self.in_all = self.in_all.saturating_add(count);
                    self.at_once = self.at_once.saturating_add(count);
                }
                Action::Repeat { count, steps } => {
                    let mut inner = Self::default();
                    inner.add(steps, limits);
                    let count = usize::try_from(count.value(limits)).unwrap_or(usize::MAX);
                    self.in_all = self
                        .in_all
                        .saturating_add(inner.in_all.saturating_mul(count));
                    self.at_once = self.at_once.saturating_add(inner.at_once);
                }
                _ => {}
            }
        }
    }

    /// Why a server with these caps can never be judged by the case.
    pub fn exceeds(self, caps: ConnectionCaps) -> Option<String> {
        let at_once = caps.at_once().filter(|max| self.at_once > *max);
        let in_all = caps.minute.filter(|max| self.in_all > *max);
        let (need, max, what) = match (at_once, in_all) {
            (Some(max), _) => (self.at_once, max, "connections at a time"),
            (None, Some(max)) => (self.in_all, max, "new connections a minute"),
            (None, None) => return None,
        };
        Some(format!(
            "it needs {need} {what}, and the server takes {max}; start it with room for more"
        ))
    }
}

/// The connections of the suite to a server at an address.
pub struct Capacity {
    caps: ConnectionCaps,
    state: Mutex<State>,
    has_changed: Condvar,
    was_exceeded: AtomicBool,
}

struct State {
    open: usize,
    /// When the connections of the last minute were opened.
    recent: VecDeque<Instant>,
}

/// Room for a play. It is given back when this is dropped.
pub struct Reservation<'a> {
    capacity: &'a Capacity,
    at_once: usize,
}

impl Capacity {
    /// Of a server with these caps, to which so many connections were opened just now.
    pub fn new(caps: ConnectionCaps, opened: usize) -> Self {
        let now = Instant::now();
        Self {
            caps,
            state: Mutex::new(State {
                open: 0,
                recent: (0..opened).map(|_| now).collect(),
            }),
            has_changed: Condvar::new(),
            was_exceeded: AtomicBool::new(false),
        }
    }

    /// Notes that the server turned a connection away because it has too many.
    pub fn note_exceeded(&self) {
        self.was_exceeded.store(true, Ordering::Relaxed);
    }

    /// Whether the server did so before.
    pub fn was_exceeded(&self) -> bool {
        self.was_exceeded.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until other plays leave enough room. A case that saturates the server is
    /// played alone.
    ///
    /// # Errors
    ///
    /// The reason why there is none: too many connections were opened in the last minute.
    pub fn reserve(&self, need: Need, is_saturating: bool) -> Result<Reservation<'_>, String> {
        let max = self.caps.at_once();
        let at_once = match max {
            Some(max) if is_saturating => max,
            Some(max) => need.at_once.min(max),
            None => 0,
        };
        let mut state = self.state();
        while max.is_some_and(|max| state.open + at_once > max) {
            let waited = self.has_changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(max) = self.caps.minute {
            let now = Instant::now();
            let is_over = |at: &Instant| now.duration_since(*at) > MINUTE;
            while state.recent.front().is_some_and(is_over) {
                state.recent.pop_front();
            }
            let opened = state.recent.len();
            if opened + need.in_all > max {
                return Err(format!(
                    "it opens {} connections, and the suite has opened {opened} of the {max} that the server takes in a minute",
                    need.in_all
                ));
            }
            state.recent.extend((0..need.in_all).map(|_| now));
        }
        state.open += at_once;
        Ok(Reservation {
            capacity: self,
            at_once,
        })
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.capacity.state().open -= self.at_once;
        self.capacity.has_changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::parse;

    fn need(steps: &str) -> Need {
        let case = parse::case("area/case", steps).expect("a transcript");
        Need::of(&case, &Limits::assumed())
    }

    #[test]
    fn the_connections_of_a_case_are_counted() {
        let counted = |at_once, in_all| Need { at_once, in_all };
        assert_eq!(need("alice joins\nbob connects\n"), counted(2, 2));
        assert_eq!(
            need("alice joins\nalice closes\nalice joins\nthe server still serves\n"),
            counted(3, 4)
        );
        assert_eq!(
            need("a crowd of 40 joins\nrepeat 3\nalice connects\nend\n"),
            counted(41, 43)
        );
    }

    #[test]
    fn connections_of_the_last_minute_leave_less_room() {
        let caps = ConnectionCaps {
            minute: Some(5),
            ..ConnectionCaps::default()
        };
        let capacity = Capacity::new(caps, 1);
        let need = need("alice joins\nbob joins\n");
        for _ in 0..2 {
            assert!(capacity.reserve(need, false).is_ok());
        }
        let refused = capacity.reserve(need, false).err().expect("no room");
        assert!(refused.contains("has opened 5 of the 5"), "{refused}");
    }

    #[test]
    fn a_play_waits_for_the_connections_of_others() {
        let caps = ConnectionCaps {
            server: Some(3),
            ..ConnectionCaps::default()
        };
        let capacity = Capacity::new(caps, 0);
        let need = need("alice joins\nbob joins\n");
        let first = capacity
            .reserve(need, false)
            .unwrap_or_else(|_| panic!("room"));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| capacity.reserve(need, false).is_ok());
            std::thread::sleep(crate::timing::POLL * 10);
            assert!(!second.is_finished());
            drop(first);
            assert!(second.join().expect("no panic"));
        });
        assert_eq!(capacity.state().open, 0);
    }
}
