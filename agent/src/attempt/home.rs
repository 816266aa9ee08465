//! What the first line of an attempt's journal says of it, besides the offer.

use muster_proto::v1 as pb;
use prost::Message as _;

use crate::journal::{Entry, Heard, History};

/// Where the attempt belongs.
pub(super) struct Home {
    /// The container's.
    pub name: String,
    pub cluster: String,
    pub term: u64,
    pub init_key: Option<String>,
    /// Its first journal was lost.
    pub adopted: bool,
    /// The last contact with the coordinator before it was accepted.
    pub heard: Option<Heard>,
}

impl Home {
    pub(super) fn found(history: &History) -> Self {
        Self {
            name: history.container.clone(),
            cluster: history.cluster.clone(),
            term: history.term,
            init_key: history.init_key.clone(),
            adopted: history.adopted,
            heard: history.heard.clone(),
        }
    }

    /// The journal's first line.
    pub(super) fn accepted(&self, offer: &pb::Offer) -> Entry {
        let Self {
            name,
            cluster,
            term,
            init_key,
            adopted,
            heard,
        } = self;
        Entry::Accepted {
            offer: offer.encode_to_vec(),
            container: name.clone(),
            cluster: cluster.clone(),
            term: *term,
            init_key: init_key.clone(),
            adopted: *adopted,
            heard: heard.clone(),
        }
    }
}
