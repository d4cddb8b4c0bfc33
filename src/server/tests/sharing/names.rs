//! Clients that come with keys, prove them or others, and are cut off.

use super::*;

impl World {
    /// A client registers, perhaps with its key, and perhaps proves another one.
    pub(super) async fn register(&mut self, index: usize) {
        let name = self.rng.choice(NAMES).unwrap_or("ann").to_owned();
        let key = self.clients[index].key;
        let proves = key.map(|key| match self.rng.u8(0..6) {
            0 => key + 1,
            _ => key,
        });
        let mut peer = Peer::connect(&self.hub, 1 << 20);
        let capabilities = [Capability::Receipts, Capability::Direct, Capability::Files];
        peer.send(Sent::Register(Register {
            name: name.clone(),
            capabilities: capabilities.map(i32::from).to_vec(),
            key: key.map_or(Vec::new(), |key| public_key(key).as_bytes().to_vec()),
            ..Register::default()
        }))
        .await;
        let owner = self.room.owners.get(&fold(&name)).copied();
        if owner.is_some() && owner != key {
            self.events.insert("NAME_OWNED");
            return peer.expect_error(ErrorCode::NameOwned).await; // CHAT-ID-8
        }
        if let Some(proves) = proves {
            let Some(Message::Challenge(challenge)) = peer.next().await else {
                panic!("CHAT-ID-2");
            };
            assert_eq!(challenge.nonce.len(), 32, "CHAT-ID-2");
            let signed = signed_bytes(&challenge.nonce, &challenge.epoch, &name);
            let signature = key_pair(proves).sign(&signed).as_ref().to_vec();
            peer.send(Sent::Proof(Proof { signature })).await;
            if Some(proves) != key {
                self.events.insert("PROOF_WRONG");
                return peer.expect_error(ErrorCode::ProofWrong).await; // CHAT-ID-5
            }
        }
        if let Some(&holder) = self.room.holders.get(&fold(&name)) {
            if owner.is_none() {
                self.events.insert("NAME_IN_USE");
                return peer.expect_error(ErrorCode::NameInUse).await; // CHAT-NAME-3
            }
            // CHAT-ID-9
            self.events.insert("takes its name back");
            if let Some(holder) = holder {
                self.replaced(holder).await;
            }
            self.room.ghosts.remove(&fold(&name));
        }
        let Some(Message::Registered(registered)) = peer.next().await else {
            panic!("CHAT-NAME-6");
        };
        assert_eq!(registered.seq, self.room.seq, "CHAT-ORD-6");
        self.events.insert("registers");
        self.room.holders.insert(fold(&name), Some(index));
        if let Some(key) = key {
            self.room.owners.insert(fold(&name), key); // CHAT-ID-10
        }
        let client = &mut self.clients[index];
        client.name = name;
        client.peer = Some(peer);
        client.after_seq = registered.seq;
        client.awaits_disk = None;
        client.directs = 0;
    }

    /// The owner of a name has ended the session of a client.
    pub(super) async fn replaced(&mut self, index: usize) {
        match self.answer(index).await {
            Message::Error(error) => {
                let told = (error.code(), error.ends_session);
                assert_eq!(told, (ErrorCode::Replaced, true), "CHAT-ID-9");
            }
            message => panic!("CHAT-ID-9: {message:?}"),
        }
        let client = &mut self.clients[index];
        let mut peer = client.peer.take().expect("it holds a name");
        assert_eq!(peer.next().await, None, "CHAT-ERR-1");
    }

    /// A connection is cut, perhaps inside a frame.
    pub(super) async fn cut(&mut self, index: usize) {
        let Some(mut peer) = self.clients[index].peer.take() else {
            return;
        };
        let chat = encoded(chat(200));
        let sent = self.rng.usize(0..chat.len());
        let _ = peer.stream.write_all(&chat[..sent]).await;
        drop(peer);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let client = &mut self.clients[index];
        let name = fold(&client.name);
        if let Some((hash, count)) = client.awaits_disk.take() {
            self.events.insert("cut in an upload");
            self.room.holders.insert(name.clone(), None);
            let owner = self.owner(index);
            self.room.ghosts.insert(name, (owner, hash, count));
            return;
        }
        self.room.holders.remove(&name);
        assert!(
            !self
                .hub
                .names()
                .iter()
                .any(|name| fold(name) == fold(&self.clients[index].name)),
            "CHAT-LEAVE-5"
        );
    }
}
