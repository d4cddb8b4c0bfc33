//! Keys: the Ed25519 keys of the people of a case, their proofs, and the check of a proof
//! by a client under test (CHAT-ID).

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Makes the keys of the suite unlike all others.
const SECRET_TAG: &str = "chat-conformance test key of ";

/// What is signed begins so (CHAT-ID-5).
const TAG: &[u8] = b"chat.v1 proof\0";

/// The bytes of an id of a sender (CHAT-ID-12).
const SENDER_ID_BYTES: usize = 16;

/// What a proof signs, beside the tag.
pub struct Signed<'a> {
    /// Challenge.nonce, in base64.
    pub nonce: &'a str,
    /// Challenge.epoch.
    pub epoch: &'a str,
    /// Register.name.
    pub name: &'a str,
}

impl Signed<'_> {
    fn bytes(&self) -> Result<Vec<u8>, String> {
        let nonce = decode(self.nonce)?;
        let length = u8::try_from(self.epoch.len()).map_err(|_| "the epoch is too long")?;
        let parts: [&[u8]; 5] = [
            TAG,
            &nonce,
            &[length],
            self.epoch.as_bytes(),
            self.name.as_bytes(),
        ];
        Ok(parts.concat())
    }
}

/// The key of a person: always the same, and known to all who read this.
fn pair(person: &str) -> Result<Ed25519KeyPair, String> {
    let secret = digest(&SHA256, format!("{SECRET_TAG}{person}").as_bytes());
    Ed25519KeyPair::from_seed_unchecked(secret.as_ref()).map_err(|error| error.to_string())
}

/// The public key of a person, in base64.
pub fn public(person: &str) -> Result<String, String> {
    Ok(STANDARD.encode(pair(person)?.public_key()))
}

/// What other members see of it, in base64 (CHAT-ID-12).
pub fn sender_id(person: &str) -> Result<String, String> {
    let hash = digest(&SHA256, pair(person)?.public_key().as_ref());
    let id = hash.as_ref().get(..SENDER_ID_BYTES);
    Ok(STANDARD.encode(id.unwrap_or_default()))
}

/// The proof by a person's key, in base64.
pub fn proof(person: &str, signed: &Signed<'_>) -> Result<String, String> {
    let signature = pair(person)?.try_sign(&signed.bytes()?);
    let signature = signature.map_err(|error| error.to_string())?;
    Ok(STANDARD.encode(signature.as_ref()))
}

/// Whether a signature is the proof by the key, both in base64.
pub fn is_proof(key: &str, signed: &Signed<'_>, signature: &str) -> Result<bool, String> {
    let (Ok(key), Ok(signature)) = (decode(key), decode(signature)) else {
        return Ok(false);
    };
    let key = UnparsedPublicKey::new(&ED25519, key);
    Ok(key.verify(&signed.bytes()?, &signature).is_ok())
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|error| format!("{text:?} is no base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_one_for_what_it_signs() {
        let signed = |name| Signed {
            nonce: "AAEC",
            epoch: "e",
            name,
        };
        let proof = proof("alice", &signed("Alice")).unwrap();
        let key = public("alice").unwrap();
        assert_eq!(is_proof(&key, &signed("Alice"), &proof), Ok(true));
        assert_eq!(is_proof(&key, &signed("alice"), &proof), Ok(false));
        assert_eq!(is_proof(&key, &signed("Alice"), &key), Ok(false));
        let other = public("bob").unwrap();
        assert_eq!(is_proof(&other, &signed("Alice"), &proof), Ok(false));
        assert_eq!(is_proof("é", &signed("Alice"), &proof), Ok(false));
        assert_eq!(
            signed("A").bytes().unwrap(),
            b"chat.v1 proof\0\x00\x01\x02\x01eA"
        );
        assert_ne!(sender_id("alice"), sender_id("bob"));
    }
}
