//! Bans: names and network addresses that are kept out, each for a time or for ever. The
//! mutes of members are such a list too.

use std::{collections::BTreeMap, fmt};

use core::net::{IpAddr, Ipv6Addr};

use crate::{name::Name, text};

/// The longest reason, in bytes: with the sentence around it, it fits into the smallest
/// frame that can be configured.
pub const REASON_BYTES_MAX: usize = 120;

/// The most bans of one list: those of a large public server, in a few megabytes.
pub const BANS_MAX: usize = 100_000;

/// How many bits of an IPv6 address a household is given at least.
const HOUSEHOLD_BITS: u8 = 64;

/// How many bits an IPv6 address has before an IPv4 address that is written in one.
const V4_PREFIX_BITS: u8 = 96;

/// A range of network addresses. IPv4 addresses are kept as the IPv6 addresses that they
/// are mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    prefix_bits: u8,
    bits: u128,
}

impl Network {
    /// Reads an address or a range: `203.0.113.7`, `203.0.113.0/24`, `2001:db8::/32`. An
    /// IPv6 address alone stands for its /64. `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let mut address: IpAddr = address.parse().ok()?;
        if prefix.is_none() {
            address = address.to_canonical();
        }
        let (bits_max, bits_alone) = match address {
            IpAddr::V4(_) => (32, 32),
            IpAddr::V6(_) => (128, HOUSEHOLD_BITS),
        };
        let prefix = prefix.unwrap_or(bits_alone);
        if prefix > bits_max {
            return None;
        }
        let prefix_bits = match address {
            IpAddr::V4(_) => V4_PREFIX_BITS + prefix,
            IpAddr::V6(_) => prefix,
        };
        Some(Self::of(mapped(address), prefix_bits))
    }

    /// The household of an address: an IPv4 address, or the /64 of an IPv6 address.
    pub fn household(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self::of(mapped(v4), 128),
            v6 @ IpAddr::V6(_) => Self::of(mapped(v6), HOUSEHOLD_BITS),
        }
    }

    /// Whether an address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        self.prefix_bits >= prefix_bits_min(address)
            && Self::of(mapped(address), self.prefix_bits) == self
    }

    fn of(bits: u128, prefix_bits: u8) -> Self {
        let host_bits = 128_u32.saturating_sub(prefix_bits.into());
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Self {
            prefix_bits,
            bits: bits & mask,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from_bits(self.bits);
        match address.to_ipv4_mapped() {
            Some(v4) if self.prefix_bits == 128 => write!(f, "{v4}"),
            Some(v4) if self.prefix_bits >= V4_PREFIX_BITS => {
                write!(f, "{v4}/{}", self.prefix_bits - V4_PREFIX_BITS)
            }
            _ => write!(f, "{address}/{}", self.prefix_bits),
        }
    }
}

