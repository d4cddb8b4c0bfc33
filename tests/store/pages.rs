//! Pages of the past.

use chat::store::{Change, Keep, Page, StoreReader};
use prost::Message;

use crate::support::*;

fn page(from: u64, to: u64) -> Page {
    Page {
        from,
        to,
        chats: (from..=to).map(chat).collect(),
    }
}

/// The chats 11 to 30, the first ten pruned.
fn kept() -> (tempfile::TempDir, StoreReader) {
    let folder = folder();
    let mut options = options(folder.path());
    options.keep = Keep {
        messages: Some(20),
        ..Keep::default()
    };
    let (mut store, _) = open(&options);
    commit_chats(&mut store, 1, 30);
    assert_eq!(store.prune(NOW), Ok(11));
    let reader = store.reader().expect("a reader");
    (folder, reader)
}

/// Many chats are inserted by one statement, and a removal finds those before it.
#[test]
fn a_commit_of_any_length_keeps_every_chat_and_every_removal() {
    for count in [1, 15, 16, 17, 33, 40] {
        let folder = folder();
        let (mut store, _) = open(&options(folder.path()));
        let mut changes: Vec<_> = (1..=count).map(accepted).collect();
        changes.push(Change::Removed(count));
        commit(&mut store, &changes);
        let mut expected = page(1, count);
        let removed = expected.chats.last_mut().expect("there is one");
        removed.text.clear();
        removed.removed = true;
        let reader = store.reader().expect("a reader");
        assert_eq!(all(&reader), expected, "{count} chats");
    }
}

#[test]
fn a_page_ends_before_or_begins_behind_its_edge() {
    let (_folder, reader) = kept();
    let before = |edge, chats| reader.page_before(edge, chats, usize::MAX).expect("a page");
    let after = |edge, chats| reader.page_after(edge, chats, usize::MAX).expect("a page");
    assert_eq!(before(31, 5), page(26, 30));
    assert_eq!(before(26, 5), page(21, 25));
    assert_eq!(before(14, 5), page(11, 13));
    assert_eq!(after(10, 5), page(11, 15));
    assert_eq!(after(15, 1), page(16, 16));
    assert_eq!(after(28, 5), page(29, 30));
    // A limit of none would stop paging.
    assert_eq!(after(10, 0), page(11, 11));
}

#[test]
fn a_page_beyond_the_ends_is_empty_or_begins_at_the_oldest() {
    let (_folder, reader) = kept();
    let before = |edge| reader.page_before(edge, 5, usize::MAX).expect("a page");
    let after = |edge| reader.page_after(edge, 5, usize::MAX).expect("a page");
    for edge in [0, 1, 11] {
        assert_eq!(before(edge), Page::default(), "before {edge}");
    }
    for edge in [30, 31, u64::MAX] {
        assert_eq!(after(edge), Page::default(), "after {edge}");
    }
    for edge in [32, u64::MAX] {
        assert_eq!(before(edge), page(26, 30), "before {edge}");
    }
    for edge in [0, 3, 9] {
        assert_eq!(after(edge), page(11, 15), "after {edge}");
    }
}

#[test]
fn a_page_takes_the_bytes_that_it_may_and_one_chat_at_least() {
    /// As a message with such a page takes them.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Chats {
        #[prost(message, repeated, tag = "4")]
        chats: Vec<chat::wire::Chat>,
    }
    let (_folder, reader) = kept();
    let three = Chats {
        chats: (11..=13).map(chat).collect(),
    };
    let bytes = three.encoded_len();
    let after = |bytes| reader.page_after(0, 10, bytes).expect("a page");
    assert_eq!(after(bytes), page(11, 13));
    assert_eq!(after(bytes - 1), page(11, 12));
    assert_eq!(after(0), page(11, 11));
    assert_eq!(
        reader.page_before(14, 10, bytes).expect("a page"),
        page(11, 13)
    );
    assert_eq!(
        reader.page_before(14, 10, bytes - 1).expect("a page"),
        page(12, 13)
    );
}

#[test]
fn a_reader_sees_each_commit_and_an_empty_room_has_no_pages() {
    let folder = folder();
    let (mut store, _) = open(&options(folder.path()));
    let reader = store.reader().expect("a reader");
    assert_eq!(all(&reader), Page::default());
    assert_eq!(
        reader.page_before(1, 5, 1_000).expect("a page"),
        Page::default()
    );
    for seq in 1..=3 {
        commit(&mut store, &[accepted(seq)]);
        assert_eq!(all(&reader), page(1, seq));
    }
}
