//! Ask how the server and what it depends on are.

use std::convert::Infallible;

use crate::common::health::{HealthCoordinator, HealthReport};
use crate::common::mediator::{Handler, Request};

/// How is the server?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetHealth;

/// How the server is.
#[derive(Clone, Debug)]
pub struct Health {
    /// What the newest checks found.
    pub report: HealthReport,
    /// `development` or `production`.
    pub environment: &'static str,
}

impl Request for GetHealth {
    type Output = Health;
    type Error = Infallible;
    const NAME: &'static str = "system.get_health";
}

pub(super) struct GetHealthHandler {
    pub(super) health: HealthCoordinator,
    pub(super) environment: &'static str,
}

impl Handler<GetHealth> for GetHealthHandler {
    async fn handle(&self, _: GetHealth) -> Result<Health, Infallible> {
        Ok(Health { report: self.health.report(), environment: self.environment })
    }
}
