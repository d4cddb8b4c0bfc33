//! Commands: carries out what an operator asks for, and logs it.

use std::{sync::Arc, time::Duration};

use tokio::{task, time::timeout};
use tracing::{info, warn};

use super::{
    Control,
    protocol::{
        Answer, BANS_LISTED_MAX, Code, ListedBan, MEMBERS_MAX, Member, Request, Stats, Yes,
    },
};
use crate::{
    name::Name,
    server::{
        hub::{operator::ListedMember, unix_ms},
        kept_bans::KeptBans,
    },
    session::{BANS_MAX, Ban, Operated, Operation, Reason, Target},
    text::{Text, TextError},
};

/// How long a removal may wait for the disk before the operator is told so, in
/// milliseconds.
const REMOVED_MS_MAX: u64 = 5_000;

/// The longest time of a ban or a mute, in milliseconds: a hundred years. A date far beyond
/// it cannot be written.
const BAN_MS_MAX: u64 = 36_525 * 86_400_000;

/// Carries out a request.
pub(super) async fn carry_out(request: Request, control: &Control) -> Answer {
    let answer = match request {
        Request::List { after } => list(after.as_deref(), control),
        Request::Kick { name, reason } => kick(&name, &reason, control).await,
        Request::Ban {
            target,
            time_ms,
            address,
            reason,
        } => ban(&target, time_ms, address, &reason, control).await,
        Request::Unban { target } => unban(&target, control).await,
        Request::Mute {
            name,
            time_ms,
            reason,
        } => mute(&name, time_ms, &reason, control).await,
        Request::Unmute { name } => unmute(&name, control).await,
        Request::Bans => Ok(bans(control)),
        Request::Remove { seq } => remove(seq, control).await,
        Request::Say { text } => say(text, control).await,
        Request::Reload => reload(control).await,
        Request::Drain { back_in_ms } => {
            info!(back_in_ms, "the operator asks the server to close");
            control.hub.request_close(back_in_ms);
            Ok(Answer::done())
        }
        Request::Stats => Ok(stats(control)),
    };
    answer.unwrap_or_else(|refused| refused)
}

fn invalid(sentence: impl Into<String>) -> Answer {
    Answer::refused(Code::Invalid, sentence)
}

fn name(text: &str) -> Result<Name, Answer> {
    Name::parse(text).map_err(|_| {
        invalid(format!(
            "{text:?} is no name: 1 to 32 ASCII letters, digits, '.', '_' or '-'"
        ))
    })
}

fn nobody(name: &Name) -> Answer {
    Answer::refused(Code::NotFound, format!("no member has the name {name}"))
}

fn list(after: Option<&str>, control: &Control) -> Result<Answer, Answer> {
    let after = after.map(name).transpose()?;
    // One more than fits shows that there are more.
    let mut listed = control.hub.list(after.as_ref(), MEMBERS_MAX + 1);
    let more = listed.len() > MEMBERS_MAX;
    listed.truncate(MEMBERS_MAX);
    Ok(Answer::Members {
        ok: Yes,
        members: listed.into_iter().map(member).collect(),
        more,
    })
}

fn member(listed: ListedMember) -> Member {
    let ListedMember {
        member,
        peer,
        queue_bytes,
    } = listed;
    Member {
        name: member.name.as_str().to_owned(),
        address: peer
            .and_then(|peer| peer.address())
            .map(|it| it.to_string()),
        since_unix_ms: member.since_unix_ms,
        idle_ms: member.idle_ms,
        queue_bytes,
        messages: member.chats,
        elsewhere: member.is_elsewhere,
    }
}

/// Has an operation carried out, at once or by all nodes of a cluster.
async fn operate(operation: Operation, control: &Control) -> Result<Operated, Answer> {
    let operated = control.hub.carry_out_operation(operation).await;
    match operated.map_err(|sentence| Answer::refused(Code::Failed, sentence))? {
        Operated::TooMany => Err(too_many()),
        operated => Ok(operated),
    }
}

