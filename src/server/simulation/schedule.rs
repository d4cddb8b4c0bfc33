//! What a seed makes happen, and when.

use fastrand::Rng;

use crate::{
    limits::{LAG_BYTES_FLOOR, Limits},
    password::Password,
    server::{CLOSING_GRACE_MS, slow_consumer::TICK_MS},
    wire::ErrorCode,
    {name::Name, session::AccessPolicy},
};

use super::{
    coverage::Coverage,
    sent::{Sent, asked},
    trace::Trace,
    world::{Manner, World},
};

/// Names that are fought for; some differ in case alone.
const WANTED: [&str; 6] = ["ann", "Ann", "ANN", "bob", "Bob", "carl"];

/// The password of a server that has one.
const PASSWORD: &str = "open sesame";

/// Where connections come from, with what is one address: the same number.
const ADDRESSES: [(&str, Option<u8>); 7] = [
    ("192.0.2.1", Some(1)),
    ("192.0.2.1", Some(1)),
    ("::ffff:192.0.2.1", Some(1)),
    ("192.0.2.2", Some(2)),
    ("2001:db8:0:1::1", Some(3)),
    ("2001:db8:0:1:ffff::2", Some(3)),
    // Not counted.
    ("127.0.0.1", None),
];

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Theme {
    /// A bit of everything, in small.
    Ordinary,
    /// Many members with long names and small frames.
    Crowd,
    /// Long texts, faster than they are read.
    Bulk,
    /// Replies that are not read.
    Chatter,
}

/// Runs the schedule of `seed` and checks all that happens.
///
/// # Panics
///
/// When something is not as it should be.
pub(super) async fn run(seed: u64, trace: Trace) -> Coverage {
    let mut rng = Rng::with_seed(seed);
    let theme = match rng.u8(0..32) {
        0 => Theme::Bulk,
        1..3 => Theme::Chatter,
        3..8 => Theme::Crowd,
        _ => Theme::Ordinary,
    };
    let limits = limits(theme, &mut rng);
    let is_closed = rng.u8(0..16) == 0;
    let is_listed = theme != Theme::Crowd && rng.u8(0..16) == 0;
    trace.line(format_args!("seed {seed}: {theme:?}, {limits:?}"));
    let mut schedule = Schedule {
        theme,
        world: World::new(
            limits.clone(),
            admission(is_closed, is_listed),
            rng.fork(),
            trace,
        ),
        limits,
        is_closed,
        is_listed,
        rng,
    };
    let steps = match theme {
        Theme::Bulk => schedule.rng.usize(20..100),
        Theme::Chatter => schedule.rng.usize(40..100),
        _ => schedule.rng.usize(20..280),
    };
    schedule.prologue().await;
    let close_at = schedule.rng.usize(0..steps * 2);
    for step in 0..steps {
        if step == close_at {
            schedule.close();
        }
        schedule.step().await;
    }
    schedule.end().await
}

/// Small limits, so that each of them is reached.
fn limits(theme: Theme, rng: &mut Rng) -> Limits {
    let idle_deadline_ms = rng.u32(300..4_000);
    let is_bulk = theme == Theme::Bulk;
    let frame_bytes_max = match theme {
        Theme::Bulk => 65_536,
        Theme::Crowd => rng.u32(300..400),
        _ => rng.u32(300..2_000),
    };
    let (chat_burst, chat_interval_ms) = if !is_bulk && rng.u8(0..4) > 0 {
        (rng.u32(1..8), Some(rng.u32(1..800)))
    } else {
        (1, None)
    };
    // The least that the rate allows, or somewhat more.
    let flood = |rng: &mut Rng, per_chat: u32, more: u32| {
        let least = (2_000 * per_chat).div_ceil(chat_interval_ms.unwrap_or(2_000));
        (!is_bulk && rng.u8(0..3) == 0).then(|| least + rng.u32(0..more))
    };
    Limits {
        connections_max: match theme {
            Theme::Crowd => rng.u32(8..24),
            Theme::Bulk => rng.u32(4..8),
            _ => rng.u32(2..8),
        },
        frame_bytes_max,
        text_bytes_max: (frame_bytes_max - 256)
            .min(rng.u32(30..120) + if is_bulk { 65_000 } else { 0 }),
        chat_burst,
        chat_interval_ms,
        register_deadline_ms: rng.u32(100..3_000),
        keepalive_interval_ms: rng.u32(1..idle_deadline_ms),
        idle_deadline_ms,
        write_deadline_ms: rng.u32(50..3_000) + if is_bulk { 3_000 } else { 0 },
        lag_bytes_max: LAG_BYTES_FLOOR,
        frames_per_second_max: flood(rng, 1, 10),
        bytes_per_second_max: flood(rng, frame_bytes_max, 2_000),
        errors_max: match theme {
            Theme::Chatter if rng.u8(0..4) > 0 => None,
            _ => (rng.u8(0..3) > 0).then(|| rng.u32(1..12)),
        },
        name_check_deadline_ms: rng.u32(50..1_500),
        // Only a member that does not read makes it grow so far: not much farther than
        // it may be behind, or it is closed for that first.
        queue_bytes_max: LAG_BYTES_FLOOR + if is_bulk { rng.u64(0..1 << 18) } else { 0 },
        connections_per_address_max: (rng.u8(0..4) == 0).then(|| rng.u32(1..5)),
        connections_per_minute_max: (rng.u8(0..4) == 0).then(|| rng.u32(1..20)),
        is_loopback_limited: false,
    }
}

