//! A double of the engine: one stream in memory, over links that lose, double and delay
//! what nodes publish, and that can be cut. Its restart may lose the newest records.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::*;
use crate::server::cluster::{Engine, Next, Stream, Trouble};

/// How bad the links are, in parts of a hundred.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Batches that are lost on the way.
    pub(super) lost: u64,
    /// Batches that come twice.
    pub(super) doubled: u64,
    /// Batches that come seconds later.
    pub(super) late: u64,
    /// Batches that are in the stream, but are reported as refused.
    pub(super) refused: u64,
}

impl Weather {
    pub(super) const FINE: Self = Self {
        lost: 0,
        doubled: 0,
        late: 0,
        refused: 0,
    };

    pub(super) const STORMY: Self = Self {
        lost: 10,
        doubled: 15,
        late: 5,
        refused: 10,
    };
}

/// The engine.
pub(super) struct Double {
    state: Mutex<State>,
    /// Rung when there is something new, or something is different.
    changed: Notify,
}

struct State {
    records: Vec<Vec<u8>>,
    life: u32,
    weather: Weather,
    random: fastrand::Rng,
}

impl Double {
    pub(super) fn new(seed: u64, weather: Weather) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                records: Vec::new(),
                life: 1,
                weather,
                random: fastrand::Rng::with_seed(seed),
            }),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics under it")
    }

    /// The engine starts again, and lacks the last `lost` records.
    pub(super) fn restart(&self, lost: usize) {
        let mut state = self.state();
        state.life += 1;
        let kept = state.records.len().saturating_sub(lost);
        state.records.truncate(kept);
        drop(state);
        self.changed.notify_waiters();
    }

    pub(super) fn is_fine_from_now_on(&self) {
        self.state().weather = Weather::FINE;
    }

    /// All records, decoded by whoever wants to know.
    pub(super) fn records(&self) -> Vec<Vec<u8>> {
        self.state().records.clone()
    }

    fn add(&self, life: u32, bytes: &[u8]) {
        let mut state = self.state();
        // What was on its way to an engine that has ended may reach the next one.
        let reaches = state.life == life || state.random.bool();
        if reaches {
            state.records.push(bytes.to_vec());
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

/// The link of one node to the engine.
#[derive(Clone)]
pub(super) struct Link {
    double: Arc<Double>,
    is_cut: Arc<AtomicBool>,
}

impl Link {
    pub(super) fn new(double: &Arc<Double>) -> Self {
        Self {
            double: Arc::clone(double),
            is_cut: Arc::default(),
        }
    }

    pub(super) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
        self.double.changed.notify_waiters();
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }
}

impl Engine for Link {
    type Stream = DoubleStream;

    async fn open(&self) -> Result<DoubleStream, Trouble> {
        if self.is_cut() {
            return Err(Trouble::Passing("no way to the engine".to_owned()));
        }
        let state = self.double.state();
        Ok(DoubleStream {
            link: self.clone(),
            life: state.life,
            life_name: format!("life-{}", state.life),
            last_position: state.records.len() as u64,
            position: 0,
            refusals: Arc::default(),
        })
    }
}

pub(super) struct DoubleStream {
    link: Link,
    life: u32,
    life_name: String,
    last_position: u64,
    position: u64,
    refusals: Arc<AtomicUsize>,
}

impl Stream for DoubleStream {
    fn life(&self) -> &str {
        &self.life_name
    }

    fn last_position(&self) -> u64 {
        self.last_position
    }

    fn publish(&mut self, bytes: Vec<u8>) {
        let double = &self.link.double;
        let mut state = double.state();
        let weather = state.weather;
        let mut happens = |parts: u64| state.random.u64(..100) < parts;
        let is_lost = self.link.is_cut() || happens(weather.lost);
        let (is_doubled, is_late) = (happens(weather.doubled), happens(weather.late));
        let is_refused = happens(weather.refused);
        let mut delay = |late: bool| {
            Duration::from_millis(match late {
                true => state.random.u64(500..9_000),
                false => state.random.u64(1..30),
            })
        };
        let delays = [Some(delay(is_late)), is_doubled.then(|| delay(true))];
        drop(state);
        if is_refused {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            double.changed.notify_waiters();
        }
        if is_lost {
            return;
        }
        for delay in delays.into_iter().flatten() {
            let (double, bytes, life) = (Arc::clone(double), bytes.clone(), self.life);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                double.add(life, &bytes);
            });
        }
    }

    async fn next(&mut self) -> Next {
        loop {
            let changed = self.link.double.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.link.is_cut() {
                if self.refusals.swap(0, Ordering::Relaxed) > 0 {
                    return Ok(None);
                }
                let state = self.link.double.state();
                if state.life != self.life {
                    return Err(Trouble::Passing("started again".to_owned()));
                }
                if let Some(bytes) = state.records.get(self.position as usize) {
                    let bytes = bytes.clone();
                    drop(state);
                    self.position += 1;
                    return Ok(Some((self.position, bytes)));
                }
            }
            changed.await;
        }
    }
}
