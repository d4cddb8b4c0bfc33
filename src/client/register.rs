//! Register: the first messages of a connection, up to the server's answer.

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::FramedRead;

use super::codec::{ByteStream, Codec, CodecError, Halves, REGISTERING_BODY_BYTES_MAX};
use super::connect::Connector;
use super::connect_error::ConnectError;
use super::driver::Opened;
use crate::wire::{
    self, Capability, Challenge, ClientEnvelope, ErrorCode, Proof, Register, Registered, Resume,
    client_envelope, server_envelope,
};

/// What the envelope of a piece of a file takes beyond its bytes, at most
/// (CHAT-FRAME-12).
const PIECE_OVERHEAD_BYTES: u32 = 256;

impl Connector {
    /// Sends Register and waits for the answer.
    pub(super) async fn shake_hands(
        &self,
        mut halves: Halves<ByteStream>,
        name: &str,
        resume: Option<Resume>,
        filter: Option<wire::Filter>,
    ) -> Result<Opened, ConnectError> {
        let mut capabilities = self.capabilities.clone();
        if self.backoff.is_some() {
            // CHAT-RES-1
            for needed in [Capability::Receipts, Capability::Resume] {
                if !capabilities.contains(&needed) {
                    capabilities.push(needed);
                }
            }
        }
        let register = ClientEnvelope {
            // CHAT-REG-1
            message: Some(client_envelope::Message::Register(Register {
                name: name.to_owned(),
                capabilities: capabilities.iter().map(|&c| c.into()).collect(),
                // CHAT-ADM-6
                password: self
                    .password
                    .as_ref()
                    .map_or_else(String::new, |password| password.reveal().to_owned()),
                resume,
                key: self.key_bytes(),
                filter,
            })),
        };
        // The server would refuse the frame, and could not say that the name is the
        // reason.
        if prost::Message::encoded_len(&register) > REGISTERING_BODY_BYTES_MAX as usize {
            return Err(ConnectError::Refused {
                code: ErrorCode::NameInvalid,
                detail: String::new(),
                retry_after_ms: 0,
            });
        }
        let deadline = Instant::now() + self.timeout;
        // A full server sends its error and closes without reading. The error can be
        // read even if the write fails.
        let written = timeout_at(deadline, halves.writer.send(register)).await;
        if written.is_err() {
            return Err(ConnectError::Silent);
        }
        let registered = timeout_at(deadline, self.answer(&mut halves, name))
            .await
            .map_err(|_| ConnectError::Silent)??;
        let limits = registered.limits.unwrap_or_default();
        let has_files = registered.capabilities.contains(&Capability::Files.into());
        let piece_bytes_max = limits
            .file_chunk_bytes_max
            .saturating_add(PIECE_OVERHEAD_BYTES);
        let frame_bytes_max = match has_files {
            true => limits.frame_bytes_max.max(piece_bytes_max), // CHAT-FRAME-12
            false => limits.frame_bytes_max,
        };
        halves.reader.decoder_mut().registered(frame_bytes_max);
        Ok((halves, registered))
    }

    /// Waits for the answer to Register, with or without a Challenge before it
    /// (CHAT-ID-14), and sends nothing but the proof until it arrives (CHAT-REG-10).
    async fn answer(
        &self,
        halves: &mut Halves<ByteStream>,
        name: &str,
    ) -> Result<Registered, ConnectError> {
        let mut has_proved = false;
        loop {
            match next_answer(&mut halves.reader).await? {
                Answer::Registered(registered) => return Ok(*registered),
                // One is all that a server may ask for (CHAT-ID-2).
                Answer::Challenge(_) if has_proved => {}
                Answer::Challenge(challenge) => {
                    let Some(proof) = self.prove(&challenge, name) else {
                        continue;
                    };
                    has_proved = true;
                    let message = Some(client_envelope::Message::Proof(proof));
                    // The server's reason can be read even if the write fails.
                    let _ = halves.writer.send(ClientEnvelope { message }).await;
                }
            }
        }
    }

    /// The public key in Register; empty if there is none.
    #[cfg(feature = "keys")]
    fn key_bytes(&self) -> Vec<u8> {
        let key = self.key.as_ref();
        key.map_or_else(Vec::new, |key| key.public().as_bytes().to_vec())
    }

    /// None.
    #[cfg(not(feature = "keys"))]
    fn key_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Answers a Challenge (CHAT-ID-13).
    #[cfg(feature = "keys")]
    fn prove(&self, challenge: &Challenge, name: &str) -> Option<Proof> {
        self.key.as_ref()?.prove(challenge, name)
    }

    /// Without a key nothing was to be proved.
    #[cfg(not(feature = "keys"))]
    fn prove(&self, _: &Challenge, _: &str) -> Option<Proof> {
        None
    }
}

/// What a server answers to a Register that it does not refuse.
enum Answer {
    Registered(Box<Registered>),
    Challenge(Challenge),
}

/// Waits for the next answer.
async fn next_answer<R>(reader: &mut FramedRead<R, Codec>) -> Result<Answer, ConnectError>
where
    R: AsyncRead + Unpin,
{
    use server_envelope::Message;
    loop {
        let envelope = match reader.next().await {
            None => return Err(ConnectError::Closed),
            Some(Err(CodecError::Io(error))) => return Err(ConnectError::Lost(error)),
            Some(Err(CodecError::Frame(_) | CodecError::Body)) => {
                return Err(ConnectError::NotChat);
            }
            Some(Ok(envelope)) => envelope,
        };
        match envelope.message {
            Some(Message::Registered(registered)) => {
                return Ok(Answer::Registered(Box::new(registered)));
            }
            Some(Message::Challenge(challenge)) => return Ok(Answer::Challenge(challenge)),
            Some(Message::Error(error)) if error.ends_session => {
                return Err(ConnectError::Refused {
                    code: error.code(),
                    detail: error.detail,
                    retry_after_ms: error.retry_after_ms,
                });
            }
            Some(Message::ServerClosing(closing)) => {
                return Err(ConnectError::ServerClosed {
                    detail: closing.detail,
                    retry_after_ms: closing.retry_after_ms,
                });
            }
            // CHAT-GROW-2, and messages without a meaning before Registered.
            _ => {}
        }
    }
}
