//! Identity: Ed25519 keys, what a client signs to prove that it has one, and what others
//! see of it (CHAT-ID). Pure: a signature is checked here, the random nonce comes from
//! the caller.

use std::fmt;

/// The length of a public key, in bytes (CHAT-ID-4).
pub const KEY_BYTES: usize = 32;

/// The length of a nonce, in bytes (CHAT-ID-2): too many to come twice.
pub const NONCE_BYTES: usize = 32;

/// The length of a [`SenderId`], in bytes (CHAT-ID-12): too many to find a key with the
/// same one.
pub const SENDER_ID_BYTES: usize = 16;

/// What the signed bytes begin with, so that they are no other statement.
const TAG: &[u8] = b"chat.v1 proof\0";

/// What a Challenge asks to sign: random bytes.
pub type Nonce = [u8; NONCE_BYTES];

/// The public key of a client: what Register carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// The key in these bytes; `None` if they have another length (CHAT-ID-4). Whether
    /// they are a point on the curve shows with the first proof.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// The bytes of Register.key.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Reads what [`fmt::Display`] writes: 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// Whether `signature` proves this key (CHAT-ID-5).
    #[cfg(feature = "keys")]
    pub fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(signed, signature)
            .is_ok()
    }

    /// What others see of it (CHAT-ID-12).
    #[cfg(feature = "keys")]
    pub fn sender_id(&self) -> SenderId {
        use aws_lc_rs::digest::{SHA256, digest};
        let hash = digest(&SHA256, &self.0);
        let mut id = [0; SENDER_ID_BYTES];
        for (byte, hashed) in id.iter_mut().zip(hash.as_ref()) {
            *byte = *hashed;
        }
        SenderId(id)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What others see of a client's key: the first bytes of its hash (CHAT-ID-12).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SenderId([u8; SENDER_ID_BYTES]);

impl SenderId {
    /// How many digits a person is shown where there is little space.
    const SHORT_DIGITS: usize = 6;

    /// The id in Chat.sender_id; `None` if it has another length, or is absent.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// The bytes of Chat.sender_id.
    pub fn as_bytes(&self) -> &[u8; SENDER_ID_BYTES] {
        &self.0
    }

    /// Reads what [`fmt::Display`] writes: 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// Its first digits: enough to tell the members of a room apart at a glance.
    pub fn short(&self) -> String {
        let digits = self.to_string();
        digits.chars().take(Self::SHORT_DIGITS).collect()
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a client signs to prove its key (CHAT-ID-5).
pub fn signed_bytes(nonce: &[u8], epoch: &str, name: &str) -> Vec<u8> {
    // An epoch has 1 to 64 bytes.
    let epoch_length = u8::try_from(epoch.len()).unwrap_or(u8::MAX);
    let parts: [&[u8]; 5] = [
        TAG,
        nonce,
        &[epoch_length],
        epoch.as_bytes(),
        name.as_bytes(),
    ];
    parts.concat()
}

/// The bytes of so many digits, upper or lower case.
fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let [high, low] = *pair;
        // Two digits are at most 255.
        *byte = (digit(high)? * 16 + digit(low)?) as u8;
    }
    Some(bytes)
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(all(test, feature = "keys"))]
mod tests {
    use super::*;

    /// Test 1 of RFC 8032, 7.1.
    const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    const SIGNATURE: &str = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

    /// The first digits of what `sha256sum` says of the bytes of that key.
    const SENDER_ID: &str = "21fe31dfa154a261626bf854046fd227";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    }

    #[test]
    fn a_signature_holds_for_its_key_and_its_bytes_only() {
        let key = PublicKey::parse(KEY).expect("64 digits");
        let signature = bytes(SIGNATURE);
        assert!(key.has_signed(b"", &signature));
        assert!(!key.has_signed(b"x", &signature));
        for length in 0..signature.len() {
            assert!(!key.has_signed(b"", &signature[..length]));
        }
        let longer = [&signature[..], &[0]].concat();
        assert!(!key.has_signed(b"", &longer));
        for weak in [[0; KEY_BYTES], [0xff; KEY_BYTES]] {
            assert!(!PublicKey(weak).has_signed(b"", &signature));
        }
    }

    #[test]
    fn a_key_is_written_as_it_is_read() {
        let key = PublicKey::parse(KEY).expect("64 digits");
        assert_eq!(key.to_string(), KEY);
        assert_eq!(PublicKey::from_bytes(&bytes(KEY)), Some(key));
        for wrong in [
            "",
            "d7",
            &KEY[1..],
            &format!("{KEY}0"),
            &KEY.replace('d', "é"),
        ] {
            assert_eq!(PublicKey::parse(wrong), None, "{wrong}");
        }
        for length in [0, 1, 31, 33, 64] {
            assert_eq!(PublicKey::from_bytes(&vec![7; length]), None);
        }
    }

    #[test]
    fn the_id_of_a_sender_is_the_beginning_of_the_hash_of_its_key() {
        let key = PublicKey::parse(KEY).expect("64 digits");
        let id = key.sender_id();
        assert_eq!(id.to_string(), SENDER_ID);
        assert_eq!(id.short(), &SENDER_ID[..6]);
        assert_eq!(SenderId::from_bytes(id.as_bytes()), Some(id));
        assert_eq!(SenderId::parse(SENDER_ID), Some(id));
        assert_eq!(SenderId::from_bytes(&[]), None);
    }

    #[test]
    fn the_parts_of_what_is_signed_cannot_be_moved() {
        let nonce = [7; NONCE_BYTES];
        let signed = signed_bytes(&nonce, "ep", "Alice");
        assert_eq!(signed[..14], *b"chat.v1 proof\0");
        assert_eq!(signed[46..], *b"\x02epAlice");
        assert_ne!(signed, signed_bytes(&nonce, "epA", "lice"));
    }
}
