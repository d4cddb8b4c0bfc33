//! A double of the engine: one stream in memory, over links that lose, double and delay
//! what nodes publish, and that can be cut. Its restart may lose the newest records.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

use super::*;
use crate::server::cluster::{Engine, Next, Stream, Taken, Trouble};

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
    /// All of them, those too that are not kept any more.
    records: Vec<Vec<u8>>,
    /// Up to which position they are not kept any more.
    dropped: u64,
    checkpoints: Vec<Checkpoint>,
    /// What is sent to nodes, beside the stream.
    mail: BTreeMap<String, VecDeque<Vec<u8>>>,
    life: u32,
    weather: Weather,
    random: fastrand::Rng,
}

#[derive(Clone)]
struct Checkpoint {
    life: u32,
    position: u64,
    bytes: Vec<u8>,
}

impl State {
    /// The whole checkpoints of the present life, by position.
    fn whole(&self) -> Vec<u64> {
        let of_life = self.checkpoints.iter().filter(|it| it.life == self.life);
        let mut positions: Vec<_> = of_life.map(|it| it.position).collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}

impl Double {
    pub(super) fn new(seed: u64, weather: Weather) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                records: Vec::new(),
                dropped: 0,
                checkpoints: Vec::new(),
                mail: BTreeMap::new(),
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
        state.dropped = state.dropped.min(kept as u64);
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

    /// The position up to which records are not kept any more.
    pub(super) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Puts a record into the stream.
    pub(super) fn inject(&self, bytes: Vec<u8>) {
        self.state().records.push(bytes);
        self.changed.notify_waiters();
    }

    /// What the records that are kept take, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        let state = self.state();
        let kept = state.records.iter().skip(state.dropped as usize);
        kept.map(|record| record.len() + 64).sum()
    }

    /// What the present life is called.
    pub(super) fn life(&self) -> String {
        format!("life-{}", self.state().life)
    }

    /// A checkpoint is whole: drops what no newcomer needs any more, unless the writer is
    /// cut off before it gets to that.
    fn keep(&self, checkpoint: Checkpoint, drops: bool) {
        let mut state = self.state();
        if checkpoint.life != state.life {
            return;
        }
        state.checkpoints.push(checkpoint);
        let whole = state.whole();
        if let Some(&oldest) = whole.len().checked_sub(2).and_then(|it| whole.get(it))
            && drops
        {
            let life = state.life;
            state.dropped = state.dropped.max(oldest);
            state
                .checkpoints
                .retain(|it| it.life == life && it.position >= oldest);
        }
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
    /// How long each record takes to the node, in milliseconds.
    slow_ms: Arc<AtomicU64>,
}

impl Link {
    pub(super) fn new(double: &Arc<Double>) -> Self {
        Self {
            double: Arc::clone(double),
            is_cut: Arc::default(),
            slow_ms: Arc::default(),
        }
    }

    pub(super) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
        self.double.changed.notify_waiters();
    }

    /// Each record takes so long to the node from now on.
    pub(super) fn set_slow(&self, slow_ms: u64) {
        self.slow_ms.store(slow_ms, Ordering::Relaxed);
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }
}

impl Engine for Link {
    type Stream = DoubleStream;

    async fn open(&self, node: &str) -> Result<DoubleStream, Trouble> {
        if self.is_cut() {
            return Err(Trouble::Passing("no way to the engine".to_owned()));
        }
        let state = self.double.state();
        let oldest = state.checkpoints.iter().filter(|it| {
            // The oldest one from which all records are kept.
            it.life == state.life && it.position >= state.dropped
        });
        let oldest = oldest.min_by_key(|it| it.position);
        let start = oldest.map_or(state.dropped, |it| it.position);
        Ok(DoubleStream {
            link: self.clone(),
            life: state.life,
            life_name: format!("life-{}", state.life),
            start,
            last_position: state.records.len() as u64,
            checkpoint: oldest.map(|it| it.bytes.clone()),
            position: start,
            mail: node.to_owned(),
            ready_at: None,
            reports: Arc::default(),
        })
    }
}

