//! Files: uploads piece by piece, what the disk does with them, and who may fetch them.

use super::*;

impl Part {
    fn end(&self) -> u64 {
        self.have + self.writing
    }

    /// A piece is sent (CHAT-FILE-5).
    fn take(&mut self, offset: u64, bytes: u64) -> Result<(), ErrorCode> {
        let end = self.end();
        if offset != end || bytes == 0 || bytes > self.size - end {
            return Err(ErrorCode::FileMismatch);
        }
        self.writing += bytes;
        Ok(())
    }
}

impl World {
    /// A client asks how far an upload has come, or begins it (CHAT-FILE-3).
    pub(super) async fn put(&mut self, index: usize) {
        let (content, hash) = self.any_content();
        let wrong = u64::from(self.rng.u8(0..10) == 0);
        let size = content.len() as u64 + wrong;
        let name = self.owner(index);
        let room = &mut self.room;
        let whole = room.whole.get(&hash);
        let expected = match whole.filter(|whole| whole.uploaders.contains(&name)) {
            Some(whole) if whole.size == size => Ok(size),
            Some(_) => Err(ErrorCode::FileMismatch),
            None => {
                let key = (name, hash);
                let part = room.parts.get(&key).filter(|part| part.size == size);
                let have = part.map(|part| part.have);
                if have.is_none() {
                    let part = Part {
                        size,
                        have: 0,
                        writing: 0,
                    };
                    room.parts.insert(key, part);
                }
                Ok(have.unwrap_or(0))
            }
        };
        let sha256 = hash.to_vec();
        self.ask(index, Sent::PutFile(PutFile { sha256, size }))
            .await;
        self.expect_state(index, hash, expected).await;
    }

    /// A client sends a piece, mostly the next one, and mostly of the right file.
    pub(super) async fn upload(&mut self, index: usize) {
        let (mut content, mut hash) = self.any_content();
        let name = self.owner(index);
        let begun = self.room.parts.keys().find(|(member, _)| *member == name);
        if let Some(&(_, begun)) = begun.filter(|_| self.rng.u8(0..8) > 0) {
            let mut contents = self.contents.iter();
            let found = contents.find(|content| hash_of(content) == begun);
            content.clone_from(found.expect("it is one of them"));
            hash = begun;
        }
        let key = (name, hash);
        let part = self.room.parts.get(&key);
        let have = part.map_or(0, |part| part.have as usize);
        let mut offset = match self.rng.u8(0..12) {
            0 => self.rng.usize(0..content.len()),
            _ => have.min(content.len()),
        };
        // Not behind what another connection of the same member has sent: whose pieces are
        // written then is not known here.
        if part.is_some_and(|part| part.writing > 0 && part.end() == offset as u64) {
            offset = have;
        }
        let end = content.len().min(offset + self.rng.usize(1..=CHUNK_BYTES));
        let mut data = content[offset..end].to_vec();
        if self.rng.u8(0..12) == 0 {
            data.fill(0);
        }
        let bytes = data.len() as u64;
        let offset = offset as u64;
        let expected = match self.room.parts.get_mut(&key) {
            None => Err(ErrorCode::FileUnknown),
            Some(part) => part.take(offset, bytes),
        };
        let sha256 = hash.to_vec();
        let piece = FileData {
            sha256,
            offset,
            data,
        };
        self.ask(index, Sent::FileData(piece)).await;
        match expected {
            Ok(()) => {
                let more = self.upload_more(index, &key, (&content, end)).await;
                self.clients[index].awaits_disk = Some((hash, 1 + more));
            }
            Err(code) => self.expect_state(index, hash, Err(code)).await,
        }
    }

    /// A client sends more pieces without waiting for the answer. Returns how many.
    async fn upload_more(
        &mut self,
        index: usize,
        key: &(String, Hash),
        (content, mut begin): (&[u8], usize),
    ) -> usize {
        let mut count = 0;
        while self.rng.bool() {
            let end = content.len().min(begin + self.rng.usize(1..=CHUNK_BYTES));
            let part = self.room.parts.get_mut(key).expect("it was begun");
            let (offset, bytes) = (begin as u64, (end - begin) as u64);
            if part.take(offset, bytes).is_err() {
                break;
            }
            let piece = FileData {
                sha256: key.1.to_vec(),
                offset,
                data: content[begin..end].to_vec(),
            };
            let peer = self.clients[index].peer.as_mut().expect("it is there");
            peer.send(Sent::FileData(piece)).await;
            self.events.insert("several parts at once");
            begin = end;
            count += 1;
        }
        count
    }

