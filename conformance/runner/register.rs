//! Registering: the frames by which the suite's own members come and go.

use serde_json::json;

use crate::{
    admission::Admission,
    framing,
    messages::{self, Envelope},
    transcript::word,
};

/// Every capability of the schema, in lower case.
pub fn all_capabilities() -> Vec<String> {
    messages::enum_values("chat.v1.Capability")
        .iter()
        .map(|c| c.trim_start_matches("CAPABILITY_").to_ascii_lowercase())
        .filter(|c| c != "unspecified")
        .collect()
}

/// A frame with a Register.
pub fn register(
    name: &str,
    capabilities: &[String],
    admission: &Admission,
) -> Result<Vec<u8>, String> {
    let capabilities = capabilities
        .iter()
        .map(|c| word::capability(c))
        .collect::<Result<Vec<_>, _>>()?;
    let mut body = json!({ "name": name });
    if !capabilities.is_empty() {
        body["capabilities"] = json!(capabilities);
    }
    if let Some(password) = &admission.password {
        body["password"] = json!(password);
    }
    let envelope = messages::encode(Envelope::Client, "register", &body, &[], &[])?;
    Ok(framing::frame(&envelope))
}

/// A frame with a Leave.
pub fn leave() -> Result<Vec<u8>, String> {
    let envelope = messages::encode(Envelope::Client, "leave", &json!({}), &[], &[])?;
    Ok(framing::frame(&envelope))
}
