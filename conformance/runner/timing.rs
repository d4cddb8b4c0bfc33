//! Timing: every deadline and pause of the suite. `--timeout-scale` multiplies each of
//! them, and a wait for an answer is longer by the time that the network takes.

use std::time::Duration;

/// How long a step waits for the message it expects.
const STEP: Duration = Duration::from_secs(3);

/// How much longer a step waits for a client: it is started anew in every case, and may
/// be an interpreter.
const CLIENT_STEP_FACTOR: u32 = 3;

/// How many round trips a step may take: a connection is opened, a message goes out,
/// its effect reaches another connection, and that one's answer comes back.
const STEP_ROUND_TRIPS: u32 = 4;

/// How long a whole case may take, not counting round trips and waits that are part of
/// the case.
const CASE: Duration = Duration::from_secs(30);

/// How long a command may take until it says where it listens. It may be an interpreter
/// on a busy machine.
const START: Duration = Duration::from_secs(20);

/// How long a server that is told to end may take (CHAT-CLOSE-3).
const SHUTDOWN: Duration = Duration::from_secs(5);

/// How long the suite waits for a member that leaves at the end of a case.
const LEAVE: Duration = Duration::from_millis(500);

/// How long after the close of its connections a dying process may still run.
const DEATH: Duration = Duration::from_millis(500);

/// How long after a program's end the rest of its error output is waited for.
const ERROR_OUTPUT: Duration = Duration::from_secs(2);

/// How long the end of a case waits for messages that are on their way.
const REST: Duration = Duration::from_millis(2);

/// The pause between two attempts at a name that is about to be free.
const RETRY: Duration = Duration::from_millis(10);

/// The pause before a case is played again.
const AGAIN: Duration = Duration::from_millis(100);

/// The pauses before a case is played again for which a server has no room: it has not seen
/// yet that connections were closed.
const NO_ROOM: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
];

/// The pause between the pieces of a cut frame, so that they arrive apart.
const PIECE: Duration = Duration::from_micros(300);

/// How long after a deadline the bytes that arrived before it are still read.
const OVERTIME: Duration = Duration::from_secs(1);

/// How long a message that must have arrived before a step may still take.
const BY_NOW: Duration = Duration::from_millis(100);

/// The shortest time within which a step demands a message: machines pause.
const WITHIN_MIN: Duration = Duration::from_millis(300);

/// How far the time of a chat may differ from the clock of the suite: for a server on
/// this machine, and for one elsewhere, whose clock may be wrong by hours but not by
/// units.
pub const OWN_CLOCK_SLACK: Duration = Duration::from_secs(60);
pub const OTHER_CLOCK_SLACK: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How much longer than planned a silence of the suite may last before the machine
/// counts as too busy for the case.
const OVERSLEPT: Duration = Duration::from_millis(100);

/// How much sooner than announced a deadline may strike, in percent, before it counts
/// as too early: clocks and queues are not exact.
const EARLY_PERCENT: u32 = 15;

/// How much later than announced a deadline may strike, in percent and besides, before it
/// counts as too late: less than half of the shortest deadline that a run waits for.
const LATE_PERCENT: u32 = 25;
const LATE: Duration = Duration::from_millis(150);

/// How many round trips a limit must leave room for, where a case answers within it.
const LIMIT_ROUND_TRIPS: u32 = 4;

/// For how long a round trip one more case is played at a time: with it, a run over a round
/// trip of 100 ms takes about as long as one next to the server.
pub const ROUND_TRIP_PER_JOB: Duration = Duration::from_millis(10);

/// The limits within which a client must send something, each with the code of the error
/// that ends it if it does not.
pub const ANSWERED_WITHIN: [(&str, Option<&str>); 4] = [
    ("register_deadline_ms", Some("REGISTER_TIMEOUT")),
    ("keepalive_interval_ms", None),
    ("idle_deadline_ms", Some("IDLE_TIMEOUT")),
    ("name_check_deadline_ms", None),
];

/// How long a server remembers a new connection from an address.
pub const MINUTE: Duration = Duration::from_secs(60);

/// For how long a slow answer shows that the target is slow.
pub const SLOW_ANSWER_COUNTS: Duration = Duration::from_secs(30);

/// The pause between two looks at a process or a listener. No verdict depends on it.
pub const POLL: Duration = Duration::from_millis(2);

/// The same while a line of output is waited for.
pub const LINE_POLL: Duration = Duration::from_millis(20);

/// The shortest wait for bytes: zero would be a wait without an end.
pub const READ_TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The deadlines and pauses of a run.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    scale: f64,
    round_trip: Duration,
}

