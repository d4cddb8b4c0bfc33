//! Key: the Ed25519 key pair with which a client proves that its name is its own
//! (CHAT-ID).

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use crate::{
    identity::{KEY_BYTES, NONCE_BYTES, PublicKey, SenderId, signed_bytes},
    wire::{Challenge, Proof},
};

/// What the line of a key file begins with.
const HEAD: &str = "chat-secret-key";

/// A key pair. Whoever has it can be its owner on every server: it belongs into a file
/// that nobody else can read.
#[derive(Clone)]
pub struct Key {
    secret: [u8; KEY_BYTES],
    public: PublicKey,
    pair: Arc<Ed25519KeyPair>,
}

impl Key {
    /// A new key; `None` if the system has no randomness to make it of.
    pub fn generate() -> Option<Self> {
        let mut secret = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        Self::from_secret(secret)
    }

    /// The key pair of a secret: the 32 bytes that RFC 8032 calls the private key.
    pub fn from_secret(secret: [u8; KEY_BYTES]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&secret).ok()?;
        let public = PublicKey::from_bytes(pair.public_key().as_ref())?;
        Some(Self {
            secret,
            public,
            pair: Arc::new(pair),
        })
    }

    /// Reads what [`Key::to_text`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (Some(HEAD), Some(digits), None) = (words.next(), words.next(), words.next()) else {
            return None;
        };
        // The same 64 digits.
        Self::from_secret(*PublicKey::parse(digits)?.as_bytes())
    }

    /// A line for a file that nobody else can read.
    pub fn to_text(&self) -> String {
        let digits: String = self.secret.iter().map(|it| format!("{it:02x}")).collect();
        format!("{HEAD} {digits}\n")
    }

    /// The half that servers are told.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// What the other members see of it (CHAT-ID-12).
    pub fn sender_id(&self) -> SenderId {
        self.public.sender_id()
    }

    /// Answers a Challenge (CHAT-ID-13); `None` if it asks to sign what none does.
    pub fn prove(&self, challenge: &Challenge, name: &str) -> Option<Proof> {
        if challenge.nonce.len() != NONCE_BYTES {
            return None;
        }
        let signed = signed_bytes(&challenge.nonce, &challenge.epoch, name);
        let signature = self.pair.try_sign(&signed).ok()?;
        Some(Proof {
            signature: signature.as_ref().to_vec(),
        })
    }
}

/// Without the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.public).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_what_it_writes_and_shows_no_secret() {
        let key = Key::generate().expect("randomness");
        let again = Key::parse(&key.to_text()).expect("a key");
        assert_eq!(again.public(), key.public());
        let other = Key::generate().expect("randomness");
        assert_ne!(other.public(), key.public());
        let digits = key
            .to_text()
            .split(' ')
            .nth(1)
            .expect("digits")
            .trim()
            .to_owned();
        assert!(!format!("{key:?}").contains(&digits));
        for wrong in [
            "",
            HEAD,
            &digits,
            &format!("{HEAD} {digits} x"),
            &format!("{HEAD} {}", &digits[1..]),
            &format!("other {digits}"),
        ] {
            assert!(Key::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_proof_holds_for_its_challenge_alone() {
        let key = Key::from_secret([7; KEY_BYTES]).expect("a key");
        let challenge = |nonce: &[u8]| Challenge {
            nonce: nonce.to_vec(),
            epoch: "e".to_owned(),
        };
        let proof = key
            .prove(&challenge(&[1; NONCE_BYTES]), "Alice")
            .expect("32 bytes");
        let signed = |nonce: u8, epoch, name| signed_bytes(&[nonce; NONCE_BYTES], epoch, name);
        let proves = |signed: &[u8]| key.public().has_signed(signed, &proof.signature);
        assert!(proves(&signed(1, "e", "Alice")));
        assert!(!proves(&signed(2, "e", "Alice")));
        assert!(!proves(&signed(1, "f", "Alice")));
        assert!(!proves(&signed(1, "e", "alice")));
        for length in [0, 31, 33, 64] {
            assert!(key.prove(&challenge(&vec![1; length]), "Alice").is_none());
        }
    }
}