/// Who may come in: whoever has the password, whoever is wanted.
fn admission(is_closed: bool, is_listed: bool) -> AccessPolicy {
    let names = || WANTED.iter().filter_map(|name| Name::parse(name).ok());
    AccessPolicy {
        password: Password::parse(PASSWORD).ok().filter(|_| is_closed),
        names: is_listed.then(|| names().collect()),
    }
}

struct Schedule {
    theme: Theme,
    limits: Limits,
    /// The server has a password.
    is_closed: bool,
    /// The server has a list of names.
    is_listed: bool,
    rng: Rng,
    world: World,
}

impl Schedule {
    /// What a theme needs to come to its point.
    async fn prologue(&mut self) {
        match self.theme {
            Theme::Crowd => {
                for _ in 0..self.rng.usize(0..16) {
                    self.connect();
                    self.world.settle();
                }
            }
            Theme::Bulk => {
                // One stalls while the others go on.
                for number in 0..4 {
                    let index = self.admit();
                    let sent = self.register();
                    self.world.links[index].manner.is_reading = number > 0;
                    self.world.links[index].manner.is_prompt = true;
                    self.world.send(index, &sent);
                }
                self.world.settle();
                for _ in 0..self.rng.usize(0..30) {
                    let chat = self.chat(3);
                    self.world.send(3, &chat);
                    self.world.pass(TICK_MS).await;
                }
                // What it takes then shows whether it misses something.
                self.world.links[0].manner.is_reading = self.rng.bool();
            }
            Theme::Ordinary | Theme::Chatter => {}
        }
    }

