//! Ask what runs here.

use std::convert::Infallible;

use crate::common::mediator::{Handler, Request};

/// What runs here?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetServerInfo;

/// What runs here: decided at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// `development` or `production`.
    pub environment: &'static str,
    /// The database's name.
    pub database: &'static str,
    /// The cache's name.
    pub cache: &'static str,
    /// The provider's name.
    pub provider: &'static str,
}

impl Request for GetServerInfo {
    type Output = ServerInfo;
    type Error = Infallible;
    const NAME: &'static str = "system.get_server_info";
}

pub(super) struct GetServerInfoHandler {
    pub(super) server: ServerInfo,
}

impl Handler<GetServerInfo> for GetServerInfoHandler {
    async fn handle(&self, _: GetServerInfo) -> Result<ServerInfo, Infallible> {
        Ok(self.server)
    }
}