/// The shortest prefix of the ranges that can hold an address: `::/0` holds no IPv4
/// address.
fn prefix_bits_min(address: IpAddr) -> u8 {
    match address.to_canonical() {
        IpAddr::V4(_) => V4_PREFIX_BITS,
        IpAddr::V6(_) => 0,
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Whom or what a ban keeps out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A name, in any case.
    Name(Name),
    /// Everybody from a range of addresses.
    Network(Network),
}

impl Target {
    /// Reads a name, an address or a range. `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        match Network::parse(text) {
            Some(network) => Some(Self::Network(network)),
            None => Name::parse(text).ok().map(Self::Name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// Why an operator acts on somebody, in words for people; it may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// Takes words of one line, at most [`REASON_BYTES_MAX`] long.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub fn parse(words: &str) -> Result<Self, String> {
        let words = words.trim();
        if words.len() > REASON_BYTES_MAX {
            return Err(format!(
                "the reason is longer than {REASON_BYTES_MAX} bytes, write less"
            ));
        }
        match words.chars().any(text::is_forbidden) {
            true => Err("the reason holds a line break or control character".to_owned()),
            false => Ok(Self(words.to_owned())),
        }
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// When it ends, in milliseconds since 1970-01-01T00:00:00Z; `None`: never.
    pub until_unix_ms: Option<i64>,
    /// Why, for the banned to read.
    pub reason: Reason,
}

impl Ban {
    /// Whether it lasts.
    pub fn lasts(&self, now_unix_ms: i64) -> bool {
        self.until_unix_ms.is_none_or(|until| now_unix_ms < until)
    }
}

/// A list of bans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bans {
    names: BTreeMap<Name, Ban>,
    networks: BTreeMap<Network, Ban>,
}

impl Bans {
    /// Adds a ban, or replaces the one of the same target. `false` if the list is full.
    #[must_use]
    pub fn insert(&mut self, target: Target, ban: Ban) -> bool {
        if self.len() >= BANS_MAX {
            return false;
        }
        match target {
            Target::Name(name) => self.names.insert(name, ban),
            Target::Network(network) => self.networks.insert(network, ban),
        };
        true
    }

    /// Takes a ban away. `false` if there is none.
    pub fn remove(&mut self, target: &Target) -> bool {
        match target {
            Target::Name(name) => self.names.remove(name).is_some(),
            Target::Network(network) => self.networks.remove(network).is_some(),
        }
    }

    /// Whether a target is on the list.
    pub fn contains(&self, target: &Target) -> bool {
        match target {
            Target::Name(name) => self.names.contains_key(name),
            Target::Network(network) => self.networks.contains_key(network),
        }
    }

    /// Drops those that are over.
    pub fn drop_expired(&mut self, now_unix_ms: i64) {
        self.names.retain(|_, ban| ban.lasts(now_unix_ms));
        self.networks.retain(|_, ban| ban.lasts(now_unix_ms));
    }

    /// The ban of a name.
    pub fn of_name(&self, name: &Name, now_unix_ms: i64) -> Option<&Ban> {
        let ban = self.names.get(name);
        ban.filter(|ban| ban.lasts(now_unix_ms))
    }

    /// A ban of an address.
    pub fn of_address(&self, address: IpAddr, now_unix_ms: i64) -> Option<&Ban> {
        let mut prefix_bits = 128;
        // Each turn looks up one length of a range and goes on with the next shorter one
        // of which there are some, so at most 129 times.
        loop {
            let wanted = Network::of(mapped(address), prefix_bits);
            let ban = self.networks.get(&wanted);
            if let Some(ban) = ban.filter(|ban| ban.lasts(now_unix_ms)) {
                return Some(ban);
            }
            let shorter = Network {
                prefix_bits,
                bits: 0,
            };
            let (next, _) = self.networks.range(..shorter).next_back()?;
            prefix_bits = next.prefix_bits;
            if prefix_bits < prefix_bits_min(address) {
                return None;
            }
        }
    }

    /// All of them, names first.
    pub fn iter(&self) -> impl Iterator<Item = (Target, &Ban)> {
        let names = self.names.iter();
        let names = names.map(|(name, ban)| (Target::Name(name.clone()), ban));
        let networks = self.networks.iter();
        names.chain(networks.map(|(&network, ban)| (Target::Network(network), ban)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len() + self.networks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(until_unix_ms: Option<i64>) -> Ban {
        Ban {
            until_unix_ms,
            reason: Reason::default(),
        }
    }

    fn network(text: &str) -> Network {
        Network::parse(text).expect("a range")
    }

    #[test]
    fn ranges_are_read_and_written_alike() {
        for (text, shown) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7/32", "203.0.113.7"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::7", "2001:db8::/64"),
            ("2001:db8::7/128", "2001:db8::7/128"),
            ("2001:db8::7/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            let read = network(text);
            assert_eq!(read.to_string(), shown);
            assert_eq!(network(shown), read, "{shown}");
        }
        for text in [
            "",
            "alice",
            "203.0.113",
            "203.0.113.7/33",
            "::1/129",
            "1.2.3.4/x",
        ] {
            assert_eq!(Network::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_address_is_found_in_every_range_that_has_it() {
        for (range, inside, outside) in [
            ("203.0.113.0/24", "203.0.113.200", "203.0.114.1"),
            ("203.0.113.7", "::ffff:203.0.113.7", "203.0.113.8"),
            ("0.0.0.0/0", "198.51.100.1", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"),
            ("::/0", "2001:db8::1", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ] {
            let mut bans = Bans::default();
            // Others do not hide it.
            for other in [
                "192.0.2.1",
                "192.0.2.0/25",
                "2001:db9::/48",
                "2001:db9::1/128",
            ] {
                assert!(bans.insert(Target::Network(network(other)), ban(None)));
            }
            assert!(bans.insert(Target::Network(network(range)), ban(None)));
            let found = |text: &str| bans.of_address(text.parse().expect("an address"), 0);
            assert!(found(inside).is_some(), "{inside} in {range}");
            assert!(found(outside).is_none(), "{outside} in {range}");
        }
    }

    #[test]
    fn a_ban_ends_with_its_time_and_hides_no_longer_one() {
        let mut bans = Bans::default();
        let address = "203.0.113.7".parse().expect("an address");
        assert!(bans.insert(Target::Network(network("203.0.113.7")), ban(Some(10))));
        assert!(bans.insert(Target::Network(network("203.0.113.0/24")), ban(Some(20))));
        let name = Name::parse("Alice").expect("a name");
        assert!(bans.insert(Target::Name(name.clone()), ban(Some(10))));
        let found = |now| (bans.of_address(address, now), bans.of_name(&name, now));
        assert!(matches!(found(9), (Some(_), Some(_))));
        assert!(matches!(found(10), (Some(_), None)));
        assert!(matches!(found(20), (None, None)));
        bans.drop_expired(10);
        assert_eq!(bans.len(), 1);
        assert!(bans.remove(&Target::Network(network("203.0.113.9/24"))));
        assert!(!bans.remove(&Target::Network(network("203.0.113.9/24"))));
        assert!(bans.is_empty());
    }

    #[test]
    fn a_name_that_is_an_address_is_an_address() {
        let name = Name::parse("alice").expect("a name");
        assert_eq!(Target::parse("ALICE"), Some(Target::Name(name)));
        let address = Target::Network(network("192.0.2.1"));
        assert_eq!(Target::parse("192.0.2.1"), Some(address));
        assert_eq!(Target::parse("a b"), None);
        assert_eq!(Target::parse("server"), None);
    }
}
