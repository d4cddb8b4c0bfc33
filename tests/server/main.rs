//! The server program over sockets: its answers to right and wrong clients.

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
