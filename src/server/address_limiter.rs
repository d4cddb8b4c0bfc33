//! Address limiter: how many connections one network address may have, and how fast it
//! may make them (CHAT-REG-11, CHAT-REG-12), over all transports together. Pure:
//! addresses and the time go in, permits come out.
//!
//! One address is an IPv4 address, or the first 64 bits of an IPv6 address, which is
//! the least that a household is given. Connections from the machine itself are not
//! counted, unless [`Limits::is_loopback_limited`]: they may come from everywhere,
//! through a proxy or a tunnel that ends here.

use std::collections::BTreeMap;

use core::net::IpAddr;

use crate::{
    limits::{Limits, Rate},
    session::AddressLimit,
    token_bucket::TokenBucket,
};

/// How many addresses without a connection are remembered for how fast they came.
/// Beyond that, those whose time is up are forgotten, and all of them if that does
/// not help: this limit does not stop an attacker with so many addresses anyway.
const IDLE_ADDRESSES_MAX: usize = 16_384;

const MINUTE_MS: u32 = 60_000;

/// An address, as far as it is told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AddressKey {
    V4(u32),
    V6Prefix(u64),
}

/// What is known of one address.
#[derive(Debug, Default)]
struct AddressState {
    connections: u32,
    arrivals: TokenBucket,
}

/// Counts connections by address. Bounded by the connections that there are and
/// [`IDLE_ADDRESSES_MAX`].
#[derive(Debug)]
pub(super) struct AddressLimiter {
    connections_max: Option<u32>,
    arrivals: Option<Rate>,
    is_loopback_limited: bool,
    known: BTreeMap<AddressKey, AddressState>,
    /// How many of the known have no connection.
    idle: usize,
}

/// The place of one connection among those from its address, to be given back with
/// [`AddressLimiter::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Permit(Option<AddressKey>);

impl Permit {
    /// The permit of a connection that is not counted.
    pub(super) const UNCOUNTED: Self = Self(None);

    /// Whether its connection is counted. With the address that is all that must be kept.
    pub(super) fn is_counted(&self) -> bool {
        self.0.is_some()
    }

    /// The permit of a connection from `address` that is counted.
    pub(super) fn counted(address: IpAddr) -> Self {
        Self(Some(AddressKey::of(address)))
    }
}

impl AddressKey {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6Prefix((address.to_bits() >> 64) as u64),
        }
    }
}

impl AddressLimiter {
    pub(super) fn new(limits: &Limits) -> Self {
        let mut limiter = Self {
            connections_max: None,
            arrivals: None,
            is_loopback_limited: false,
            known: BTreeMap::new(),
            idle: 0,
        };
        limiter.set_limits(limits);
        limiter
    }

