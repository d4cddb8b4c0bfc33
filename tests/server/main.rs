//! The real server over real sockets: what it says to each thing a client may
//! do, right or wrong.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod asleep;
mod capabilities;
mod chatting;
mod frames;
mod hostile;
mod operations;
mod registering;
mod signals;
mod slow;
mod story;
