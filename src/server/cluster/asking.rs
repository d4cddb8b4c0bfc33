//! Asking: what one node asks of others over NATS, beside the order, and how they answer.

use std::{future::Future, time::Duration};

use async_nats::{Client, Message as Received, Request, Subscriber};
use futures_util::{StreamExt as _, stream};
use prost::Message;
use tracing::{debug, warn};

/// How the subjects begin that answers go to.
const INBOX: &str = "_INBOX.";

/// The first answer, if one comes in time.
pub(super) async fn ask<Answer: Message + Default>(
    client: &Client,
    subject: String,
    asked: &impl Message,
    wait_ms: u64,
) -> Option<Answer> {
    let request = Request::new()
        .payload(asked.encode_to_vec().into())
        .timeout(Some(Duration::from_millis(wait_ms)));
    let answer = client.send_request(subject, request).await;
    let answer = answer.inspect_err(|error| debug!("no node has answered: {error}"));
    Answer::decode(answer.ok()?.payload).ok()
}

/// Answers other nodes, one after another, so that what is answered is in memory once. Where
/// there is no answer, another node may have one: silence.
pub(super) async fn answer<Asked: Message + Default, Answer: Message, Found>(
    client: &Client,
    asked: [Subscriber; 2],
    mut find: impl FnMut(Asked) -> Found,
) where
    Found: Future<Output = Option<Answer>>,
{
    let mut asked = stream::select_all(asked);
    while let Some(Received { reply, payload, .. }) = asked.next().await {
        // Not where somebody else would take an answer for something of theirs.
        let reply = reply.filter(|reply| reply.starts_with(INBOX));
        let Some((reply, asked)) = reply.zip(Asked::decode(payload).ok()) else {
            warn!("another program writes to this node over NATS");
            continue;
        };
        let Some(answer) = find(asked).await else {
            continue;
        };
        let published = client.publish(reply, answer.encode_to_vec().into()).await;
        if published.is_err() || client.flush().await.is_err() {
            debug!("NATS did not take an answer");
        }
    }
}
