//! Identity: asks a client that has a key for the proof, and keeps a name for the key
//! that owns it (CHAT-ID).
//!
//! ```text
//!  Register with a key ──▶ Challenge ──▶ Proof ──▶ admitted, as a Register without a key
//! ```
//!
//! The nonce comes from the caller. Checking a signature needs neither chance nor a
//! clock, so it happens here; the room is only told the key.

use crate::{
    identity::{Nonce, PublicKey, signed_bytes},
    name::Name,
    room::{JoinKey, Ownership},
    wire::{self, ClientEnvelope, client_envelope::Message as Sent, server_envelope::Message},
};

use super::{
    Context, Event, Sessions, State, envelope,
    pending::{PendingProof, PendingRegister},
    rejection::{self, Rejection},
};

impl Sessions {
    /// The key of a Register, and what to sign to prove it; `None` without a key, and
    /// where there is no nonce to be had (CHAT-ID-1, CHAT-ID-3).
    pub(super) fn key_to_prove(
        &self,
        register: &wire::Register,
    ) -> Result<Option<(PublicKey, Nonce)>, Rejection> {
        if register.key.is_empty() {
            return Ok(None);
        }
        let Some(nonce) = (self.offer.fresh_nonce)() else {
            return Ok(None);
        };
        // CHAT-ID-4
        let key = PublicKey::from_bytes(&register.key).ok_or_else(rejection::key_invalid)?;
        Ok(Some((key, nonce)))
    }

    /// Asks for the proof (CHAT-ID-2).
    pub(super) fn challenge(
        &mut self,
        context: &mut Context<'_>,
        register: PendingRegister,
        nonce: Nonce,
    ) {
        context.reply(envelope(Message::Challenge(wire::Challenge {
            nonce: nonce.to_vec(),
            epoch: context.room.epoch().to_owned(),
        })));
        if let Some(state) = self.states.get_mut(context.id.0) {
            *state = State::AwaitingProof(Box::new(PendingProof { nonce, register }));
        }
    }

    pub(super) fn handle_awaiting_proof(&mut self, context: &mut Context<'_>, event: Event) {
        let Some(State::AwaitingProof(pending)) = self.states.get(context.id.0) else {
            return;
        };
        match event {
            Event::Message(ClientEnvelope {
                message: Some(Sent::Proof(proof)),
            }) => {
                let PendingProof { nonce, register } = &**pending;
                let signed = signed_bytes(nonce, context.room.epoch(), register.name.as_str());
                let is_right = register
                    .key
                    .is_some_and(|key| key.has_signed(&signed, &proof.signature));
                match is_right {
                    true => self.admit(context, register.clone()),
                    false => self.end_with(context, rejection::proof_wrong()), // CHAT-ID-5
                }
            }
            // CHAT-ID-6
            Event::Message(_) => self.end_with(context, rejection::proof_expected()),
            // CHAT-REG-5
            Event::Tick { reads_drained, .. } => {
                let since_ms = pending.register.since_ms;
                if reads_drained && self.register_is_late(context.now.elapsed_ms, since_ms) {
                    let deadline_ms = self.limits.register_deadline_ms;
                    self.end_with(context, rejection::register_timeout(deadline_ms));
                }
            }
            event => self.handle_stream(context, event),
        }
    }

    /// Checks that no other key owns a name (CHAT-ID-8).
    pub(super) fn check_owner(
        &self,
        context: &Context<'_>,
        name: &Name,
        key: Option<PublicKey>,
    ) -> Result<(), Rejection> {
        match self.owner(context, name) {
            Some(owner) if key != Some(owner) => Err(rejection::name_owned(name, key.is_some())),
            _ => Ok(()),
        }
    }

    /// The key that owns a name (CHAT-ID-10). The operator's word comes first.
    pub(super) fn owner(&self, context: &Context<'_>, name: &Name) -> Option<PublicKey> {
        let named = self.access.owners.get(name).copied();
        named.or_else(|| context.room.owner(name, context.now.unix_ms))
    }

    /// What the room is told of the proved key of a new member.
    pub(super) fn join_key(&self, name: &Name, key: PublicKey) -> JoinKey {
        let ownership = match self.access.owners.contains_key(name) {
            true => Ownership::Operator,
            false if self.access.first_proof_owns => Ownership::FirstProof,
            false => Ownership::Known,
        };
        JoinKey { key, ownership }
    }
}
