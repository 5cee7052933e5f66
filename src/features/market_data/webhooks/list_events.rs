//! List the newest domain events.

use std::convert::Infallible;
use std::sync::Arc;

use crate::common::mediator::{Handler, Request};
use crate::features::market_data::{Announced, Announcer};

/// What has happened in this process, the newest first?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListEvents {
    /// Events at most.
    pub limit: u32,
}

impl Request for ListEvents {
    type Output = Vec<Arc<Announced>>;
    type Error = Infallible;
    const NAME: &'static str = "system.list_events";
}

pub(super) struct ListEventsHandler {
    pub(super) announcer: Announcer,
}

impl Handler<ListEvents> for ListEventsHandler {
    async fn handle(&self, query: ListEvents) -> Result<Vec<Arc<Announced>>, Infallible> {
        Ok(self.announcer.newest(usize::try_from(query.limit).unwrap_or(usize::MAX)))
    }
}
