//! Asking: what one node asks of others over NATS, beside the order, and how they answer.

use std::{future::Future, time::Duration};

use async_nats::{Client, Message as Received, Request, SubscribeError, Subscriber};
use futures_util::{StreamExt as _, stream};
use prost::Message;
use tracing::{debug, warn};

use super::nats::is_name;

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

/// The answer of the node of that name, if one comes in time. Names come from other nodes:
/// what can be no name is asked nothing.
pub(super) async fn ask_node<Answer: Message + Default>(
    client: &Client,
    subject: &str,
    node: &str,
    asked: &impl Message,
    wait_ms: u64,
) -> Option<Answer> {
    if !is_name(node) {
        return None;
    }
    ask(client, format!("{subject}.{node}"), asked, wait_ms).await
}

/// Listens to what is asked of all nodes, and of the node of that name.
pub(super) async fn listen(
    client: &Client,
    subject: &str,
    node: &str,
) -> Result<[Subscriber; 2], SubscribeError> {
    Ok([
        client.subscribe(subject.to_owned()).await?,
        client.subscribe(format!("{subject}.{node}")).await?,
    ])
}

/// Why something cannot go between nodes, told once: the same words again and again would
/// fill the log.
pub(super) struct Troubles {
    what: &'static str,
    last_words: String,
}

impl Troubles {
    /// `what` cannot go, if anything.
    pub(super) fn of(what: &'static str) -> Self {
        Self {
            what,
            last_words: String::new(),
        }
    }

    /// It went until now, or could not.
    pub(super) fn tell(&mut self, ended: Result<(), String>) {
        let words = ended.err().unwrap_or_default();
        if words != self.last_words && !words.is_empty() {
            warn!("{} cannot go between nodes: {words}", self.what);
        }
        self.last_words = words;
    }
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
        // Elsewhere somebody could take it for a message of another kind.
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