async fn kick(text: &str, reason: &str, control: &Control) -> Result<Answer, Answer> {
    let name = name(text)?;
    let words = Reason::parse(reason).map_err(invalid)?;
    let kick = Operation::Kick {
        name: name.clone(),
        reason: words,
    };
    if operate(kick, control).await? != Operated::Done(true) {
        return Err(nobody(&name));
    }
    info!(%name, reason = reason.trim(), "the operator has thrown out");
    Ok(Answer::done())
}

async fn ban(
    text: &str,
    time_ms: Option<u64>,
    with_address: bool,
    reason: &str,
    control: &Control,
) -> Result<Answer, Answer> {
    let target = target(text)?;
    let ban = new_ban(time_ms, reason)?;
    let mut kept = control.kept.lock().await;
    let with_address_of = match (&target, with_address) {
        (_, false) => None,
        (Target::Name(name), true) if !control.hub.has_address(name) => return Err(nobody(name)),
        (Target::Name(name), true) => Some(name.clone()),
        (Target::Network(_), true) => return Err(invalid("--address goes with a name")),
    };
    let ban = Operation::Ban {
        targets: vec![target.clone()],
        with_address_of,
        ban,
    };
    let Operated::Ended(ended) = operate(ban, control).await? else {
        return Err(too_many());
    };
    info!(%target, with_address, reason, ended, "the operator has banned");
    keep(kept.as_mut(), control)?;
    Ok(Answer::Banned {
        ok: Yes,
        ended,
        kept: kept.is_some(),
    })
}

async fn unban(text: &str, control: &Control) -> Result<Answer, Answer> {
    let target = target(text)?;
    let mut kept = control.kept.lock().await;
    let unban = Operation::Unban {
        target: target.clone(),
    };
    if operate(unban, control).await? != Operated::Done(true) {
        let is_denied = control.hub.moderation(|it| it.denied.contains(&target));
        let sentence = match is_denied {
            true => format!("{target} is in the file of --deny: take it out there, and reload"),
            false => format!("{target} is not banned"),
        };
        return Err(Answer::refused(Code::NotFound, sentence));
    }
    info!(%target, "the operator has lifted a ban");
    keep(kept.as_mut(), control)?;
    Ok(Answer::done())
}

async fn mute(
    text: &str,
    time_ms: Option<u64>,
    reason: &str,
    control: &Control,
) -> Result<Answer, Answer> {
    let name = name(text)?;
    let mute = new_ban(time_ms, reason)?;
    let mut kept = control.kept.lock().await;
    let mute = Operation::Mute {
        name: name.clone(),
        mute,
    };
    operate(mute, control).await?;
    info!(%name, reason, "the operator has muted");
    keep(kept.as_mut(), control)?;
    Ok(Answer::done())
}

async fn unmute(text: &str, control: &Control) -> Result<Answer, Answer> {
    let name = name(text)?;
    let mut kept = control.kept.lock().await;
    let unmute = Operation::Unmute { name: name.clone() };
    if operate(unmute, control).await? != Operated::Done(true) {
        let sentence = format!("{name} is not muted");
        return Err(Answer::refused(Code::NotFound, sentence));
    }
    info!(%name, "the operator has lifted a mute");
    keep(kept.as_mut(), control)?;
    Ok(Answer::done())
}

fn target(text: &str) -> Result<Target, Answer> {
    Target::parse(text).ok_or_else(|| {
        invalid(format!(
            "{text:?} is neither a name nor an address nor a range like 203.0.113.0/24"
        ))
    })
}

/// A ban that begins now.
fn new_ban(time_ms: Option<u64>, reason: &str) -> Result<Ban, Answer> {
    if time_ms.is_some_and(|time_ms| time_ms > BAN_MS_MAX) {
        let sentence = "the time is longer than a hundred years: leave it out for one without end";
        return Err(invalid(sentence));
    }
    let until = |time_ms| unix_ms().saturating_add_unsigned(time_ms);
    Ok(Ban {
        until_unix_ms: time_ms.map(until),
        reason: Reason::parse(reason).map_err(invalid)?,
    })
}

