//! Files: from one client to another through the real server, over cuts, kills and a disk
//! that lies, and as the program sends and saves them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat::client::{Backoff, Connector, Event, FileError, Key, Session};
use chat::wire::{Capability, ErrorCode, File};
use tempfile::TempDir;

use crate::cutting::{Cut, NEVER, Proxy};
use crate::fake::WAIT_SECONDS;
use crate::program::Program;
use crate::runtime::run;
use crate::screen::Screen;
use crate::support::{TestServer, command, output};

/// A server that keeps files in a folder of its own.
fn server(options: &[&str]) -> (TestServer, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (server_in(&folder, options), folder)
}

fn server_in(folder: &TempDir, options: &[&str]) -> TestServer {
    let data = folder.path().join("room");
    let data = data.to_str().expect("UTF-8");
    let more = ["--data", data, "--connections-per-minute-max", "off"];
    TestServer::start(&[&more, options].concat())
}

fn connector() -> Connector {
    Connector::new()
        .and(Capability::Files)
        .and(Capability::Direct)
}

async fn join(server: &TestServer, name: &str) -> Session {
    let address = format!("chat://{}", server.address);
    let session = connector().connect(&address, name).await;
    session.expect("a session")
}

/// Bytes that look like no others of another seed.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(count).collect()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("a file");
    path
}

/// The next message, with its files.
async fn hears(session: &mut Session) -> (String, Vec<File>) {
    let searching = async {
        loop {
            match session.next().await.expect("an event") {
                Event::Message { text, files, .. } | Event::Direct { text, files, .. } => {
                    return (text, files);
                }
                Event::Ended(ended) => panic!("{ended:?}"),
                _ => {}
            }
        }
    };
    let wait = Duration::from_secs(WAIT_SECONDS);
    tokio::time::timeout(wait, searching)
        .await
        .expect("it comes")
}

async fn fetch(session: &mut Session, file: &File) -> Result<Vec<u8>, FileError> {
    let mut target = std::io::Cursor::new(Vec::new());
    session.fetch(file, &mut target, 0, |_, _| {}).await?;
    Ok(target.into_inner())
}