impl Timing {
    /// With this `--timeout-scale`, next to the target.
    pub fn new(scale: f64) -> Self {
        Self {
            scale,
            round_trip: Duration::ZERO,
        }
    }

    /// The same over a network with this round trip.
    pub fn over(self, round_trip: Duration) -> Self {
        Self { round_trip, ..self }
    }

    /// How long a message and its answer take at least.
    pub fn round_trip(self) -> Duration {
        self.round_trip
    }

    fn scaled(self, duration: Duration) -> Duration {
        duration.mul_f64(self.scale)
    }

    /// How long a step waits for the message it expects.
    pub fn step(self) -> Duration {
        self.scaled(STEP) + self.round_trip * STEP_ROUND_TRIPS
    }

    /// How long an answer takes that shows a step to be too short for this target.
    pub fn slow_answer(self) -> Duration {
        self.step() / 2
    }

    /// How long a step waits for a client.
    pub fn client_step(self) -> Duration {
        self.step() * CLIENT_STEP_FACTOR
    }

    /// How long a whole case may take.
    pub fn case(self) -> Duration {
        self.scaled(CASE)
    }

    /// How long a command may take until it says where it listens.
    pub fn start(self) -> Duration {
        self.scaled(START)
    }

    /// How long a server that is told to end may take. The schema sets this bound, so a
    /// scale below 1 leaves it alone.
    pub fn shutdown(self) -> Duration {
        SHUTDOWN.mul_f64(self.scale.max(1.0)) + self.round_trip
    }

    /// How long the suite waits for a member that leaves at the end of a case.
    pub fn leave(self) -> Duration {
        self.scaled(LEAVE) + self.round_trip
    }

    /// How long a dying process may still run.
    pub fn death(self) -> Duration {
        self.scaled(DEATH)
    }

    /// How long the error output of a program that has ended is waited for.
    pub fn error_output(self) -> Duration {
        self.scaled(ERROR_OUTPUT)
    }

    /// How long the end of a case waits for messages that are on their way.
    pub fn rest(self) -> Duration {
        self.scaled(REST) + self.round_trip
    }

    /// The pause between two attempts at a name.
    pub fn retry(self) -> Duration {
        self.scaled(RETRY)
    }

    /// The pause before a case is played again.
    pub fn again(self) -> Duration {
        self.scaled(AGAIN) + self.round_trip
    }

    /// The pause after so many plays for which the server had no room; None: no more.
    pub fn no_room(self, plays: usize) -> Option<Duration> {
        let pause = NO_ROOM.get(plays)?;
        Some(self.scaled(*pause) + self.round_trip)
    }

    /// The latest time at which a deadline of the server strikes, after it has begun.
    pub fn latest(self, limit: Duration) -> Duration {
        limit * (100 + LATE_PERCENT) / 100 + self.scaled(LATE) + self.round_trip * 2
    }

    /// The pause between the pieces of a cut frame.
    pub fn piece(self) -> Duration {
        self.scaled(PIECE)
    }

    /// How long a message that must have arrived before a step may still take.
    pub fn by_now(self) -> Duration {
        self.scaled(BY_NOW) + self.round_trip
    }

    /// How long a step waits that demands a message within a limit of the server.
    pub fn within(self, limit: Duration) -> Duration {
        limit.max(self.scaled(WITHIN_MIN)) + self.round_trip * STEP_ROUND_TRIPS
    }

    /// How long after a deadline the bytes that arrived before it are still read.
    pub fn overtime(self) -> Duration {
        self.scaled(OVERTIME)
    }

    /// A pause of a transcript: of a limit that the server announced exactly as long as
    /// that, and otherwise as long as everything that was sent needs to arrive.
    pub fn silence(self, ms: u64, is_limit: bool) -> Duration {
        let pause = Duration::from_millis(ms);
        match is_limit {
            true => pause,
            false => self.scaled(pause) + self.round_trip,
        }
    }

    /// Whether a pause took so much longer than planned that the suite itself is late.
    pub fn is_overslept(self, planned: Duration, elapsed: Duration) -> bool {
        elapsed > planned + planned / 10 + self.scaled(OVERSLEPT)
    }

    /// Whether the suite cannot answer within a limit of the server, which is so if the
    /// network takes too large a part of it.
    pub fn is_too_far_for(self, limit: Duration) -> bool {
        self.round_trip * LIMIT_ROUND_TRIPS > limit
    }
}

/// How much sooner than `limit` a deadline of the server may strike.
pub fn earliest(limit: Duration) -> Duration {
    limit * (100 - EARLY_PERCENT) / 100
}

/// A limit in milliseconds that a server announced.
pub fn announced(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
