//! What a program of a release makes of bytes: its schema alone says what they mean.

use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;

/// Values that differ from run to run, or that are for people.
const VOLATILE: [&str; 4] = ["epoch", "timeUnixMs", "detail", "retryAfterMs"];

pub struct Schema(DescriptorPool);

impl Schema {
    /// The schema in this folder.
    pub fn read(folder: &str) -> Self {
        let mut compiler = protox::Compiler::new([folder]).expect("a folder");
        compiler.open_file("chat.proto").expect("a schema");
        Self(compiler.descriptor_pool())
    }

    /// What a client says with a frame.
    pub fn client(&self, body: &[u8]) -> Result<Value, String> {
        self.decode("chat.v1.ClientEnvelope", body)
    }

    /// What a server says with a frame. What an old program does not know is not in
    /// it.
    pub fn server(&self, body: &[u8]) -> Result<Value, String> {
        self.decode("chat.v1.ServerEnvelope", body)
    }

    /// As [`Schema::client`], for people: what is sent may be anything.
    pub fn client_shown(&self, body: &[u8]) -> String {
        match self.client(body) {
            Ok(value) => value.to_string(),
            Err(_) => "does not parse".to_owned(),
        }
    }

    fn decode(&self, name: &str, body: &[u8]) -> Result<Value, String> {
        let message = self.0.get_message_by_name(name).expect("in the schema");
        let message = DynamicMessage::decode(message, body).map_err(|error| error.to_string())?;
        serde_json::to_value(message).map_err(|error| error.to_string())
    }
}

/// What a server says, without what differs from run to run: its presence stays, its
/// value does not. Limits and the tokens of its pings are the server's own.
pub fn steady(mut value: Value) -> Value {
    if let Some(token) = value.pointer_mut("/ping/token") {
        *token = "...".into();
    }
    steady_in(value, false)
}

fn steady_in(value: Value, is_volatile: bool) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let is_volatile =
                    is_volatile || name == "limits" || VOLATILE.contains(&name.as_str());
                (name, steady_in(value, is_volatile))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ if is_volatile => "...".into(),
        value => value,
    }
}
