//! Answer time: how long the target took for an answer lately. A wait that was long enough
//! at the start of a run proves nothing while the target, or the way to it, takes as long
//! for answers that do come.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::timing::SLOW_ANSWER_COUNTS;

/// How often a run waits for an answer longer than a step does, to see whether it comes.
const LONGER_WAITS_MAX: usize = 8;

/// The slowest of the last answers.
#[derive(Default)]
pub struct AnswerTime {
    slowest: Mutex<Option<(Instant, Duration)>>,
    longer_waits: AtomicUsize,
}

impl AnswerTime {
    /// Notes that an answer which is due at once took so long, more than `slow`.
    pub fn note(&self, took: Duration, slow: Duration) {
        if took < slow {
            return;
        }
        let slowest = self.lately().map_or(took, |it| it.max(took));
        let mut noted = self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = Some((Instant::now(), slowest));
    }

    /// How long the slowest took, if one was slow lately.
    pub fn lately(&self) -> Option<Duration> {
        let noted = *self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, took) = noted.filter(|(at, _)| at.elapsed() < SLOW_ANSWER_COUNTS)?;
        Some(took)
    }

    /// Whether a wait in vain may go on once more: a silent target must not hold the run up.
    pub fn may_wait_longer(&self) -> bool {
        self.longer_waits.fetch_add(1, Ordering::Relaxed) < LONGER_WAITS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slow_answers_count_and_the_slowest_of_them() {
        let answers = AnswerTime::default();
        let ms = Duration::from_millis;
        answers.note(ms(10), ms(100));
        assert_eq!(answers.lately(), None);
        answers.note(ms(200), ms(100));
        answers.note(ms(150), ms(100));
        assert_eq!(answers.lately(), Some(ms(200)));
    }
}