pub(super) struct DoubleStream {
    link: Link,
    life: u32,
    life_name: String,
    start: u64,
    last_position: u64,
    checkpoint: Option<Vec<u8>>,
    position: u64,
    /// The name of the node.
    mail: String,
    /// When the next record arrives on a slow link.
    ready_at: Option<Instant>,
    /// Refusals, and what became of checkpoints.
    reports: Arc<Mutex<VecDeque<Taken>>>,
}

impl Stream for DoubleStream {
    fn life(&self) -> &str {
        &self.life_name
    }

    fn start(&self) -> u64 {
        self.start
    }

    fn take_checkpoint(&mut self) -> Option<Vec<u8>> {
        self.checkpoint.take()
    }

    fn last_position(&self) -> u64 {
        self.last_position
    }

    fn send(&mut self, node: &str, bytes: Vec<u8>) {
        let double = Arc::clone(&self.link.double);
        let mut state = double.state();
        let weather = state.weather;
        let mut happens = |parts: u64| state.random.u64(..100) < parts;
        let is_lost = self.link.is_cut() || happens(weather.lost);
        let is_late = happens(weather.late);
        let delay = Duration::from_millis(match is_late {
            true => state.random.u64(500..9_000),
            false => state.random.u64(1..30),
        });
        drop(state);
        if is_lost {
            return;
        }
        let node = node.to_owned();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            double
                .state()
                .mail
                .entry(node)
                .or_default()
                .push_back(bytes);
            double.changed.notify_waiters();
        });
    }

    fn keep(&mut self, position: u64, bytes: Vec<u8>) {
        let double = Arc::clone(&self.link.double);
        let mut state = double.state();
        let weather = state.weather;
        let mut happens = |parts: u64| state.random.u64(..100) < parts;
        let (is_lost, is_late) = (happens(2 * weather.lost), happens(4 * weather.late));
        let (is_refused, drops) = (happens(weather.refused), !happens(2 * weather.lost));
        let delay = Duration::from_millis(match is_late {
            true => state.random.u64(500..9_000),
            false => state.random.u64(1..30),
        });
        drop(state);
        let (reports, link) = (Arc::clone(&self.reports), self.link.clone());
        let checkpoint = Checkpoint {
            life: self.life,
            position,
            bytes,
        };
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let is_kept = !is_lost && !link.is_cut();
            if is_kept {
                link.double.keep(checkpoint, drops);
            }
            let kept = match is_kept && !is_refused && drops {
                true => Ok(position),
                false => Err("the weather is bad".to_owned()),
            };
            reports.lock().unwrap().push_back(Taken::Kept(kept));
            link.double.changed.notify_waiters();
        });
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
            self.reports.lock().unwrap().push_back(Taken::Refused);
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
        let slow_ms = self.link.slow_ms.load(Ordering::Relaxed);
        if slow_ms > 0 {
            let at = Instant::now() + Duration::from_millis(slow_ms);
            // This may be dropped while it waits, and called again.
            tokio::time::sleep_until(*self.ready_at.get_or_insert(at)).await;
        }
        loop {
            let changed = self.link.double.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.link.is_cut() {
                if let Some(report) = self.reports.lock().unwrap().pop_front() {
                    return Ok(report);
                }
                let mut state = self.link.double.state();
                if state.life != self.life {
                    return Err(Trouble::Passing("started again".to_owned()));
                }
                let mail = state.mail.get_mut(&self.mail);
                if let Some(bytes) = mail.and_then(VecDeque::pop_front) {
                    return Ok(Taken::Message(bytes));
                }
                let position = self.position.max(state.dropped);
                if let Some(bytes) = state.records.get(position as usize) {
                    let bytes = bytes.clone();
                    let behind = state.records.len() as u64 - position - 1;
                    drop(state);
                    self.position = position + 1;
                    self.ready_at = None;
                    return Ok(Taken::Record(self.position, bytes, behind));
                }
            }
            changed.await;
        }
    }
}
