//! A chat whose contract is a schema.

pub mod frame;
pub mod wire;
