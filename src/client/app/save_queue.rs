//! Save queue: saves the files that messages name, for `--save-to`, one after the other. A
//! file that another server of the room has, which is away (CHAT-CLUS-2), is tried again, and
//! holds up none behind it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::json;
use super::line_messages;
use super::report::say;
use super::save::{Target, save};
use crate::client::backoff::{Outage, Retry};
use crate::client::driver::random;
use crate::client::{Backoff, FileError, Printable, Sender};
use crate::wire::{ErrorCode, File};

/// How many files may wait to be saved.
const QUEUED_MAX: usize = 1_024;

/// How many files may wait for servers that are away.
const AWAY_MAX: usize = 1_024;

/// The longest wait before the first further try for a file, in milliseconds: a node that is
/// started again is there within a second or two.
const FIRST_WAIT_MS_MAX: u64 = 1_000;

/// The longest wait before any try, in milliseconds.
const WAIT_MS_MAX: u64 = 30_000;

/// For how long a file is tried, in milliseconds: an hour, in which a machine is repaired or
/// is not soon.
const TRY_MS_MAX: u64 = 3_600_000;

/// A file that was not reached yet.
struct Away {
    file: File,
    outage: Outage,
    due: Instant,
}

/// Saves in a folder what is put into the queue. What the session's end breaks off goes on the
/// next time.
pub(super) fn start(
    sender: Sender,
    folder: &Path,
    errors: Option<mpsc::Sender<String>>,
) -> mpsc::Sender<File> {
    let (files, queued) = mpsc::channel(QUEUED_MAX);
    let target = Target::Folder(folder.to_owned());
    tokio::spawn(run(queued, errors, move |file| {
        let (sender, target) = (sender.clone(), target.clone());
        async move { save(&sender, &file, &target, |_, _| {}).await }
    }));
    files
}

/// Saves with `save` until the session ends.
async fn run<Saved>(
    mut queued: mpsc::Receiver<File>,
    errors: Option<mpsc::Sender<String>>,
    mut save: impl FnMut(File) -> Saved,
) where
    Saved: Future<Output = Result<PathBuf, FileError>>,
{
    let backoff = Backoff {
        first: Duration::from_millis(FIRST_WAIT_MS_MAX),
        longest: Duration::from_millis(WAIT_MS_MAX),
        give_up_after: Duration::from_millis(TRY_MS_MAX),
    };
    let mut away = Vec::<Away>::new();
    loop {
        let next = away.iter().enumerate().min_by_key(|(_, it)| it.due);
        let (index, due) = next.map_or((0, Instant::now()), |(index, it)| (index, it.due));
        let (file, mut outage) = tokio::select! {
            file = queued.recv() => match file {
                Some(file) => (file, Outage::default()),
                None => return,
            },
            () = sleep_until(due), if !away.is_empty() => {
                let Away { file, outage, .. } = away.swap_remove(index);
                (file, outage)
            }
        };
        let name = Printable::new().untrusted(&file.name);
        let error = match save(file.clone()).await {
            Ok(path) => {
                let line = Printable::new().trusted("saved ").append(&name);
                let line = line.trusted(" as ");
                say(&line.untrusted(&path.display().to_string()));
                continue;
            }
            Err(FileError::Ended) => return,
            Err(error) => error,
        };
        if is_away(&error) && away.len() < AWAY_MAX {
            let is_first = outage == Outage::default();
            let now = Instant::now();
            let retry = (Retry::Worthwhile, 0);
            let wait = outage.next_wait(&backoff, retry, random(), now.into_std());
            if let Some(wait) = wait {
                if is_first {
                    let line = Printable::new().trusted("waits to save ").append(&name);
                    say(&line
                        .trusted(": another server of the room has it and cannot be reached now"));
                }
                let due = now + wait;
                away.push(Away { file, outage, due });
                continue;
            }
        }
        let line = Printable::new().trusted("cannot save ").append(&name);
        say(&line
            .trusted(": ")
            .append(&line_messages::file_error(&error)));
        if let (Some(errors), Some(line)) = (&errors, json::file_error(&error, Some(&file))) {
            let _ = errors.send(line).await;
        }
    }
}

/// Whether no server that has the file can be reached now.
fn is_away(error: &FileError) -> bool {
    matches!(error, FileError::Refused { code, .. } if *code == ErrorCode::NotReachable)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn refused(code: ErrorCode) -> Result<PathBuf, FileError> {
        let detail = String::new();
        Err(FileError::Refused { code, detail })
    }

    fn file(name: &str) -> File {
        File {
            name: name.to_owned(),
            ..File::default()
        }
    }

    /// What is tried when of two files, and the lines of JSON about what was given up. The
    /// first file is away for so long.
    async fn tries(away_for: Duration) -> (Vec<(String, Duration)>, usize) {
        let begun = Instant::now();
        let tried = Arc::<Mutex<Vec<_>>>::default();
        let (files, queued) = mpsc::channel(QUEUED_MAX);
        let (errors, mut told) = mpsc::channel(QUEUED_MAX);
        for name in ["away", "here"] {
            files.send(file(name)).await.expect("it is open");
        }
        let seen = Arc::clone(&tried);
        let saving = tokio::spawn(run(queued, Some(errors), move |file| {
            let at = begun.elapsed();
            seen.lock().unwrap().push((file.name.clone(), at));
            let is_there = file.name == "here" || at >= away_for;
            std::future::ready(match is_there {
                true => Ok(PathBuf::from(&file.name)),
                false => refused(ErrorCode::NotReachable),
            })
        }));
        tokio::time::sleep(Duration::from_millis(2 * TRY_MS_MAX)).await;
        drop(files);
        saving.await.expect("no panic");
        let tried = std::mem::take(&mut *tried.lock().unwrap());
        (tried, std::iter::from_fn(|| told.try_recv().ok()).count())
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_of_a_server_that_comes_back_is_saved_and_holds_up_no_other() {
        let (tried, given_up) = tries(Duration::from_secs(100)).await;
        assert_eq!(given_up, 0);
        assert_eq!(tried[1], ("here".to_owned(), Duration::ZERO));
        let last = tried.last().expect("it was tried").1;
        assert!(last >= Duration::from_secs(100) && last < Duration::from_secs(131));
        // Doubled, half of it by chance, up to the longest wait.
        for pair in tried[1..].windows(2) {
            let wait = pair[1].1 - pair[0].1;
            assert!(wait >= Duration::from_millis(FIRST_WAIT_MS_MAX / 2));
            assert!(wait <= Duration::from_millis(WAIT_MS_MAX + 1));
        }
        assert!((8..20).contains(&tried.len()), "{tried:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_away_is_given_up() {
        let (tried, given_up) = tries(Duration::MAX).await;
        assert_eq!(given_up, 1);
        let last = tried.last().expect("it was tried").1;
        let most = Duration::from_millis(TRY_MS_MAX);
        assert!(last >= most && last <= most + Duration::from_millis(WAIT_MS_MAX + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_waiting_changes_is_not_tried_again() {
        let (files, queued) = mpsc::channel(QUEUED_MAX);
        files.send(file("gone")).await.expect("it is open");
        drop(files);
        let mut tries = 0;
        run(queued, None, |_| {
            tries += 1;
            std::future::ready(refused(ErrorCode::FileUnknown))
        })
        .await;
        assert_eq!(tries, 1);
    }
}
