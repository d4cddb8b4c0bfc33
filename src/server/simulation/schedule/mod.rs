//! Schedule: a seed decides every step of a run, and when it happens.

mod config;
mod inputs;
#[cfg(feature = "cli")]
mod operator;

use fastrand::Rng;

use crate::{
    limits::Limits,
    server::{CLOSING_GRACE_MS, slow_consumer::TICK_MS},
};

use super::{coverage::Coverage, link::Behavior, trace::Trace, world::World};

/// The addresses from which connections come. Those that the address limiter counts as
/// one have the same number.
const ADDRESSES: [(&str, Option<u8>); 7] = [
    ("192.0.2.1", Some(1)),
    ("192.0.2.1", Some(1)),
    ("::ffff:192.0.2.1", Some(1)),
    ("192.0.2.2", Some(2)),
    ("2001:db8:0:1::1", Some(3)),
    ("2001:db8:0:1:ffff::2", Some(3)),
    // Not limited.
    ("127.0.0.1", None),
];

/// In how many runs there is one with Directs, and one in which clients come back.
const DIRECTS_EVERY: u64 = 3;

/// In how many runs there is one with filters.
const FILTERS_EVERY: u64 = 2;

/// In how many runs there is one with an operator.
const OPERATOR_EVERY: u64 = 4;

/// What a run puts under stress.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Theme {
    /// A little of everything.
    Ordinary,
    /// Paging of members: many of them, with long names and small frames.
    Crowd,
    /// The log: long texts, sent faster than they are read.
    Bulk,
    /// The reply buffer: replies that are not read.
    Chatter,
}

/// Runs the schedule of `seed`; the oracle checks every step.
///
/// # Panics
///
/// If the server breaks a rule.
pub(super) async fn run(seed: u64, trace: Trace) -> Coverage {
    let mut rng = Rng::with_seed(seed);
    let theme = match rng.u8(0..32) {
        0..5 => Theme::Bulk,
        5..7 => Theme::Chatter,
        7..12 => Theme::Crowd,
        _ => Theme::Ordinary,
    };
    let is_ordinary = theme == Theme::Ordinary;
    let has_operator = is_ordinary && rng.u64(0..OPERATOR_EVERY) == 0;
    let limits = config::limits(theme, has_operator, &mut rng);
    let has_password = rng.u8(0..16) == 0;
    let has_name_list = theme != Theme::Crowd && rng.u8(0..16) == 0;
    trace.line(format_args!("seed {seed}: {theme:?}, {limits:?}"));
    let mut schedule = Schedule {
        theme,
        world: World::new(
            limits.clone(),
            config::access(has_password, has_name_list),
            rng.fork(),
            trace,
        ),
        limits,
        has_password,
        has_name_list,
        has_directs: is_ordinary && seed.is_multiple_of(DIRECTS_EVERY),
        // Both take from the same ids.
        has_resumes: is_ordinary && seed % DIRECTS_EVERY == 1,
        has_filters: theme != Theme::Chatter && rng.u64(0..FILTERS_EVERY) == 0,
        has_operator,
        removals: 0,
        rng,
    };
    let steps = match theme {
        Theme::Bulk => schedule.rng.usize(20..100),
        Theme::Chatter => schedule.rng.usize(40..100),
        _ => schedule.rng.usize(20..280),
    };
    schedule.prologue().await;
    let closing_step = schedule.rng.usize(0..steps * 2);
    for step in 0..steps {
        if step == closing_step {
            schedule.begin_closing();
        }
        schedule.step().await;
    }
    schedule.finish().await
}

struct Schedule {
    theme: Theme,
    limits: Limits,
    /// The server has a password.
    has_password: bool,
    /// The server has a list of names.
    has_name_list: bool,
    /// Members send Directs.
    has_directs: bool,
    /// Clients come back.
    has_resumes: bool,
    /// Members have filters.
    has_filters: bool,
    has_operator: bool,
    /// How often the operator has removed a text.
    removals: usize,
    rng: Rng,
    world: World,
}

