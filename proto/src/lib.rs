//! The wire: messages, clients and servers of `muster.v1`, generated from the `.proto` files.
//!
//! The `.proto` files are the reference for every field: units, ranges and defaults stand there.

mod codec;

/// Package `muster.v1`.
#[expect(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("muster.v1");
}

/// The encoded `FileDescriptorSet` of all services, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Whether a call failed because its connection broke: the coordinator's own answers have no cause on this side.
#[must_use]
pub fn is_broken(status: &tonic::Status) -> bool {
    std::error::Error::source(status).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_made_on_this_side_has_a_broken_connection() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(is_broken(&tonic::Status::from_error(reset.into())));
        assert!(!is_broken(&tonic::Status::unavailable("it is stopping")));
    }
}
