//! How many connections one network address may have, and how fast it may make
//! them (CHAT-REG-11, CHAT-REG-12). Pure: addresses and the time go in, a judgement
//! comes out.
//!
//! What is one address: an IPv4 address, or the first 64 bits of an IPv6 address,
//! which is the least that a household is given. Connections from the machine
//! itself are not counted, unless [`Limits::is_loopback_limited`]: they may come
//! from everywhere, through a proxy or a tunnel that ends here.

use std::collections::BTreeMap;

use core::net::IpAddr;

use crate::{
    engine::{AddressLimit, Bucket},
    limits::{Limits, Rate},
};

/// How many addresses without a connection are remembered for how fast they came.
/// Beyond that, those whose time is up are forgotten, and all of them if that does
/// not help: who has so many addresses is not held up by this limit anyway.
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
    arrivals: Bucket,
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
    /// Where the connections come from, by their index; as long as the highest
    /// index that is counted.
    seated: Vec<Option<AddressKey>>,
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
        Self {
            connections_max: limits.connections_per_address_max,
            arrivals: limits.connections_per_minute_max.map(|count| Rate {
                burst: count,
                interval_ms: MINUTE_MS.div_ceil(count),
            }),
            is_loopback_limited: limits.is_loopback_limited,
            known: BTreeMap::new(),
            idle: 0,
            seated: Vec::new(),
        }
    }

    /// Lets the connection `index` in, which comes from `address`, or says why not.
    /// Who is not let in for coming too fast does not make its wait longer.
    pub(super) fn acquire(
        &mut self,
        now_ms: u64,
        index: usize,
        address: IpAddr,
    ) -> Result<(), AddressLimit> {
        let is_exempt = address.to_canonical().is_loopback() && !self.is_loopback_limited;
        if is_exempt || (self.connections_max.is_none() && self.arrivals.is_none()) {
            return Ok(());
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
        if let Some(rate) = self.arrivals
            && let Err(retry_after_ms) = known.arrivals.take(now_ms, rate)
        {
            return Err(AddressLimit::Rate { retry_after_ms });
        }
        if known.connections == 0 {
            self.idle -= 1;
        }
        known.connections += 1;
        if self.seated.len() <= index {
            self.seated.resize(index + 1, None);
        }
        if let Some(seated) = self.seated.get_mut(index) {
            *seated = Some(source);
        }
        Ok(())
    }

    /// The connection `index` is gone.
    pub(super) fn release(&mut self, now_ms: u64, index: usize) {
        let Some(source) = self.seated.get_mut(index).and_then(Option::take) else {
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

    /// Keeps the idle addresses within their bound. What a round costs was paid for
    /// by the half of the bound that came since the last one.
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

    fn limiter(at_a_time: Option<u32>, a_minute: Option<u32>) -> AddressLimiter {
        AddressLimiter::new(&Limits {
            connections_per_address_max: at_a_time,
            connections_per_minute_max: a_minute,
            ..Limits::default()
        })
    }

    fn ip(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn so_many_at_a_time() {
        let mut limiter = limiter(Some(2), None);
        assert_eq!(limiter.acquire(0, 0, ip("192.0.2.1")), Ok(()));
        assert_eq!(limiter.acquire(0, 1, ip("192.0.2.1")), Ok(()));
        assert_eq!(
            limiter.acquire(0, 2, ip("192.0.2.1")),
            Err(AddressLimit::Concurrent)
        );
        // The same address, in the clothes of IPv6; and another one.
        let mapped = ip("::ffff:192.0.2.1");
        assert_eq!(limiter.acquire(0, 2, mapped), Err(AddressLimit::Concurrent));
        assert_eq!(limiter.acquire(0, 2, ip("192.0.2.2")), Ok(()));
        limiter.release(0, 0);
        // Whoever was not let in is not counted, and leaves nothing behind.
        limiter.release(0, 7);
        assert_eq!(limiter.acquire(0, 0, ip("192.0.2.1")), Ok(()));
        assert_eq!(
            limiter.acquire(0, 3, ip("192.0.2.1")),
            Err(AddressLimit::Concurrent)
        );
    }

    #[test]
    fn an_ipv6_address_is_its_first_64_bits() {
        let mut limiter = limiter(Some(1), None);
        assert_eq!(limiter.acquire(0, 0, ip("2001:db8:0:1::1")), Ok(()));
        let neighbour = ip("2001:db8:0:1:ffff::2");
        assert_eq!(
            limiter.acquire(0, 1, neighbour),
            Err(AddressLimit::Concurrent)
        );
        assert_eq!(limiter.acquire(0, 1, ip("2001:db8:0:2::1")), Ok(()));
    }

    #[test]
    fn so_many_a_minute() {
        let mut limiter = limiter(None, Some(6));
        for index in 0..6 {
            assert_eq!(limiter.acquire(0, index, ip("192.0.2.1")), Ok(()));
            limiter.release(0, index);
        }
        let refused = |wait_ms| {
            Err(AddressLimit::Rate {
                retry_after_ms: wait_ms,
            })
        };
        assert_eq!(limiter.acquire(0, 0, ip("192.0.2.1")), refused(10_000));
        assert_eq!(limiter.acquire(4_000, 0, ip("192.0.2.1")), refused(6_000));
        assert_eq!(limiter.acquire(4_000, 0, ip("192.0.2.2")), Ok(()));
        assert_eq!(limiter.acquire(10_000, 1, ip("192.0.2.1")), Ok(()));
        assert_eq!(limiter.acquire(10_000, 2, ip("192.0.2.1")), refused(10_000));
    }

    #[test]
    fn the_machine_itself_is_not_counted_unless_asked_for() {
        let mut limiter = limiter(Some(1), Some(1));
        for index in 0..10 {
            assert_eq!(limiter.acquire(0, index, ip("127.0.0.1")), Ok(()));
            assert_eq!(limiter.acquire(0, index, ip("::1")), Ok(()));
            assert_eq!(limiter.acquire(0, index, ip("::ffff:127.0.0.1")), Ok(()));
        }
        assert_eq!(limiter.known.len(), 0);
        limiter.is_loopback_limited = true;
        assert_eq!(limiter.acquire(0, 0, ip("127.0.0.1")), Ok(()));
        assert_eq!(
            limiter.acquire(0, 1, ip("127.0.0.1")),
            Err(AddressLimit::Concurrent)
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut limiter = limiter(Some(1), Some(1));
        let held = ip("198.51.100.1");
        assert_eq!(limiter.acquire(0, 0, held), Ok(()));
        let mut most = 0;
        for number in 0..100_000 {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            // A tenth of them come while others may be forgotten already.
            let now_ms = u64::from(number / 10);
            assert_eq!(limiter.acquire(now_ms, 1, address), Ok(()));
            limiter.release(now_ms, 1);
            most = most.max(limiter.known.len());
        }
        let idle = limiter
            .known
            .values()
            .filter(|known| known.connections == 0);
        assert_eq!(limiter.idle, idle.count());
        assert!(most <= IDLE_ADDRESSES_MAX + 2, "{most}");
        assert!(most > IDLE_ADDRESSES_MAX, "{most}");
        // Who is connected is not forgotten.
        assert_eq!(limiter.acquire(0, 1, held), Err(AddressLimit::Concurrent));
    }
}
