//! A chat whose contract is a schema.

pub mod client;
pub mod frame;
pub mod wire;
