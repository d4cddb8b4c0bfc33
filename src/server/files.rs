//! Files on disk: the thread that writes and reads what members upload and download
//! (CHAT-FILE). A file has its hash for a name; an upload is one of its own until its hash
//! was checked.
//!
//! ```text
//!   files/whole/HASH          a file
//!   files/owner/HASH-WHO      who has uploaded it; empty
//!   files/part/HASH-SIZE-WHO  an upload that is not complete
//! ```
//!
//! Who it is stands there as a name, or as `@` and the id of a key.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::UNIX_EPOCH,
};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest, Sha256};
use tracing::{error, warn};

use crate::{
    frame,
    session::{
        FileIndex, FileOwner, FileRead, FileTask, Hash, NamedBy, Removal, Written, WrittenPiece,
    },
    wire::{self, ServerEnvelope, server_envelope::Message},
};

use super::{
    file_queue::FileQueue,
    hub::{FileDone, Hub, NotRead},
};

/// How much of a file is read at once to compute its hash, in bytes.
const HASH_BYTES: usize = 64 * 1024;

/// How many uploads have their file open at a time; another one opens it for each piece.
const OPEN_FILES_MAX: usize = 16;

/// After how many bytes of an upload the system is to begin to write them to the disk. Left
/// to itself it writes seconds later and much at once, and the sync of a message waits
/// behind that.
const FLUSH_BYTES: u64 = 1 << 20;

/// The folder of the files.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folders where they are missing.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let folder = Self(dir.join("files"));
        for part in ["whole", "owner", "part"] {
            fs::create_dir_all(folder.0.join(part))?;
        }
        Ok(folder)
    }

    fn whole(&self, hash: &Hash) -> PathBuf {
        self.0.join("whole").join(hex(hash))
    }

    fn owner(&self, hash: &Hash, owner: &FileOwner) -> PathBuf {
        self.0.join("owner").join(format!("{}-{owner}", hex(hash)))
    }

    fn part(&self, hash: &Hash, size: u64, owner: &FileOwner) -> PathBuf {
        let file = format!("{}-{size}-{owner}", hex(hash));
        self.0.join("part").join(file)
    }

    /// Adds what is there to an empty index. `named`: the size of each file that chats name,
    /// and these chats. Whatever has another name than this program gives is left alone.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub(super) fn load(
        &self,
        mut index: FileIndex,
        mut named: BTreeMap<Hash, (u64, NamedBy)>,
        orphan_ms: i64,
        now_unix_ms: i64,
    ) -> io::Result<FileIndex> {
        let mut owners: BTreeMap<Hash, BTreeSet<FileOwner>> = BTreeMap::new();
        for (file, _) in self.list("owner")? {
            if let Some((hash, owner)) = file.split_at_checked(64)
                && let (Some(hash), Some(owner)) = (
                    unhex(hash),
                    owner.strip_prefix('-').and_then(FileOwner::parse),
                )
            {
                owners.entry(hash).or_default().insert(owner);
            }
        }
        for (file, metadata) in self.list("whole")? {
            if let Some(hash) = unhex(&file) {
                let is_cut = |&(size, _): &(u64, NamedBy)| size != metadata.len();
                if named.get(&hash).is_some_and(is_cut) {
                    warn!(
                        "{file} is not the file that messages name, and is not used: whoever has \
                         it can upload it again"
                    );
                    continue;
                }
                let owners = owners.remove(&hash).unwrap_or_default();
                let (_, named_by) = named.remove(&hash).unwrap_or_default();
                let keep = changed_ms(&metadata, now_unix_ms).saturating_add(orphan_ms);
                index.restore_whole(hash, metadata.len(), owners, named_by, keep);
            }
        }
        for (hash, (size, named_by)) in named {
            index.restore_elsewhere(hash, size, named_by);
        }
        for (file, metadata) in self.list("part")? {
            let mut words = file.splitn(3, '-');
            let (hash, size, owner) = (words.next(), words.next(), words.next());
            if let (Some(hash), Some(Ok(size)), Some(owner)) = (
                hash.and_then(unhex),
                size.map(str::parse::<u64>),
                owner.and_then(FileOwner::parse),
            ) && (1..).contains(&size)
            {
                let due = changed_ms(&metadata, now_unix_ms).saturating_add(orphan_ms);
                // The last byte comes again where the hash was not checked any more.
                let have = metadata.len().min(size - 1);
                index.restore_partial(owner, hash, size, have, due);
            }
        }
        Ok(index)
    }

    /// So many bytes of a whole file.
    pub(super) fn read(&self, hash: &Hash, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.whole(hash))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut data = vec![0; bytes];
        file.read_exact(&mut data)?;
        Ok(data)
    }

    /// Whether it has them.
    #[cfg(feature = "cluster")]
    pub(super) fn has(&self, hash: &Hash, offset: u64, bytes: usize) -> bool {
        let metadata = fs::metadata(self.whole(hash));
        let end = offset.saturating_add(bytes as u64);
        metadata.is_ok_and(|metadata| metadata.len() >= end)
    }

    fn list(&self, part: &str) -> io::Result<Vec<(String, fs::Metadata)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.0.join(part))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let (Ok(name), true) = (entry.file_name().into_string(), metadata.is_file()) {
                found.push((name, metadata));
            }
        }
        Ok(found)
    }
}