    /// The disk does one thing.
    pub(super) async fn write(&mut self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let Some(task) = self.queue.take() else {
            return;
        };
        let FileTask::Write {
            index: connection,
            serial,
            owner,
            hash,
            size,
            offset,
            data,
        } = task
        else {
            return self.read_disk(task);
        };
        let member = match &owner {
            FileOwner::Name(name) => fold(name.as_str()),
            FileOwner::Key(id) => {
                let key = (0..3).find(|&key| public_key(key).sender_id() == *id);
                format!("@{}", key.expect("a key of a client"))
            }
        };
        let key = (member.clone(), hash, size);
        let part = self.disk.parts.entry(key.clone()).or_default();
        // Behind a piece that failed.
        let is_behind = (part.len() as u64) < offset;
        if is_behind {
            self.events.insert("a part behind one that failed");
        }
        let has_failed = is_behind || self.rng.u8(0..16) == 0;
        part.truncate(offset as usize);
        part.extend_from_slice(&data);
        let is_last = part.len() as u64 == size;
        let written = match (has_failed, is_last) {
            (true, _) => Written::Failed,
            (false, false) => Written::Part,
            (false, true) if hash_of(part) == hash => Written::Whole,
            (false, true) => Written::Mismatch,
        };
        if written != Written::Part {
            let part = self.disk.parts.remove(&key).unwrap_or_default();
            if written == Written::Whole {
                self.disk.whole.insert(hash, part);
            }
        }
        let bytes = data.len() as u64;
        let piece = WrittenPiece {
            index: connection,
            serial,
            owner,
            hash,
            size,
            offset,
            bytes,
            written,
        };
        let expected = self.written(&member, &piece);
        self.hub.files_done(&mut vec![FileDone::Written(piece)]);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let sent = (member, hash);
        let mut ghosts = self.room.ghosts.iter_mut();
        let ghost = ghosts.find(|(_, (owner, hash, _))| *owner == sent.0 && *hash == sent.1);
        if let Some((ghost, (_, _, count))) = ghost {
            *count -= 1;
            if *count == 0 {
                let ghost = ghost.clone();
                self.room.ghosts.remove(&ghost);
                self.room.holders.remove(&ghost);
            }
        }
        // Its session may be another by now.
        let waiting = (0..CLIENTS).find(|&it| {
            self.clients[it].peer.is_some()
                && self.clients[it]
                    .awaits_disk
                    .is_some_and(|(it, _)| it == hash)
                && self.owner(it) == sent.0
        });
        if let Some(index) = waiting {
            let waits = &mut self.clients[index].awaits_disk;
            *waits = waits.map(|(hash, count)| (hash, count - 1));
            waits.take_if(|(_, count)| *count == 0);
            self.expect_state(index, hash, expected).await;
        }
    }

    /// What becomes of a piece in the room.
    pub(super) fn written(&mut self, member: &str, piece: &WrittenPiece) -> Result<u64, ErrorCode> {
        let &WrittenPiece {
            hash,
            size,
            offset,
            bytes,
            written,
            ..
        } = piece;
        let key = (member.to_owned(), hash);
        let part = self.room.parts.get_mut(&key);
        let is_due =
            |part: &&mut Part| part.size == size && part.have == offset && part.writing >= bytes;
        let Some(part) = part.filter(is_due) else {
            return Err(ErrorCode::FileUnknown);
        };
        if written == Written::Part {
            self.events.insert("a part");
            part.writing -= bytes;
            part.have += bytes;
            return Ok(part.have);
        }
        self.room.parts.remove(&key);
        match written {
            Written::Whole => {
                self.events.insert("a whole file");
                let whole = self.room.whole.entry(hash).or_default();
                whole.size = size;
                whole.uploaders.insert(member.to_owned());
                Ok(size)
            }
            Written::Mismatch => {
                self.events.insert("another file than its hash");
                Err(ErrorCode::FileMismatch)
            }
            _ => {
                self.events.insert("the disk fails");
                Err(ErrorCode::FilesFull)
            }
        }
    }

    pub(super) fn read_disk(&mut self, task: FileTask) {
        let FileTask::Read(read) = task else {
            return; // A connection is gone.
        };
        let begin = read.offset as usize;
        let end = begin + read.bytes + read.ahead_bytes;
        let data = &self.disk.whole[&read.hash][begin..end];
        let mut done = Vec::new();
        was_read(read, data, &mut done);
        // What is read along may be had, or not.
        if done.len() > 1 {
            match self.rng.bool() {
                true => _ = self.events.insert("pieces read ahead"),
                false => done.truncate(1),
            }
        }
        self.hub.files_done(&mut done);
    }

    /// Whether a member may fetch a file (CHAT-FILE-4).
    pub(super) fn may_fetch(&self, index: usize, hash: &Hash) -> bool {
        let client = &self.clients[index];
        let name = self.owner(index);
        self.room.whole.get(hash).is_some_and(|whole| {
            whole.uploaders.contains(&name)
                || whole.recipients.contains(&name)
                || whole.last_seq > client.after_seq
        })
    }