    /// One thing happens, and perhaps somebody notices.
    async fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..12 => self.connect(),
            12..55 => self.send(),
            55..63 => self.deliver(),
            63..70 => self.read(),
            70..76 => self.change_manner(),
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
                let unix_ms = self.rng.i64(-1_000_000..4_000_000_000_000);
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
            3..5 => self.world.advance_one(),
            5..7 => {
                self.world.round();
            }
            _ => self.world.settle(),
        }
    }

    fn connect(&mut self) {
        let places = self.limits.connections_max as usize + 3;
        if self.world.oracle.is_closing() || self.world.alive() >= places {
            return;
        }
        let index = self.admit();
        if self.rng.u8(0..8) == 0 {
            return; // It registers late or never.
        }
        let first = if self.rng.u8(0..12) == 0 {
            self.anything(index)
        } else {
            self.register()
        };
        self.world.send(index, &first);
    }

    fn admit(&mut self) -> usize {
        let rng = &mut self.rng;
        let manner = Manner {
            is_reading: rng.u8(0..6) > 0,
            is_prompt: rng.u8(0..4) > 0,
            answers: rng.bool(),
            closes: rng.u8(0..5) > 0,
        };
        let capacities: &[usize] = match self.theme {
            Theme::Bulk => &[20_000, 100_000, 1 << 20],
            Theme::Chatter => &[1_000, 20_000],
            _ => &[1, 7, 60, 300, 4_000, 100_000],
        };
        let capacity_bytes = rng.choice(capacities.iter().copied()).unwrap_or(1);
        let is_choppy = self.theme != Theme::Bulk && rng.bool();
        let (address, source) = rng.choice(ADDRESSES).unwrap_or(ADDRESSES[0]);
        let address = address.parse().expect("an address");
        self.world
            .connect(manner, capacity_bytes, is_choppy, (address, source))
    }

    /// A peer that can still do something: of those that came last, mostly.
    fn any_usable(&mut self) -> Option<usize> {
        let links = &self.world.links;
        let usable: Vec<_> = (0..links.len())
            .filter(|&index| links[index].is_usable())
            .collect();
        self.rng.choice(usable)
    }

    fn any_alive(&mut self) -> Option<usize> {
        let links = &self.world.links;
        let alive: Vec<_> = (0..links.len())
            .filter(|&index| links[index].is_alive())
            .collect();
        self.rng.choice(alive)
    }

    fn register(&mut self) -> Sent {
        let rng = &mut self.rng;
        let long = self.theme == Theme::Crowd && rng.u8(0..4) > 0;
        let kind = if long { 0 } else { rng.u8(0..12) };
        let (name, refusal) = match kind {
            0 => (
                format!("a-name-as-long-as-a-name-can-{:03}", rng.u16(0..1_000)),
                None,
            ),
            1 => ("not a name".to_owned(), Some(ErrorCode::NameInvalid)),
            2 => ("Server".to_owned(), Some(ErrorCode::NameReserved)),
            3..7 => (format!("n{}", rng.u8(0..20)), None),
            _ => (rng.choice(WANTED).unwrap_or("ann").to_owned(), None),
        };
        let is_wanted = WANTED.contains(&name.as_str());
        let refusal =
            refusal.or((self.is_listed && !is_wanted).then_some(ErrorCode::NameNotAllowed));
        let password = match rng.u8(0..8) {
            0 => String::new(),
            1 => "open sesame\0".to_owned(),
            _ => PASSWORD.to_owned(),
        };
        let is_wrong = self.is_closed && password != PASSWORD;
        Sent::Register {
            name,
            password,
            asked: asked(rng),
            // CHAT-ADM-2: the password first.
            refusal: is_wrong.then_some(ErrorCode::PasswordWrong).or(refusal),
        }
    }

    fn chat(&mut self, by: usize) -> Sent {
        let is_first = self.world.oracle.has_sent_nothing(by);
        let link = &mut self.world.links[by];
        link.chats += 1;
        let id = link.chats;
        let rng = &mut self.rng;
        // A first frame is to be refused for what it is, not for its length.
        let bytes_max = self
            .limits
            .text_bytes_max
            .min(if is_first { 900 } else { u32::MAX }) as usize;
        let mark = format!("{by}.{id} ");
        let (text, refusal) = match rng.u8(0..24) {
            0 => (String::new(), Some(ErrorCode::TextInvalid)),
            1 => (format!("{mark}\u{85}"), Some(ErrorCode::TextInvalid)),
            2 if bytes_max < 1_000 => ("x".repeat(bytes_max + 1), Some(ErrorCode::TextTooLong)),
            _ => {
                let is_long = self.theme == Theme::Bulk || rng.u8(0..4) == 0;
                let least = if is_long {
                    bytes_max * 9 / 10
                } else {
                    mark.len()
                };
                let bytes = rng.usize(least.max(mark.len())..=bytes_max.max(least).max(mark.len()));
                let filling = rng.choice(["x", "é", "\u{202e}", "🦀"]).unwrap_or("x");
                let rest = filling.repeat((bytes - mark.len()) / filling.len());
                (mark + &rest, None)
            }
        };
        Sent::Chat { id, text, refusal }
    }

    fn anything(&mut self, by: usize) -> Sent {
        let frame_bytes_max = u64::from(self.limits.frame_bytes_max);
        let is_first = self.world.oracle.has_sent_nothing(by);
        let rng = &mut self.rng;
        match rng.u8(0..40) {
            0..2 => self.register(),
            2..5 => Sent::Ping(rng.u64(..)),
            5..7 => Sent::Pong(rng.u64(..)),
            7..10 => {
                // An arm and fields that nobody knows yet.
                let bodies = [vec![], vec![0xfa, 0x3e, 0x01, b'x'], vec![0x80, 0x7d, 0x05]];
                Sent::Unknown(rng.choice(bodies).unwrap_or_default())
            }
            10 => Sent::Leave,
            11 => match rng.u8(0..4) {
                0 => Sent::Unparsable,
                1 => Sent::Unending,
                2 => Sent::TooLong(1 << 62),
                _ => Sent::TooLong(1 + if is_first { 1_024 } else { frame_bytes_max }),
            },
            _ => self.chat(by),
        }
    }

    fn send(&mut self) {
        let Some(by) = self.any_usable() else {
            return;
        };
        if self.world.oracle.has_sent_nothing(by) && self.rng.u8(0..4) > 0 {
            let register = self.register();
            return self.world.send(by, &register);
        }
        if self.theme == Theme::Chatter && self.rng.u8(0..4) == 0 {
            // Each of these makes a reply many times its size.
            for _ in 0..self.rng.usize(200..1_500) {
                self.world.send(by, &Sent::Unknown(Vec::new()));
            }
            return;
        }
        let count = match self.rng.u8(0..8) {
            0 if self.theme == Theme::Bulk => 8,
            0 => self.rng.usize(5..30),
            1..4 => self.rng.usize(2..5),
            _ => 1,
        };
        for _ in 0..count {
            let sent = self.anything(by);
            self.world.send(by, &sent);
        }
    }

    fn deliver(&mut self) {
        if let Some(by) = self.any_usable() {
            let bytes = self.some_bytes();
            self.world.deliver(by, bytes);
        }
    }

    fn read(&mut self) {
        if let Some(by) = self.any_usable() {
            let bytes = self.some_bytes();
            self.world.read(by, bytes);
        }
    }

    fn some_bytes(&mut self) -> usize {
        match self.rng.u8(0..4) {
            0 => 1,
            1 => self.rng.usize(1..50),
            2 => self.rng.usize(50..20_000),
            _ => usize::MAX / 2,
        }
    }

    /// Somebody stalls, goes on, becomes rude or polite.
    fn change_manner(&mut self) {
        let Some(by) = self.any_usable() else {
            return;
        };
        let rng = &mut self.rng;
        let manner = &mut self.world.links[by].manner;
        match rng.u8(0..4) {
            0 | 1 => {
                manner.is_reading = !manner.is_reading;
                let what = if manner.is_reading {
                    "reads again"
                } else {
                    "stalls"
                };
                self.world.oracle.coverage.mark(what);
            }
            2 => manner.is_prompt = !manner.is_prompt,
            _ => manner.answers = !manner.answers,
        }
        let manner = manner_of(&self.world, by);
        self.world
            .trace
            .line(format_args!("        {by} is now {manner:?}"));
    }

    fn fault(&mut self) {
        let Some(by) = self.any_usable() else {
            return;
        };
        let what = self
            .rng
            .choice(["half-closes", "is cut short", "closes", "resets"])
            .unwrap_or("resets");
        self.world.trace.line(format_args!("        {by} {what}"));
        self.world.oracle.coverage.mark(what);
        let link = &mut self.world.links[by];
        let mut wire = link.wire.borrow_mut();
        match what {
            "half-closes" => wire.half_close(),
            "is cut short" => wire.cut_short(),
            "closes" => {
                link.has_left = true;
                wire.close();
            }
            _ => {
                link.has_left = true;
                wire.reset();
            }
        }
    }

    /// The server closes; some come in the same moment.
    fn close(&mut self) {
        self.world.close();
        for _ in 0..self.rng.usize(0..3) {
            let index = self.admit();
            let register = self.register();
            self.world.send(index, &register);
        }
        self.world.oracle.coverage.mark("closes under way");
    }

    /// Everybody may read what is left; then the server closes, if it has not.
    async fn end(mut self) -> Coverage {
        if self.rng.bool() {
            self.world.trace.line(format_args!("everybody calms down"));
            for index in 0..self.world.links.len() {
                let link = &mut self.world.links[index];
                link.manner.is_reading = true;
                link.manner.is_prompt = true;
                if link.is_usable() {
                    self.world.deliver(index, usize::MAX / 2);
                }
            }
            let ms = self.rng.u64(1..3_000);
            self.world.pass(ms).await;
        }
        self.world.close();
        self.world.pass(CLOSING_GRACE_MS + TICK_MS).await;
        self.world.check_end()
    }
}

fn manner_of(world: &World, of: usize) -> Manner {
    world.links[of].manner.clone()
}
