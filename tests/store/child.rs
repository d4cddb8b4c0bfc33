//! A process that commits until it is killed: this test program, started again.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child as Process, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use chat::store::{Change, CommitError, Options, Store, SyncMode};

use crate::support::*;

const DIR_VARIABLE: &str = "STORE_CHILD_DIR";
const SYNC_VARIABLE: &str = "STORE_CHILD_SYNC";
const BATCH_VARIABLE: &str = "STORE_CHILD_BATCH";
const PAUSE_VARIABLE: &str = "STORE_CHILD_PAUSE_MS";
/// While this file is there, the library of `faults.c` lets calls fail.
const ARMED_VARIABLE: &str = "FAULT_ARMED";

/// How many commits a test waits for something to happen: more than in ten seconds.
pub const TOLD_MAX: u32 = 50_000;

/// How many ids the child's line keeps, and how many chats the room.
pub const IDS_MAX: u32 = 10;
pub const KEPT_MAX: u64 = 200;

/// A running child.
pub struct Child {
    process: Process,
    lines: BufReader<ChildStdout>,
}

/// How a child is started.
pub struct Start<'a> {
    pub dir: &'a Path,
    pub sync: SyncMode,
    /// How many chats a commit has.
    pub batch: u64,
    /// How long it waits after each commit.
    pub pause_ms: u64,
    pub variables: &'a [(&'a str, &'a str)],
    /// The user that it runs as, if another one.
    pub user: Option<u32>,
}

impl Child {
    pub fn start(start: &Start<'_>) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command
            .args(["child::child", "--exact", "--ignored", "--nocapture"])
            .env(DIR_VARIABLE, start.dir)
            .env(SYNC_VARIABLE, start.sync.as_str())
            .env(BATCH_VARIABLE, start.batch.to_string())
            .env(PAUSE_VARIABLE, start.pause_ms.to_string())
            .envs(start.variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(user) = start.user {
            command.uid(user);
        }
        let mut process = command.spawn().expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, lines }
    }

    /// The next thing that the child tells; `None` at its end.
    pub fn told(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line).expect("text") == 0 {
                return None;
            }
            // The rest is the test program's.
            if let Some((_, told)) = line.split_once("told: ") {
                return Some(told.trim_end().to_owned());
            }
        }
    }

    /// Reads until the child tells `word` and a number, and answers the number.
    #[track_caller]
    pub fn wait_for(&mut self, word: &str) -> u64 {
        for _ in 0..TOLD_MAX {
            let told = self.told().expect("it goes on");
            if let Some(number) = told.strip_prefix(word) {
                return number.trim().parse().expect("a number");
            }
        }
        panic!("it never told {word}");
    }

    /// Waits until it has ended, and tells nothing more.
    #[track_caller]
    pub fn end(mut self) {
        assert_eq!(self.told(), None);
        self.process.wait().expect("it ends");
    }

    /// Kills it, and answers the last number that it told as committed.
    pub fn kill(mut self) -> Option<u64> {
        self.process.kill().expect("it is our child");
        self.process.wait().expect("it ends");
        let mut last = None;
        while let Some(told) = self.told() {
            if let Some(number) = told.strip_prefix("committed ") {
                last = number.parse().ok();
            }
        }
        last
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn options_of(dir: &Path) -> Options {
    let mut options = options(dir);
    options.sent_ids_max = IDS_MAX;
    options.keep.messages = Some(KEPT_MAX);
    options
}

/// What the child commits with a chat: it was sent by line 1, under an id of its own.
pub fn id_of(seq: u64) -> u64 {
    seq * 3 + 1
}

#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Some(dir) = env::var_os(DIR_VARIABLE).map(PathBuf::from) else {
        return;
    };
    let variable = |name| env::var(name).expect("set by the parent");
    let mut options = options_of(&dir);
    options.sync = variable(SYNC_VARIABLE).parse().expect("a mode");
    let batch: u64 = variable(BATCH_VARIABLE).parse().expect("a number");
    let pause = Duration::from_millis(variable(PAUSE_VARIABLE).parse().expect("a number"));
    let (mut store, kept) = match Store::open(&options) {
        Ok(opened) => opened,
        Err(error) => return tell(&format!("refused {error}")),
    };
    tell(&format!("opened {}", kept.last_seq));
    if kept.lines.is_empty() {
        commit(&mut store, &[Change::Line(line(1))]);
    }
    let armed = env::var_os(ARMED_VARIABLE).map(PathBuf::from);
    let mut last_seq = kept.last_seq;
    loop {
        let changes: Vec<_> = (last_seq + 1..=last_seq + batch)
            .map(|seq| Change::Chat {
                chat: chat(seq),
                sent_by: Some((1, id_of(seq))),
            })
            .collect();
        match store.commit_and_prune(&changes, NOW) {
            Ok(_) => {
                last_seq += batch;
                tell(&format!("committed {last_seq}"));
                thread::sleep(pause);
            }
            Err(CommitError::Full) => {
                tell(&format!("full {last_seq}"));
                // There is space again.
                if let Some(armed) = &armed {
                    let _ = std::fs::remove_file(armed);
                }
            }
            Err(CommitError::Failed(why)) => {
                tell(&format!("failed {last_seq}"));
                let again = store.commit(&changes);
                assert_eq!(again, Err(CommitError::Failed(why)));
                return tell(&format!("ended {last_seq}"));
            }
        }
    }
}

fn tell(what: &str) {
    let mut stdout = std::io::stdout().lock();
    // The parent may have killed and forgotten this process.
    let _ = writeln!(stdout, "told: {what}").and_then(|()| stdout.flush());
}