    pub(super) fn file(&mut self) -> (File, Hash) {
        let (content, hash) = self.any_content();
        let file = File {
            sha256: hash.to_vec(),
            size: content.len() as u64,
            name: "a file".to_owned(),
        };
        (file, hash)
    }

    /// A client says something about a file, which may not be there (CHAT-FILE-1).
    pub(super) async fn name_file(&mut self, index: usize) {
        let (file, hash) = self.file();
        let id = self.id();
        let chat = Chat {
            text: "look".to_owned(),
            files: vec![file],
            id,
            ..Chat::default()
        };
        let may = self.may_fetch(index, &hash);
        self.ask(index, Sent::Chat(chat)).await;
        if !may {
            self.events.insert("names half a file");
            return self.expect_refusal(index, ErrorCode::FileUnknown, id).await;
        }
        self.events.insert("names a file");
        self.room.seq += 1;
        let whole = self.room.whole.get_mut(&hash).expect("it is whole");
        whole.last_seq = self.room.seq;
        match self.answer(index).await {
            Message::Receipt(receipt) => {
                assert_eq!(
                    (receipt.id, receipt.seq),
                    (id, self.room.seq),
                    "CHAT-RCPT-1"
                );
            }
            message => panic!("CHAT-FILE-1: {message:?}"),
        }
    }

    /// A client gives somebody a file.
    pub(super) async fn give_file(&mut self, index: usize) {
        let (file, hash) = self.file();
        let peer = self.rng.choice(NAMES).unwrap_or("ann").to_owned();
        let id = self.id();
        let direct = Direct {
            peer: peer.clone(),
            text: "for you".to_owned(),
            id,
            files: vec![file],
            ..Direct::default()
        };
        let may = self.may_fetch(index, &hash);
        self.ask(index, Sent::Direct(direct)).await;
        let holder = self.room.holders.get(&fold(&peer)).copied();
        match (may, holder) {
            (false, _) => self.expect_refusal(index, ErrorCode::FileUnknown, id).await,
            (true, None) => {
                self.expect_refusal(index, ErrorCode::NotReachable, id)
                    .await
            }
            (true, Some(holder)) => {
                // A connection that is gone may have been any of them.
                let owner = holder.map(|holder| self.owner(holder));
                let ghost = self
                    .room
                    .ghosts
                    .get(&fold(&peer))
                    .map(|ghost| ghost.0.clone());
                let owner = owner.or(ghost).expect("it has a name");
                let whole = self.room.whole.get_mut(&hash).expect("it is whole");
                whole.recipients.insert(owner);
                match self.answer(index).await {
                    Message::Receipt(receipt) => {
                        assert_eq!((receipt.id, receipt.seq), (id, 0), "CHAT-DM-3, CHAT-DM-7");
                    }
                    message => panic!("CHAT-DM-7: {message:?}"),
                }
            }
        }
    }

    /// A client fetches a file from somewhere on (CHAT-FILE-4, CHAT-FILE-10).
    pub(super) async fn fetch(&mut self, index: usize) {
        let (mut content, hash) = self.any_content();
        let offset = self.rng.usize(0..content.len());
        let may = self.may_fetch(index, &hash);
        let get = GetFile {
            sha256: hash.to_vec(),
            offset: offset as u64,
            length: 0,
        };
        self.ask(index, Sent::GetFile(get)).await;
        if !may {
            self.events.insert("fetches what is not for it");
            return self
                .expect_state(index, hash, Err(ErrorCode::FileUnknown))
                .await;
        }
        self.events.insert("fetches a file");
        let mut next = offset;
        if offset + CHUNK_BYTES + 10 < content.len() && self.rng.bool() {
            // Another GetFile takes its place, behind the piece that the disk is reading.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let get = GetFile {
                sha256: hash.to_vec(),
                offset: (offset + CHUNK_BYTES) as u64,
                length: 10,
            };
            self.ask(index, Sent::GetFile(get)).await;
            self.events.insert("fetches something else instead");
            content.truncate(offset + CHUNK_BYTES + 10);
        }
        while next < content.len() {
            // Other pieces may be before it in the queue of the disk.
            let peer = self.clients[index].peer.as_mut().expect("it is there");
            match timeout(Duration::from_millis(1), peer.next()).await {
                Err(_) => Box::pin(self.write()).await,
                Ok(Some(Message::FileData(piece))) => {
                    assert_eq!(piece.offset, next as u64, "CHAT-FILE-10");
                    let end = next + piece.data.len();
                    assert!(piece.data.len() <= CHUNK_BYTES, "CHAT-FILE-10");
                    assert!(
                        end <= content.len(),
                        "CHAT-FILE-10: more than was asked for"
                    );
                    assert!(
                        piece.data == content[next..end],
                        "CHAT-FILE-10: other bytes"
                    );
                    next = end;
                }
                Ok(Some(message)) => self.received(index, message),
                Ok(None) => panic!("CHAT-FILE-10: the connection ends"),
            }
        }
    }
}
