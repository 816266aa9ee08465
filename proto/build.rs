//! Compiles the .proto files with protox, so that building muster needs no protoc.

use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 8] = [
    "muster/v1/admin.proto",
    "muster/v1/agent.proto",
    "muster/v1/attempt.proto",
    "muster/v1/channel.proto",
    "muster/v1/job.proto",
    "muster/v1/manifest.proto",
    "muster/v1/policy.proto",
    "muster/v1/rollout.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        // Maps in a fixed order: equal messages have equal bytes, so that a submission can be compared by hash.
        .btree_map(".")
        .codec_path("crate::codec::LeanCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
