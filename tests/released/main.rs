//! Old meets new. `conformance/released` keeps, for each release of the contract, its
//! schema, the schema of its reports, and conversations of its client with its server,
//! byte for byte. A later server answers an old client as it was answered then, and a
//! later client gets along with an old server.

mod conversation;
mod record;
mod replay;
mod reports;
mod schema;
#[path = "../support/mod.rs"]
mod support;

use std::{fs, path::PathBuf};

use conversation::Conversation;
use schema::Schema;

/// Where the releases are kept.
const RELEASED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/released");

/// A release, by its folder.
struct Release {
    folder: PathBuf,
    schema: Schema,
}

fn releases() -> Vec<Release> {
    let entries = fs::read_dir(RELEASED).expect("there are releases");
    let folders = entries.map(|entry| entry.expect("an entry").path());
    let read = |folder: PathBuf| Release {
        schema: Schema::read(folder.to_str().expect("it is UTF-8")),
        folder,
    };
    let releases: Vec<_> = folders.map(read).collect();
    assert!(!releases.is_empty());
    releases
}

impl Release {
    fn conversations(&self) -> Vec<(String, Conversation)> {
        let folder = self.folder.join("conversations");
        let entries = fs::read_dir(folder).expect("there are conversations");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        assert!(paths.len() >= 8, "the conversations were not found");
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).expect("it is text");
            let name = path.display().to_string();
            let conversation = text
                .parse()
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, conversation)
        };
        paths.into_iter().map(read).collect()
    }
}

#[test]
fn what_an_old_client_sends_is_answered_as_it_was() {
    for release in releases() {
        for (name, conversation) in release.conversations() {
            println!("replaying {name}");
            replay::against_server(&conversation, &release.schema);
        }
    }
}

#[test]
fn a_new_client_gets_along_with_an_old_server() {
    let mut clients = 0;
    for release in releases() {
        for (name, conversation) in release.conversations() {
            if !conversation.client.is_empty() {
                println!("replaying {name}");
                replay::against_client(&conversation, &release.schema);
                clients += 1;
            }
        }
    }
    assert!(clients >= 4, "no client was tried");
}
