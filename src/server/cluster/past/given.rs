//! Given: what a node gives of the past, and whether it can be that.

use prost::Message;

use crate::{name::Name, room::SERVER_NAME, server::hub::Gap, store::Piece, wire};

/// How much a node gives at once, in bytes, unless one chat alone is longer: what a commit
/// takes in a burst, and a fourth of what a message of NATS may have.
pub(super) const PIECE_BYTES_MAX: usize = 256 << 10;

/// How many chats it gives at once.
pub(super) const PIECE_CHATS_MAX: usize = 2_000;

/// What it answers, if it has them.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    /// Its name.
    #[prost(string, tag = "1")]
    pub(super) node: String,
    #[prost(string, tag = "2")]
    pub(super) epoch: String,
    #[prost(uint64, tag = "3")]
    pub(super) position: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) chats: Vec<wire::Chat>,
}

/// The chats that fill a gap from its upper end on, if that is what a node has given.
pub(super) fn check(answer: Answer, gap: &Gap) -> Result<Piece, &'static str> {
    let Answer {
        epoch,
        position,
        chats,
        ..
    } = answer;
    if epoch != gap.epoch {
        return Err("it is of another epoch");
    }
    if position < gap.position {
        return Err("it is older than it may be");
    }
    let bytes: usize = chats.iter().map(Message::encoded_len).sum();
    if chats.len() > PIECE_CHATS_MAX || (bytes > PIECE_BYTES_MAX && chats.len() > 1) {
        return Err("it is too long");
    }
    let count = chats.len() as u64;
    let first = gap.before_seq.checked_sub(count).filter(|&it| it > 0);
    let Some(first) = first.filter(|_| count > 0) else {
        return Err("it has no chats, or more than there were");
    };
    let is_whole = chats.iter().zip(first..).all(|(it, seq)| it.seq == seq);
    if !is_whole {
        return Err("its numbers have gaps");
    }
    let is_chat = |it: &wire::Chat| {
        let is_sender = it.sender == SERVER_NAME || Name::parse(&it.sender).is_ok();
        is_sender && it.id == 0 && (!it.removed || (it.text.is_empty() && it.files.is_empty()))
    };
    if !chats.iter().all(is_chat) {
        return Err("something in it is no chat");
    }
    Ok(Piece {
        epoch,
        position,
        chats,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap() -> Gap {
        Gap {
            epoch: "life".to_owned(),
            before_seq: 10,
            position: 50,
            begun: 1,
        }
    }

    fn given(numbers: impl IntoIterator<Item = u64>) -> Answer {
        let chat = |seq| wire::Chat {
            seq,
            sender: "alice".to_owned(),
            text: "hello".to_owned(),
            ..wire::Chat::default()
        };
        Answer {
            node: "a".to_owned(),
            epoch: "life".to_owned(),
            position: 50,
            chats: numbers.into_iter().map(chat).collect(),
        }
    }

    fn is_taken(change: impl FnOnce(&mut Answer)) -> bool {
        let mut answer = given(4..=9);
        change(&mut answer);
        check(answer, &gap()).is_ok()
    }

    #[test]
    fn only_what_ends_right_before_the_gap_is_taken() {
        assert!(is_taken(|_| {}));
        assert!(is_taken(|it| *it = given(1..=9)));
        for numbers in [
            vec![],
            vec![4, 5, 6, 7, 8],
            vec![4, 6, 7, 8, 9],
            vec![9, 8, 7],
            vec![9, 9],
            vec![9, 10],
            vec![u64::MAX, 9],
            vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        ] {
            let told = format!("{numbers:?}");
            assert!(!is_taken(|it| *it = given(numbers)), "{told}");
        }
    }

    #[test]
    fn what_is_of_another_epoch_or_no_chat_is_not_taken() {
        assert!(!is_taken(|it| it.epoch = "other".to_owned()));
        assert!(!is_taken(|it| it.position = 49));
        assert!(!is_taken(|it| it.chats[2].sender.clear()));
        assert!(!is_taken(|it| it.chats[2].id = 1));
        assert!(!is_taken(|it| it.chats[2].removed = true));
        let long = "x".repeat(PIECE_BYTES_MAX);
        assert!(!is_taken(|it| it.chats[2].text.clone_from(&long)));
        // One chat alone may be so long.
        assert!(is_taken(|it| {
            *it = given([9]);
            it.chats[0].text = long;
        }));
        assert!(is_taken(|it| {
            it.chats[2].removed = true;
            it.chats[2].text.clear();
        }));
    }
}
