pub mod config;
mod host;
mod journal;
mod metrics_file;
pub mod outcome;
pub mod plan;
pub mod policy;
