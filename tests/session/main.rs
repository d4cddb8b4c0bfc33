//! Sessions and the room as scripts: events go in, effects come out, as snapshots that
//! were reviewed against the schema.

mod closing;
mod directs;
mod file_index;
mod identity;
mod keepalive;
mod limits;
mod members;
mod messages;
mod name_reclaim;
mod register;
mod script;