fn too_many() -> Answer {
    let sentence = format!("there are {BANS_MAX} already, lift some first");
    Answer::refused(Code::Failed, sentence)
}

/// Writes the bans and mutes, so that they survive a restart.
fn keep(kept: Option<&mut KeptBans>, control: &Control) -> Result<(), Answer> {
    let Some(kept) = kept else {
        return Ok(());
    };
    kept.keep(&control.hub).map_err(|error| {
        let sentence = format!("done, but it is forgotten when the server ends: {error}");
        Answer::refused(Code::Failed, sentence)
    })
}

fn bans(control: &Control) -> Answer {
    let now_unix_ms = unix_ms();
    let bans = control.hub.moderation(|it| {
        let lists = [("deny", &it.denied), ("ban", &it.bans), ("mute", &it.mutes)];
        let all = lists.into_iter().flat_map(|(kind, bans)| {
            let lasting = bans.iter().filter(|(_, ban)| ban.lasts(now_unix_ms));
            lasting.map(move |(target, ban)| ListedBan {
                kind: kind.to_owned(),
                target: target.to_string(),
                until_unix_ms: ban.until_unix_ms,
                reason: ban.reason.as_str().to_owned(),
            })
        });
        all.take(BANS_LISTED_MAX).collect()
    });
    Answer::Bans { ok: Yes, bans }
}

async fn remove(seq: u64, control: &Control) -> Result<Answer, Answer> {
    let removed = control.hub.remove(seq).await;
    let removed = removed.map_err(|sentence| Answer::refused(Code::NotFound, sentence))?;
    info!(seq, "the operator has removed a message");
    // It is closed, with nothing sent, when that is done.
    let waited = timeout(Duration::from_millis(REMOVED_MS_MAX), removed).await;
    match waited {
        Ok(_) => Ok(Answer::done()),
        Err(_) => {
            let sentence = "the disk is slow: it will be removed when what came before is written";
            Err(Answer::refused(Code::Failed, sentence))
        }
    }
}

async fn say(text: String, control: &Control) -> Result<Answer, Answer> {
    let bytes_max = control.hub.limits().text_bytes_max;
    let text = Text::parse(text, bytes_max).map_err(|error| match error {
        TextError::Empty => invalid("the text is empty"),
        TextError::Control(c) => invalid(format!(
            "the text holds U+{:04X}, a line break or control character; say one line",
            u32::from(c)
        )),
        TextError::TooLong => invalid(format!("the text is longer than {bytes_max} bytes")),
    })?;
    let Operated::Said(seq) = operate(Operation::Say { text }, control).await? else {
        let sentence = "the server accepts no message: it closes, or its disk is full";
        return Err(Answer::refused(Code::Failed, sentence));
    };
    info!(seq, "the operator has spoken");
    Ok(Answer::Said { ok: Yes, seq })
}

/// Reads files, so not on a thread of the connections.
async fn reload(control: &Control) -> Result<Answer, Answer> {
    let reload = Arc::clone(&control.reload);
    let failed = |sentence: String| Answer::refused(Code::Failed, sentence);
    let reloaded = task::spawn_blocking(move || reload()).await;
    let reloaded = reloaded.unwrap_or_else(|error| Err(error.to_string()));
    match &reloaded {
        Ok(sentence) => info!("the operator reloads: {sentence}"),
        Err(sentence) => warn!("the operator reloads: {sentence}"),
    }
    let reloaded = reloaded.map_err(failed)?;
    Ok(Answer::Reloaded { ok: Yes, reloaded })
}

fn stats(control: &Control) -> Answer {
    let stats = control.hub.stats();
    Answer::Stats {
        ok: Yes,
        stats: Stats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: stats.uptime_ms,
            connections: stats.connections,
            members: stats.members,
            last_seq: stats.seq,
            oldest_seq: stats.oldest_seq,
            buffered_bytes: stats.buffered_bytes,
            senders_paused: stats.is_paused,
            disk_full: stats.is_store_full,
        },
    }
}