impl Schedule {
    /// The steps by which a theme begins.
    async fn prologue(&mut self) {
        match self.theme {
            Theme::Crowd => {
                for _ in 0..self.rng.usize(0..16) {
                    self.connect();
                    self.world.settle();
                }
            }
            Theme::Bulk => {
                // The first does not read while the others chat.
                for number in 0..4 {
                    let index = self.connect_peer();
                    let sent = match (number, self.has_filters) {
                        (0, true) => self.follower(),
                        _ => self.register(),
                    };
                    self.world.links[index].behavior.is_reading = number > 0;
                    self.world.links[index].behavior.delivers_at_once = true;
                    self.world.send(index, &sent);
                }
                self.world.settle();
                if self.has_filters {
                    self.alternate(3);
                    self.world.settle();
                }
                for _ in 0..self.rng.usize(0..60) {
                    let chat = self.chat(3);
                    self.world.send(3, &chat);
                    self.world.pass(TICK_MS).await;
                }
                // If it reads again, the oracle sees whether it misses a chat.
                self.world.links[0].behavior.is_reading = self.rng.u8(0..4) == 0;
            }
            Theme::Ordinary | Theme::Chatter => {}
        }
    }

    /// One event, after which the server may get to run or not.
    async fn step(&mut self) {
        if self.has_operator && self.rng.u8(0..12) == 0 && !self.world.oracle.is_closing() {
            self.operate();
        }
        if self.has_resumes && self.rng.u8(0..10) == 0 {
            self.come_back();
        }
        match self.rng.u8(0..100) {
            0..12 => self.connect(),
            12..55 => self.send(),
            55..63 => self.deliver(),
            63..70 => self.read(),
            70..76 => self.change_behavior(),
            76..80 => self.fault(),
            80..92 => {
                let ms = self.rng.u64(1..400);
                self.world.pass(ms).await;
            }
            92..94 => {
                let ms = self.rng.u64(500..3_000);
                self.world.pass(ms).await;
            }
            94..96 => {
                let ms = self.rng.choice([1_000, 60_000, 86_400_000, 5]).unwrap_or(1);
                self.world.oracle.coverage.mark("clock jumps");
                self.world.jump(ms).await;
            }
            96..98 => {
                let unix_ms = match self.has_resumes {
                    // Not so far that nothing can be resumed any more.
                    true => self.world.wall_unix_ms() + self.rng.i64(-2_000..2_000),
                    false => self.rng.i64(-1_000_000..4_000_000_000_000),
                };
                self.world.oracle.coverage.mark("wall clock jumps");
                self.world.set_wall_clock(unix_ms);
            }
            _ => {
                if let Some(index) = self.any_alive() {
                    self.world.wake(index);
                }
            }
        }
        match self.rng.u8(0..10) {
            0..3 => {}
            3..5 => self.world.poll_one(),
            5..7 => {
                self.world.poll_woken();
            }
            _ => self.world.settle(),
        }
    }

    /// A client connects, and mostly registers.
    fn connect(&mut self) {
        let alive_max = self.limits.connections_max as usize + 3;
        if self.world.oracle.is_closing() || self.world.alive() >= alive_max {
            return;
        }
        let index = self.connect_peer();
        if self.rng.u8(0..8) == 0 {
            return; // This one registers late or never.
        }
        let first = if self.rng.u8(0..12) == 0 {
            self.any_input(index)
        } else {
            self.register()
        };
        self.world.send(index, &first);
    }

    /// A client comes back: its connection was cut, or it believes so.
    fn come_back(&mut self) {
        let alive_max = self.limits.connections_max as usize + 3;
        let count = self.world.kept.len();
        if count == 0 || self.world.oracle.is_closing() || self.world.alive() >= alive_max {
            return;
        }
        let kept = self.rng.usize(0..count);
        let before = self.world.kept[kept].link;
        if self.world.links[before].is_usable() {
            match self.rng.u8(0..4) {
                0 => self.fault_of(before, "resets"),
                1 => self.fault_of(before, "closes"),
                // It stays open, as when a network is gone.
                _ => self.world.links[before].behavior.is_reading &= self.rng.bool(),
            }
        }
        let index = self.connect_peer();
        self.world.links[index].kept = Some(kept);
        let register = self.resume(kept);
        self.world.send(index, &register);
        if self.rng.u8(0..4) == 0 {
            return;
        }
        // CHAT-RES-16, without waiting for Registered.
        for chat in self.world.oracle.unanswered(before) {
            self.world.send(index, &chat);
        }
    }

