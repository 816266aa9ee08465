//! Real coordinators and agents in one process: the wire, the store and the streams between them, with
//! engines and a registry in memory.
#![expect(
    clippy::unwrap_used,
    reason = "a request that is refused is a failed test"
)]

mod agents;
mod cancel;
mod channels;
mod doctor;
mod lists;
mod log_streams;
mod manifests;
mod partition;
mod replay;
mod restart;
mod restore;
mod retries;
mod run;
mod services;
mod submit;
mod watch;
