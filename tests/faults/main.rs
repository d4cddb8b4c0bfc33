//! The real server over real sockets with faults in between, and what happens to
//! either side when the other is killed.

#[path = "../support/mod.rs"]
mod support;

mod between;
mod killed;
mod proxy;
