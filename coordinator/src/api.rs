//! The gRPC services for clients: requests become events and queries, answers become replies.

pub mod convert;
