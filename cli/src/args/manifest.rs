//! Manifests.

#[derive(Debug, clap::Args)]
pub(crate) struct ManifestArgs {
    /// A file, a directory with .yaml and .yml files, or - for stdin; can be given several times
    #[arg(short, long = "file", value_name = "FILE|DIR|-", required = true)]
    pub(crate) files: Vec<String>,
}