    /// Limits the connections that come from now on.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.connections_max = limits.connections_per_address_max;
        self.arrivals = limits.connections_per_minute_max.map(|count| Rate {
            burst: count,
            interval_ms: MINUTE_MS.div_ceil(count),
        });
        self.is_loopback_limited = limits.is_loopback_limited;
    }

    /// Gives a permit to a connection from `address`, or says which limit is exceeded.
    /// An address that connects too fast does not make its wait longer by that.
    pub(super) fn acquire(&mut self, now_ms: u64, address: IpAddr) -> Result<Permit, AddressLimit> {
        let is_exempt = address.to_canonical().is_loopback() && !self.is_loopback_limited;
        if is_exempt || (self.connections_max.is_none() && self.arrivals.is_none()) {
            return Ok(Permit::UNCOUNTED);
        }
        let source = AddressKey::of(address);
        let known = self.known.entry(source).or_insert_with(|| {
            self.idle += 1;
            AddressState::default()
        });
        if self
            .connections_max
            .is_some_and(|most| known.connections >= most)
        {
            return Err(AddressLimit::Concurrent);
        }
        if let Some(rate) = self.arrivals {
            let interval_ms = u64::from(rate.interval_ms);
            let capacity_ms = interval_ms * u64::from(rate.burst);
            if let Err(wait_ms) = known.arrivals.take(now_ms, interval_ms, capacity_ms) {
                // Never more than one interval, which is a u32.
                let retry_after_ms = u32::try_from(wait_ms).unwrap_or(u32::MAX);
                return Err(AddressLimit::Rate { retry_after_ms });
            }
        }
        if known.connections == 0 {
            self.idle -= 1;
        }
        known.connections += 1;
        Ok(Permit(Some(source)))
    }

    /// Takes back the permit of a connection that is gone.
    pub(super) fn release(&mut self, now_ms: u64, permit: Permit) {
        let Permit(Some(source)) = permit else {
            return;
        };
        if let Some(known) = self.known.get_mut(&source) {
            known.connections -= 1;
            if known.connections == 0 {
                self.idle += 1;
                self.forget(now_ms);
            }
        }
    }

    /// Keeps the idle addresses within their bound. Amortized O(1): at least
    /// IDLE_ADDRESSES_MAX / 2 new addresses arrive between two sweeps.
    fn forget(&mut self, now_ms: u64) {
        if self.idle <= IDLE_ADDRESSES_MAX {
            return;
        }
        self.known
            .retain(|_, known| known.connections > 0 || !known.arrivals.is_full(now_ms));
        let idle = |known: &&AddressState| known.connections == 0;
        self.idle = self.known.values().filter(idle).count();
        if self.idle > IDLE_ADDRESSES_MAX / 2 {
            self.known.retain(|_, known| known.connections > 0);
            self.idle = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(concurrent_max: Option<u32>, per_minute_max: Option<u32>) -> AddressLimiter {
        AddressLimiter::new(&Limits {
            connections_per_address_max: concurrent_max,
            connections_per_minute_max: per_minute_max,
            ..Limits::default()
        })
    }

    impl AddressLimiter {
        fn try_acquire(&mut self, now_ms: u64, address: &str) -> Result<Permit, AddressLimit> {
            self.acquire(now_ms, address.parse().expect("an address"))
        }
    }

    const FULL: Result<Permit, AddressLimit> = Err(AddressLimit::Concurrent);

    #[test]
    fn an_address_has_so_many_connections_at_the_same_time() {
        let mut limiter = limiter(Some(2), None);
        let first = limiter.try_acquire(0, "192.0.2.1").expect("a permit");
        let _second = limiter.try_acquire(0, "192.0.2.1").expect("a permit");
        assert_eq!(limiter.try_acquire(0, "192.0.2.1"), FULL);
        // The same address, written as IPv6; and another one.
        assert_eq!(limiter.try_acquire(0, "::ffff:192.0.2.1"), FULL);
        assert!(limiter.try_acquire(0, "192.0.2.2").is_ok());
        limiter.release(0, first);
        // A connection without a permit is not counted, and leaves nothing behind.
        limiter.release(0, Permit::UNCOUNTED);
        assert!(limiter.try_acquire(0, "192.0.2.1").is_ok());
        assert_eq!(limiter.try_acquire(0, "192.0.2.1"), FULL);
    }

    #[test]
    fn an_ipv6_address_is_its_first_64_bits() {
        let mut limiter = limiter(Some(1), None);
        assert!(limiter.try_acquire(0, "2001:db8:0:1::1").is_ok());
        assert_eq!(limiter.try_acquire(0, "2001:db8:0:1:ffff::2"), FULL);
        assert!(limiter.try_acquire(0, "2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn an_address_makes_so_many_connections_a_minute() {
        let mut limiter = limiter(None, Some(6));
        for _ in 0..6 {
            let permit = limiter.try_acquire(0, "192.0.2.1").expect("a permit");
            limiter.release(0, permit);
        }
        let wait = |retry_after_ms| Err(AddressLimit::Rate { retry_after_ms });
        assert_eq!(limiter.try_acquire(0, "192.0.2.1"), wait(10_000));
        assert_eq!(limiter.try_acquire(4_000, "192.0.2.1"), wait(6_000));
        assert!(limiter.try_acquire(4_000, "192.0.2.2").is_ok());
        assert!(limiter.try_acquire(10_000, "192.0.2.1").is_ok());
        assert_eq!(limiter.try_acquire(10_000, "192.0.2.1"), wait(10_000));
    }

    #[test]
    fn the_machine_itself_is_not_counted_unless_asked_for() {
        let mut limiter = limiter(Some(1), Some(1));
        for _ in 0..10 {
            for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
                let permit = limiter.try_acquire(0, address);
                assert_eq!(permit, Ok(Permit::UNCOUNTED));
            }
        }
        assert_eq!(limiter.known.len(), 0);
        limiter.is_loopback_limited = true;
        assert!(limiter.try_acquire(0, "127.0.0.1").is_ok());
        assert_eq!(limiter.try_acquire(0, "127.0.0.1"), FULL);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut limiter = limiter(Some(1), Some(1));
        let held = "198.51.100.1";
        assert!(limiter.try_acquire(0, held).is_ok());
        let mut most = 0;
        for number in 0..100_000 {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            // A tenth of them come while others may be forgotten already.
            let now_ms = u64::from(number / 10);
            let permit = limiter.acquire(now_ms, address).expect("a permit");
            limiter.release(now_ms, permit);
            most = most.max(limiter.known.len());
        }
        let idle = limiter
            .known
            .values()
            .filter(|known| known.connections == 0);
        assert_eq!(limiter.idle, idle.count());
        assert!(most <= IDLE_ADDRESSES_MAX + 2, "{most}");
        assert!(most > IDLE_ADDRESSES_MAX, "{most}");
        // An address with a connection is not forgotten.
        assert_eq!(limiter.try_acquire(0, held), FULL);
    }
}
