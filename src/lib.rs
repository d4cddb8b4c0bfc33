//! A chat whose contract is a schema.

pub mod engine;
pub mod frame;
pub mod limits;
pub mod log;
pub mod server;
pub mod wire;
