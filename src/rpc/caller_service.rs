//! CallerService: who the caller is, and what it may do.

use tonic::{Request, Response, Status};

use super::{
    encode,
    layers::auth::access_of,
    pb::{self, caller_service_server::CallerService},
};
use crate::{
    auth::{access::Access, permissions},
    domain::time::Timestamp,
    ops::Ledger,
};

/// The service.
pub struct Callers {
    ledger: Ledger,
}

impl Callers {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }
}

#[tonic::async_trait]
impl CallerService for Callers {
    async fn get_caller(
        &self,
        request: Request<pb::GetCallerRequest>,
    ) -> Result<Response<pb::GetCallerResponse>, Status> {
        let caller = Some(caller(access_of(&request)?));
        let server_time = Some(encode::timestamp(self.ledger.now()));
        Ok(Response::new(pb::GetCallerResponse { caller, server_time }))
    }
}

fn caller(access: &Access) -> pb::Caller {
    let principal = access.principal();
    let expires_at = access.credentials.as_ref().and_then(|credentials| credentials.expires_at);
    let expire_time = expires_at.and_then(|seconds| Timestamp::from_micros(seconds.checked_mul(1_000_000)?));
    // Where authentication is off, everybody may call everything.
    let may = |need: permissions::Need| principal.is_none_or(|principal| need.grant(principal).is_some());
    let methods = permissions::TABLE.iter().filter(|(path, need)| path.starts_with("/reservd.") && may(*need));
    pb::Caller {
        principal: principal.map(|principal| principal.name.to_string()).unwrap_or_default(),
        user_id: principal.and_then(|it| it.user_id.as_ref()).map(ToString::to_string).unwrap_or_default(),
        roles: principal.map(|it| it.roles.iter().map(|it| encode::role(it).into()).collect()).unwrap_or_default(),
        expire_time: expire_time.map(encode::timestamp),
        methods: methods.map(|(path, _)| path.trim_start_matches('/').to_owned()).collect(),
    }
}