/// The thread.
pub(super) struct FileThread(JoinHandle<()>);

impl FileThread {
    /// Starts it, for a hub that has this queue.
    ///
    /// # Errors
    ///
    /// The system starts no thread.
    pub(super) fn start(
        folder: Folder,
        hub: &Arc<Hub>,
        queue: &Arc<FileQueue>,
    ) -> io::Result<Self> {
        let mut disk = Disk {
            folder,
            uploads: BTreeMap::new(),
        };
        let (hub, queue) = (Arc::clone(hub), Arc::clone(queue));
        let spawned = thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                let mut done = Vec::new();
                loop {
                    let tasks = queue.next();
                    if tasks.is_empty() {
                        break;
                    }
                    for task in tasks {
                        disk.run(task, &hub, &mut done);
                    }
                    hub.files_done(&mut done);
                }
            });
        Ok(Self(spawned?))
    }

    /// Waits until it has done what is due, behind [`FileQueue::close`].
    pub(super) fn join(self) {
        if self.0.join().is_err() {
            error!("the thread of the files has panicked");
        }
    }
}

struct Disk {
    folder: Folder,
    /// The upload of each connection, as far as it has come.
    uploads: BTreeMap<usize, Upload>,
}

struct Upload {
    owner: FileOwner,
    hash: Hash,
    size: u64,
    /// How much of it is written, in bytes, and hashed.
    end: u64,
    hasher: Sha256,
    /// It stays open for as long as no more than [`OPEN_FILES_MAX`] are.
    file: Option<File>,
    /// Up to where the system was asked to write it to the disk, in bytes.
    flushed: u64,
}

impl Upload {
    /// Adds a piece at its end.
    fn append(&mut self, file: &mut File, data: &[u8]) -> io::Result<()> {
        file.write_all(data)?;
        self.hasher.update(data);
        self.end += data.len() as u64;
        let unflushed = self.end - self.flushed;
        if unflushed >= FLUSH_BYTES {
            // The advice has the system begin to write, and waits for nothing.
            let (from, bytes) = (self.flushed.cast_signed(), unflushed.cast_signed());
            let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
            let _ = posix_fadvise(&*file, from, bytes, advice);
            self.flushed = self.end;
        }
        Ok(())
    }
}

