//! The room on disk: what is kept through ends of every kind, and what is refused.

mod epochs;
mod operator;
mod pages;
mod pruning;
mod refusals;
mod speed;
mod support;
