//! A NATS server in operator mode, as hosted ones run: whoever connects shows a JWT that its
//! account has signed, and proves its key. What the tool `nsc` makes, for one user.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

/// The files of an operator with one account and one user.
pub struct Operator {
    /// The configuration of nats-server.
    pub config: String,
    /// The credentials of the user.
    pub credentials: String,
}

impl Operator {
    /// Writes the files into a folder.
    pub fn within(folder: &Path) -> Self {
        let (operator, user) = (KeyPair::new_operator(), KeyPair::new_user());
        let [account, system] = [(); 2].map(|()| KeyPair::new_account());
        let no_limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1,
            "leaf": -1, "wildcards": true,
        });
        let mut stores = no_limits.clone();
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            stores[limit] = json!(-1);
        }
        let of_account = |limits: Value| json!({"type": "account", "version": 2, "limits": limits});
        let own = jwt(
            &operator,
            &operator,
            json!({"type": "operator", "version": 2}),
        );
        let of_user = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        let config = format!(
            "operator: {own}\nsystem_account: {system}\nresolver: MEMORY\nresolver_preload: {{\n\
             {chat}: {chat_jwt}\n{system}: {system_jwt}\n}}\n",
            chat = account.public_key(),
            chat_jwt = jwt(&operator, &account, of_account(stores)),
            system = system.public_key(),
            system_jwt = jwt(&operator, &system, of_account(no_limits)),
        );
        let credentials = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(&account, &user, of_user),
            user.seed().expect("it was just made"),
        );
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).expect("there is space");
            path.to_str().expect("a path in UTF-8").to_owned()
        };
        Self {
            config: write("operator.conf", config),
            credentials: write("node.creds", credentials),
        }
    }
}

/// What `by` says about `subject`, signed.
fn jwt(by: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let claims = json!({
        "jti": "any", "iat": 1_700_000_000, "iss": by.public_key(), "sub": subject.public_key(),
        "name": "any", "nats": nats,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = by.sign(signed.as_bytes()).expect("it has its secret");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