impl Disk {
    /// Does what is to be done. What became of it goes to `done`.
    fn run(&mut self, task: FileTask, hub: &Hub, done: &mut Vec<FileDone>) {
        match task {
            FileTask::Write {
                index,
                serial,
                owner,
                hash,
                size,
                offset,
                data,
            } => {
                let written = self.write(index, &owner, hash, size, offset, &data);
                let written = written.unwrap_or_else(|error| {
                    warn!("cannot keep a file: {error}");
                    // What was written in part would be taken for whole.
                    let _ = fs::remove_file(self.folder.part(&hash, size, &owner));
                    Written::Failed
                });
                done.push(FileDone::Written(WrittenPiece {
                    index,
                    serial,
                    owner,
                    hash,
                    size,
                    offset,
                    bytes: data.len() as u64,
                    written,
                }));
            }
            FileTask::Read(read) => {
                let bytes = read.bytes + read.ahead_bytes;
                match self.folder.read(&read.hash, read.offset, bytes) {
                    Ok(data) => was_read(read, &data, done),
                    Err(error) => {
                        let fetched = match error.kind() {
                            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                                hub.fetch_piece(read)
                            }
                            _ => Err((read, NotRead::Here)),
                        };
                        if let Err((read, not_read)) = fetched {
                            if not_read == NotRead::Here {
                                warn!("cannot read a file: {error}");
                            }
                            done.push(FileDone::Read(read, Err(not_read)));
                        }
                    }
                }
                // What was read along takes memory.
                if let Some(FileDone::Ahead(..)) = done.last() {
                    hub.files_done(done);
                }
            }
            FileTask::Forget { index } => {
                self.uploads.remove(&index);
            }
            FileTask::Remove(removal) => {
                // The hub knows what was written before.
                hub.files_done(done);
                if let Removal::Whole { hash, .. } = &removal
                    && hub.has_file(hash)
                {
                    return; // It was uploaded again meanwhile.
                }
                if let Err(error) = self.remove(&removal) {
                    warn!("cannot remove a file: {error}");
                }
            }
        }
    }

    /// Writes a piece behind the others, and checks the hash behind the last one.
    fn write(
        &mut self,
        index: usize,
        owner: &FileOwner,
        hash: Hash,
        size: u64,
        offset: u64,
        data: &[u8],
    ) -> io::Result<Written> {
        let path = self.folder.part(&hash, size, owner);
        let upload = self.uploads.remove(&index).filter(|upload| {
            let is_same = upload.owner == *owner && upload.hash == hash && upload.size == size;
            is_same && upload.end == offset
        });
        let (mut upload, mut file) = match upload {
            Some(mut upload) => match upload.file.take() {
                Some(file) => (upload, file),
                None => (upload, open_part(&path, offset)?),
            },
            None => {
                let mut file = open_part(&path, offset)?;
                let hasher = hash_of(&mut file, offset)?;
                let upload = Upload {
                    owner: owner.clone(),
                    hash,
                    size,
                    end: offset,
                    hasher,
                    file: None,
                    flushed: offset,
                };
                (upload, file)
            }
        };
        upload.append(&mut file, data)?;
        if upload.end < size {
            upload.file = Some(file);
            self.close_one();
            self.uploads.insert(index, upload);
            return Ok(Written::Part);
        }
        // CHAT-FILE-6
        if upload.hasher.finalize()[..] != hash {
            fs::remove_file(&path)?;
            return Ok(Written::Mismatch);
        }
        file.sync_all()?;
        // The owner first: a file without one is kept for nobody.
        File::create(self.folder.owner(&hash, owner))?;
        fs::rename(&path, self.folder.whole(&hash))?;
        for part in ["owner", "whole"] {
            File::open(self.folder.0.join(part))?.sync_all()?;
        }
        Ok(Written::Whole)
    }

    /// Closes the file of an upload if as many are open as may be.
    fn close_one(&mut self) {
        let mut open = self.uploads.values_mut().filter(|it| it.file.is_some());
        if let Some(upload) = open.nth(OPEN_FILES_MAX - 1) {
            upload.file = None;
        }
    }

    fn remove(&self, removal: &Removal) -> io::Result<()> {
        let paths = match removal {
            Removal::Whole { hash, owners } => {
                let owners = owners.iter().map(|owner| self.folder.owner(hash, owner));
                [self.folder.whole(hash)]
                    .into_iter()
                    .chain(owners)
                    .collect()
            }
            Removal::Partial { owner, hash, size } => vec![self.folder.part(hash, *size, owner)],
        };
        for path in paths {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What was read for a piece and those behind it goes to `done`.
pub(super) fn was_read(read: FileRead, data: &[u8], done: &mut Vec<FileDone>) {
    let pieces = data.chunks(read.bytes.max(1));
    let offsets = (read.offset..).step_by(read.bytes.max(1));
    let mut frames = pieces.zip(offsets).map(|(data, offset)| {
        let message = Some(Message::FileData(wire::FileData {
            sha256: read.hash.to_vec(),
            offset,
            data: data.to_vec(),
        }));
        let mut frame = Vec::new();
        frame::encode(&ServerEnvelope { message }, &mut frame);
        frame
    });
    let frame = frames.next().ok_or(NotRead::Here);
    let ahead: Vec<_> = frames.collect();
    done.push(FileDone::Read(read.clone(), frame));
    if !ahead.is_empty() {
        done.push(FileDone::Ahead(read, ahead));
    }
}

/// Opens the file of an upload that has so many bytes.
fn open_part(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?;
    if file.metadata()?.len() < bytes {
        return Err(io::Error::other("a part of it is gone"));
    }
    // A piece that was written before the server was killed, and not counted.
    file.set_len(bytes)?;
    Ok(file)
}

/// When a file was last written, in milliseconds since 1970; not in the future.
fn changed_ms(metadata: &fs::Metadata, now_unix_ms: i64) -> i64 {
    let changed = metadata.modified().ok();
    let changed = changed.and_then(|it| it.duration_since(UNIX_EPOCH).ok());
    changed
        .map_or(0, |it| it.as_millis() as i64)
        .min(now_unix_ms)
}

/// The hash of the first `bytes` of a file.
fn hash_of(file: &mut File, bytes: u64) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut rest = file.take(bytes);
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok(hasher),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Hash> {
    let is_hex = digits.len() == 64
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let mut hash = Hash::default();
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    is_hex.then_some(hash)
}