    /// Connects a client with a random behavior; returns its index.
    fn connect_peer(&mut self) -> usize {
        let rng = &mut self.rng;
        let behavior = Behavior {
            is_reading: rng.u8(0..6) > 0,
            delivers_at_once: rng.u8(0..4) > 0,
            answers_pings: rng.bool(),
            closes_after_server: rng.u8(0..5) > 0,
        };
        let capacities: &[usize] = match self.theme {
            Theme::Bulk => &[20_000, 100_000, 1 << 20],
            Theme::Chatter => &[1_000, 20_000],
            _ => &[1, 7, 60, 300, 4_000, 100_000],
        };
        let capacity_bytes = rng.choice(capacities.iter().copied()).unwrap_or(1);
        let has_short_io = self.theme != Theme::Bulk && rng.bool();
        let (address, address_key) = rng.choice(ADDRESSES).unwrap_or(ADDRESSES[0]);
        let address = address.parse().expect("an address");
        self.world.connect(
            behavior,
            capacity_bytes,
            has_short_io,
            (address, address_key),
        )
    }

    /// A client that can still do something.
    fn any_usable(&mut self) -> Option<usize> {
        let links = &self.world.links;
        let usable: Vec<_> = (0..links.len())
            .filter(|&index| links[index].is_usable())
            .collect();
        self.rng.choice(usable)
    }

    /// A connection that the server has not closed.
    fn any_alive(&mut self) -> Option<usize> {
        let links = &self.world.links;
        let alive: Vec<_> = (0..links.len())
            .filter(|&index| links[index].is_alive())
            .collect();
        self.rng.choice(alive)
    }

    /// Some bytes of a client arrive.
    fn deliver(&mut self) {
        if let Some(by) = self.any_usable() {
            let bytes = self.any_byte_count();
            self.world.deliver(by, bytes);
        }
    }

    /// A client reads some bytes.
    fn read(&mut self) {
        if let Some(by) = self.any_usable() {
            let bytes = self.any_byte_count();
            self.world.read(by, bytes);
        }
    }

    fn any_byte_count(&mut self) -> usize {
        match self.rng.u8(0..4) {
            0 => 1,
            1 => self.rng.usize(1..50),
            2 => self.rng.usize(50..20_000),
            _ => usize::MAX / 2,
        }
    }

    /// A client stops reading or reads again, or changes how it sends or answers.
    fn change_behavior(&mut self) {
        let Some(by) = self.any_usable() else {
            return;
        };
        let rng = &mut self.rng;
        let behavior = &mut self.world.links[by].behavior;
        match rng.u8(0..4) {
            0 | 1 => {
                behavior.is_reading = !behavior.is_reading;
                let what = if behavior.is_reading {
                    "reads again"
                } else {
                    "stalls"
                };
                self.world.oracle.coverage.mark(what);
            }
            2 => behavior.delivers_at_once = !behavior.delivers_at_once,
            _ => behavior.answers_pings = !behavior.answers_pings,
        }
        let behavior = &self.world.links[by].behavior;
        self.world
            .trace
            .line(format_args!("        {by} is now {behavior:?}"));
    }

    /// A connection breaks or ends, in one of four ways.
    fn fault(&mut self) {
        let Some(by) = self.any_usable() else {
            return;
        };
        let what = self
            .rng
            .choice(["half-closes", "half-closes early", "closes", "resets"])
            .unwrap_or("resets");
        self.fault_of(by, what);
    }

    fn fault_of(&mut self, by: usize, what: &'static str) {
        self.world.trace.line(format_args!("        {by} {what}"));
        self.world.oracle.coverage.mark(what);
        let link = &mut self.world.links[by];
        let mut pipe = link.pipe.borrow_mut();
        match what {
            "half-closes" => pipe.half_close(),
            "half-closes early" => pipe.half_close_early(),
            "closes" => {
                link.has_closed = true;
                pipe.close();
            }
            _ => {
                link.has_closed = true;
                pipe.reset();
            }
        }
    }

    /// The server begins to close; some clients connect in the same moment.
    fn begin_closing(&mut self) {
        self.world.begin_closing();
        for _ in 0..self.rng.usize(0..3) {
            let index = self.connect_peer();
            let register = self.register();
            self.world.send(index, &register);
        }
        self.world.oracle.coverage.mark("closes under way");
    }

    /// Perhaps all clients read everything that is left. Then the server closes.
    async fn finish(mut self) -> Coverage {
        if self.rng.bool() {
            self.world
                .trace
                .line(format_args!("all clients read and send at once"));
            for index in 0..self.world.links.len() {
                let link = &mut self.world.links[index];
                link.behavior.is_reading = true;
                link.behavior.delivers_at_once = true;
                if link.is_usable() {
                    self.world.deliver(index, usize::MAX / 2);
                }
            }
            let ms = self.rng.u64(1..3_000);
            self.world.pass(ms).await;
        }
        self.world.begin_closing();
        self.world.pass(CLOSING_GRACE_MS + TICK_MS).await;
        self.world.check_end()
    }
}