fn code<T: std::fmt::Debug>(result: Result<T, FileError>) -> ErrorCode {
    match result {
        Err(FileError::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_file_goes_from_one_member_to_the_others() {
    let (server, _room) = server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let content = bytes(1, 1_000_000);
    let path = write(folder.path(), "a report.pdf", &content);
    run(async {
        let mut alice = join(&server, "Alice").await;
        let mut bob = join(&server, "Bob").await;
        let mut told = Vec::new();
        let file = alice.attach(&path, |done, total| told.push((done, total)));
        let file = file.await.expect("uploaded");
        assert_eq!(told.first(), Some(&(0, 1_000_000)));
        assert_eq!(told.last(), Some(&(1_000_000, 1_000_000)));
        assert!(told.is_sorted());
        // CHAT-FILE-4: nobody has named it to him.
        assert_eq!(code(fetch(&mut bob, &file).await), ErrorCode::FileUnknown);
        let text = "a report.pdf (1 MB)";
        alice
            .send_files(text, vec![file.clone()])
            .await
            .expect("sent");
        assert_eq!(hears(&mut bob).await, (text.to_owned(), vec![file.clone()]));
        assert!(fetch(&mut bob, &file).await.expect("fetched") == content);
        assert!(fetch(&mut alice, &file).await.expect("her own") == content);
        // Again costs nothing.
        let mut told = Vec::new();
        let again = alice.attach(&path, |done, _| told.push(done)).await;
        assert_eq!(again.expect("it is there"), file);
        assert_eq!(told, [0, 1_000_000]);
        alice.leave().await;
        bob.leave().await;
    });
}

/// Cuts an upload and a download behind many bytes, and what follows from them.
#[test]
fn a_cut_anywhere_in_a_transfer_loses_nothing() {
    let (server, _room) = server(&["--file-chunk-bytes-max", "1000"]);
    let folder = tempfile::tempdir().expect("a folder");
    for step in 0..60_usize {
        let content = bytes(100 + step as u64, 20_000);
        let path = write(folder.path(), "a.bin", &content);
        let cut = match step % 2 {
            0 => Cut {
                sent_bytes: 100 + step * 370,
                leaves_ghost: step % 4 == 0,
                ..NEVER
            },
            _ => Cut {
                received_bytes: 200 + step * 370,
                ..NEVER
            },
        };
        run(async {
            let proxy = Proxy::start(server.address, vec![cut; 2]).await;
            let again = connector().reconnecting(Backoff {
                first: Duration::from_millis(2),
                longest: Duration::from_millis(20),
                give_up_after: Duration::from_secs(WAIT_SECONDS),
            });
            let Ok(mut alice) = again.connect(&proxy.address, "Alice").await else {
                return;
            };
            let file = alice.attach(&path, |_, _| {}).await.expect("uploaded");
            let fetched = fetch(&mut alice, &file).await.expect("fetched");
            assert!(fetched == content, "{cut:?}");
            alice.leave().await;
        });
    }
}

#[test]
fn a_server_that_is_killed_in_an_upload_goes_on_with_it() {
    let options = ["--file-chunk-bytes-max", "1000"];
    let (mut server, room) = server(&options);
    let folder = tempfile::tempdir().expect("a folder");
    let content = bytes(3, 2_000_000);
    let path = write(folder.path(), "a.bin", &content);
    run(async {
        let mut alice = join(&server, "Alice").await;
        let mut reached = 0;
        let broken = tokio::time::timeout(
            Duration::from_secs(WAIT_SECONDS),
            alice.attach(&path, |done, _| {
                if done > 1_000_000 && reached == 0 {
                    reached = done;
                    server.signal("KILL");
                }
            }),
        );
        assert!(broken.await.expect("it ends").is_err());
        assert!(reached > 0);
        server.wait();
        let server = server_in(&room, &options);
        let mut alice = join(&server, "Alice").await;
        let mut begun = None;
        let file = alice.attach(&path, |done, _| {
            if done > 0 {
                begun.get_or_insert(done);
            }
        });
        let file = file.await.expect("uploaded");
        assert!(begun.expect("told") >= reached, "{begun:?} after {reached}");
        assert!(fetch(&mut alice, &file).await.expect("fetched") == content);
        alice.leave().await;
    });
}

#[test]
fn a_file_that_shrinks_or_grows_is_not_sent_as_another() {
    let (server, _room) = server(&["--file-chunk-bytes-max", "1000"]);
    let folder = tempfile::tempdir().expect("a folder");
    run(async {
        let mut alice = join(&server, "Alice").await;
        let path = write(folder.path(), "shrinks.bin", &bytes(4, 500_000));
        let shrunk = alice.attach(&path, |done, _| {
            if done == 10_000 {
                fs::File::options()
                    .write(true)
                    .open(&path)
                    .and_then(|file| file.set_len(20_000))
                    .expect("it shrinks");
            }
        });
        assert!(matches!(shrunk.await, Err(FileError::Changed)));
        // What is appended behind what was announced is no part of it.
        let content = bytes(5, 100_000);
        let path = write(folder.path(), "grows.bin", &content);
        let grown = alice.attach(&path, |done, _| {
            if done == 10_000 {
                let more = [&content[..], b"more"].concat();
                fs::write(&path, more).expect("it grows");
            }
        });
        let file = grown.await.expect("uploaded");
        assert!(fetch(&mut alice, &file).await.expect("fetched") == content);
        // Other bytes in the same place are found by the hash.
        let path = write(folder.path(), "changes.bin", &bytes(6, 100_000));
        let changed = alice.attach(&path, |done, _| {
            if done == 10_000 {
                fs::write(&path, bytes(7, 100_000)).expect("it changes");
            }
        });
        let changed = tokio::time::timeout(Duration::from_secs(WAIT_SECONDS), changed).await;
        assert!(changed.expect("it ends").is_err());
        alice.leave().await;
    });
}

#[test]
fn quotas_hold_for_a_file_a_member_and_all() {
    let (server, _room) = server(&[
        "--file-bytes-max",
        "40000",
        "--files-bytes-max",
        "90000",
        "--member-files-bytes-max",
        "60000",
    ]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = |seed: u64, count| write(folder.path(), &format!("{seed}.bin"), &bytes(seed, count));
    run(async {
        let mut alice = join(&server, "Alice").await;
        let mut bob = join(&server, "Bob").await;
        let too_long = alice.attach(file(1, 40_001), |_, _| {}).await;
        assert_eq!(code(too_long), ErrorCode::FileTooLong);
        alice.attach(file(2, 40_000), |_, _| {}).await.expect("one");
        let full = alice.attach(file(3, 30_000), |_, _| {}).await;
        assert_eq!(code(full), ErrorCode::FilesFull);
        bob.attach(file(3, 30_000), |_, _| {}).await.expect("two");
        let full = bob.attach(file(4, 20_000), |_, _| {}).await;
        assert_eq!(code(full), ErrorCode::FilesFull);
        // And nothing else is refused.
        alice.send("still here").await.expect("sent");
        assert_eq!(hears(&mut bob).await.0, "still here");
        alice.leave().await;
        bob.leave().await;
    });
}

/// CHAT-FILE-15: pieces are no frames, and their bytes are others.
#[test]
fn a_file_is_no_flood() {
    let options = [
        "--rate-limit",
        "1",
        "--rate-burst",
        "2",
        "--frames-per-second-max",
        "2",
        "--bytes-per-second-max",
        "20000",
        "--file-chunk-bytes-max",
        "1000",
    ];
    let (server, _room) = server(&options);
    let folder = tempfile::tempdir().expect("a folder");
    let path = write(folder.path(), "a.bin", &bytes(9, 500_000));
    run(async {
        let mut alice = join(&server, "Alice").await;
        // By the rate of frames it would take four minutes, by that of bytes half of one.
        let wait = Duration::from_secs(15);
        let attached = tokio::time::timeout(wait, alice.attach(&path, |_, _| {})).await;
        attached.expect("soon").expect("uploaded");
        alice.leave().await;
    });
}

/// CHAT-FILE-7, CHAT-FILE-17
#[test]
fn what_nothing_names_is_dropped() {
    let (server, room) = server(&["--file-orphan-ms", "1500", "--file-chunk-bytes-max", "1000"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = write(folder.path(), "a.bin", &bytes(10, 3_000));
    let named = write(folder.path(), "named.bin", &bytes(11, 3_000));
    run(async {
        let mut alice = join(&server, "Alice").await;
        let named = alice.attach(&named, |_, _| {}).await.expect("uploaded");
        alice
            .send_files("named", vec![named.clone()])
            .await
            .expect("sent");
        let file = alice.attach(&path, |_, _| {}).await.expect("uploaded");
        assert!(fetch(&mut alice, &file).await.is_ok());
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(code(fetch(&mut alice, &file).await), ErrorCode::FileUnknown);
        assert!(fetch(&mut alice, &named).await.is_ok(), "CHAT-FILE-12");
        let whole = fs::read_dir(room.path().join("room/files/whole")).expect("a folder");
        assert_eq!(whole.count(), 1);
        alice.leave().await;
    });
}

/// CHAT-FILE-17, CHAT-MOD-8: a removed chat names nothing any more.
#[test]
fn the_file_of_a_removed_chat_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let control = folder.path().join("control");
    let control = control.to_str().expect("a path");
    let (server, room) = server(&["--file-orphan-ms", "1500", "--control", control]);
    let path = write(folder.path(), "a.bin", &bytes(13, 3_000));
    let other = write(folder.path(), "b.bin", &bytes(14, 3_000));
    run(async {
        let mut alice = join(&server, "Alice").await;
        let mut bob = join(&server, "Bob").await;
        let file = alice.attach(&path, |_, _| {}).await.expect("uploaded");
        let other = alice.attach(&other, |_, _| {}).await.expect("uploaded");
        for (text, files) in [("one", &file), ("two", &file), ("other", &other)] {
            let sent = alice.send_files(text, vec![files.clone()]).await;
            sent.expect("sent");
            assert_eq!(hears(&mut bob).await.0, text);
        }
        for seq in ["1", "2"] {
            assert!(fetch(&mut bob, &file).await.is_ok(), "a chat names it");
            let removing = output(command(&["ctl", "--control", control, "remove", seq]));
            assert!(removing.status.success(), "{removing:?}");
        }
        // CHAT-FILE-4
        assert_eq!(code(fetch(&mut bob, &file).await), ErrorCode::FileUnknown);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let whole = fs::read_dir(room.path().join("room/files/whole")).expect("a folder");
        assert_eq!(whole.count(), 1);
        assert!(fetch(&mut bob, &other).await.is_ok(), "CHAT-FILE-12");
        bob.leave().await;
        alice.leave().await;
    });
}

/// CHAT-FILE-3, CHAT-FILE-4: the next who has a name is somebody else.
#[test]
fn a_file_belongs_to_a_key_and_not_to_its_name() {
    let (server, _room) = server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = write(folder.path(), "a.bin", &bytes(15, 3_000));
    let come = async |name: &str, secret: Option<u8>| {
        let connector = match secret {
            Some(secret) => connector().key(Key::from_secret([secret; 32]).expect("a key")),
            None => connector(),
        };
        let address = format!("chat://{}", server.address);
        let session = connector.connect(&address, name).await;
        session.expect("a session")
    };
    run(async {
        let mut alice = come("Alice", Some(1)).await;
        let file = alice.attach(&path, |_, _| {}).await.expect("uploaded");
        alice.leave().await;
        for (name, secret, may_fetch) in [
            ("Alice", Some(3), false),
            ("Alice", None, false),
            ("Alicia", Some(1), true),
        ] {
            let mut session = come(name, secret).await;
            let fetched = fetch(&mut session, &file).await;
            assert_eq!(fetched.is_ok(), may_fetch, "{name} {secret:?}: {fetched:?}");
            session.leave().await;
        }
    });
}

/// CHAT-FILE-20
#[test]
fn what_was_fetched_is_checked() {
    let (server, room) = server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = write(folder.path(), "a.bin", &bytes(12, 50_000));
    run(async {
        let mut alice = join(&server, "Alice").await;
        let file = alice.attach(&path, |_, _| {}).await.expect("uploaded");
        // The disk of the server has turned a bit.
        let whole = fs::read_dir(room.path().join("room/files/whole")).expect("a folder");
        let whole = whole.map(|entry| entry.expect("a file").path()).next();
        let whole = whole.expect("one file");
        let mut content = fs::read(&whole).expect("a file");
        content[40_000] ^= 1;
        fs::write(&whole, content).expect("a file");
        let fetched = fetch(&mut alice, &file).await;
        assert!(matches!(fetched, Err(FileError::Mismatch)), "{fetched:?}");
        alice.leave().await;
    });
}

#[test]
fn a_pipe_sends_a_file_and_another_saves_it() {
    let (server, _room) = server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let content = bytes(8, 300_000);
    let path = write(folder.path(), "report.pdf", &content);
    let saved = folder.path().join("saved");
    fs::create_dir(&saved).expect("a folder");
    write(&saved, "report.pdf", b"mine");
    let address = server.address.to_string();
    let saves = saved.to_str().expect("UTF-8");
    let bob = Program::start(&[&address, "Bob", "--listen", "--save-to", saves, "--events"]);
    server.wait_for_log("name=Bob");
    let path = path.to_str().expect("UTF-8");
    for (input, text) in [
        (&b"see\n"[..], "see report.pdf (300 KB)"),
        (b"", "report.pdf (300 KB)"),
    ] {
        let mut alice = Program::start(&[&address, "Alice", "--attach", path]);
        alice.write(input);
        alice.end_input();
        let outcome = alice.outcome();
        assert_eq!((outcome.code, &*outcome.errors), (Some(0), ""));
        bob.shows(&format!("@Alice: {text}\n"));
    }
    let other = saved.join("report (2).pdf");
    for path in [&other, &saved.join("report (3).pdf")] {
        for _ in 0..WAIT_SECONDS * 100 {
            if fs::read(path).is_ok_and(|read| read == content) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(fs::read(path).expect("it is saved") == content);
    }
    assert_eq!(fs::read(saved.join("report.pdf")).expect("a file"), b"mine");
    drop(bob);
}

#[test]
fn pipes_send_about_a_topic_and_follow_it() {
    let (server, _room) = server(&[]);
    let address = server.address.to_string();
    let follows = ["--follow", "#build", "--follow", "@dave"];
    let log = Program::start(&[&[&*address, "log", "--listen", "--events"], &follows[..]].concat());
    server.wait_for_log("name=log");
    let send = |name: &str, options: &[&str], input: &str| {
        let mut program = Program::start(&[&[&*address, name], options].concat());
        program.write(input.as_bytes());
        program.end_input();
        assert_eq!(program.outcome().code, Some(0));
    };
    send("Alice", &["--topic", "ops"], "nothing for it\n");
    send("Alice", &["--topic", "build"], "one\n");
    let json = "{\"chat\":{\"text\":\"two\"}}\n{\"chat\":{\"text\":\"other\",\"topic\":\"ops\"}}\n";
    send("Carol", &["--json", "--topic", "build"], json);
    send("dave", &[], "three\n");
    log.shows("@Alice #build: one\n@Carol #build: two\n@dave: three\n");
}

#[test]
fn a_refused_file_is_told_with_its_code_as_json() {
    let (server, _room) = server(&["--file-bytes-max", "1000"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = write(folder.path(), "long.bin", &bytes(13, 1_001));
    let path = path.to_str().expect("UTF-8");
    let address = server.address.to_string();
    let mut alice = Program::start(&[&address, "Alice", "--json", "--attach", path]);
    alice.end_input();
    let outcome = alice.outcome();
    let error = r#"{"error":{"code":"ERROR_CODE_FILE_TOO_LONG","detail":"a file has at most 1000 bytes here","endsSession":false}}"#;
    assert_eq!(outcome.output.lines().nth(1), Some(error));
    assert!(
        outcome.errors.contains(
            "it is too long for the server (a file has at most 1000 bytes here), split it or make it smaller"
        ),
        "{}",
        outcome.errors
    );
    assert_eq!(outcome.code, Some(7));
}

/// CHAT-FILE-4: nobody else may fetch it.
#[test]
fn a_file_goes_to_one_member_alone() {
    let (server, _room) = server(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let content = bytes(14, 20_000);
    write(folder.path(), "secret plan.pdf", &content);
    let address = server.address.to_string();
    let path = folder.path().join("secret plan.pdf");
    let path = path.to_str().expect("UTF-8");
    run(async {
        let mut bob = join(&server, "Bob").await;
        let mut eve = join(&server, "Eve").await;
        let mut screen = Screen::start(&[&address, "Alice"]);
        screen.has("/help shows the commands");
        let keys = format!("/attach '{path}' @bob the plan\r");
        screen.type_keys(&keys);
        let (text, files) = hears(&mut bob).await;
        assert_eq!(text, "the plan secret plan.pdf (20 KB)");
        assert!(fetch(&mut bob, &files[0]).await.expect("fetched") == content);
        let refused = fetch(&mut eve, &files[0]).await;
        assert_eq!(code(refused), ErrorCode::FileUnknown);
        // And in a view, where no name is needed.
        screen.type_keys(&format!("/view @Bob\r/attach '{path}'\r"));
        let (text, files) = hears(&mut bob).await;
        assert_eq!(text, "secret plan.pdf (20 KB)");
        assert!(fetch(&mut bob, &files[0]).await.expect("fetched") == content);
        bob.leave().await;
        eve.leave().await;
    });
}
