//! `AdminService`.

use muster_core::time::Timestamp;
use muster_proto::v1 as pb;
use muster_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::convert::duration::time_to_wire;
use crate::store::Identity;

#[derive(Debug)]
pub struct Admin {
    pub identity: Identity,
    pub started: Timestamp,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn info(
        &self,
        _request: Request<pb::InfoRequest>,
    ) -> Result<Response<pb::InfoResponse>, Status> {
        Ok(Response::new(pb::InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("MUSTER_COMMIT").unwrap_or_default().to_owned(),
            cluster: self.identity.cluster.to_string(),
            term: self.identity.term.0,
            started: Some(time_to_wire(self.started)),
            store: "sqlite".to_owned(),
        }))
    }
}
