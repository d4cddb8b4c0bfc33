//! The room on disk: what is kept through ends of every kind, and what is refused.

mod child;
mod cluster;
mod epochs;
#[cfg(target_os = "linux")]
mod faults;
mod killed;
mod operator;
mod pages;
mod pruning;
mod refusals;
mod speed;
mod support;
mod torn;
