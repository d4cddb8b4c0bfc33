//! The operator: what it does, and when.

use super::Schedule;

/// How many texts it removes at most: each ends a segment of the log, of which the past
/// has few.
const REMOVALS_MAX: usize = 2;

impl Schedule {
    /// The operator does something.
    pub(super) fn operate(&mut self) {
        let Some(name) = self.any_good_name() else {
            return;
        };
        let coverage = &mut self.world.oracle.coverage;
        match self.rng.u8(0..15) {
            0 | 1 => self.world.kick(&name),
            2 | 3 => self.world.ban(&name),
            4 | 5 => self.world.unban(&name),
            6 | 7 => self.world.mute(&name, true),
            8 => self.world.mute(&name, false),
            9 => {
                coverage.mark("operator speaks");
                self.world.say("the operator speaks");
            }
            _ => {
                let seq = self.world.oracle.seq();
                if seq > 0 && self.removals < REMOVALS_MAX {
                    self.removals += 1;
                    let seq = self.rng.u64(1..=seq);
                    self.world.remove(seq);
                }
            }
        }
    }

    /// A name for which somebody has registered, or could.
    fn any_good_name(&mut self) -> Option<String> {
        let names = self.world.oracle.names().into_iter();
        let names = names.filter(|name| crate::name::Name::parse(name).is_ok());
        let names: Vec<_> = names.collect();
        self.rng.choice(names)
    }
}
