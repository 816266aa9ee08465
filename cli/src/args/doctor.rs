//! Flags of `muster doctor`.

use std::path::PathBuf;

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Only this host, without the coordinator
    #[arg(long)]
    pub(crate) local: bool,
    /// A data directory of a daemon on this host; the usual ones are looked at anyway
    #[arg(long = "data-dir", value_name = "DIR")]
    pub(crate) data_dirs: Vec<PathBuf>,
    /// Also write what helps to find out what is wrong into a new tar, without secrets
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// A log file whose end goes into the bundle
    #[arg(long = "log-file", value_name = "FILE", requires = "bundle")]
    pub(crate) log_files: Vec<PathBuf>,
}
