//! The server program over sockets: its answers to right and wrong clients.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod capabilities;
mod chatting;
mod cli;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(all(feature = "cluster", feature = "store"))]
mod cluster_data;
#[cfg(all(feature = "cluster", feature = "store"))]
mod cluster_disk;
#[cfg(feature = "cluster")]
mod cluster_faults;
#[cfg(all(feature = "cluster", feature = "store"))]
mod cluster_files;
#[cfg(all(feature = "cluster", feature = "store"))]
mod cluster_past;
mod configuration;
mod control;
mod data;
mod files;
mod frames;
mod half_open;
mod hostile;
mod lifecycle;
mod logs;
mod metrics;
#[cfg(feature = "cluster")]
mod nats_operator;
mod proxy;
mod quic;
mod registering;
mod reload;
mod signals;
mod slow;
mod suspended;
mod systemd;
mod tls;
mod web;
mod websocket_mutants;
