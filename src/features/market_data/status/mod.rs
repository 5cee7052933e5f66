//! How series, and the server itself, stand.

mod get_health;
mod get_server_info;
mod get_sync_status;
mod limits;
mod list_sync_statuses;
mod wire;

pub use get_health::{GetHealth, Health};
pub use get_server_info::{GetServerInfo, ServerInfo};
pub use get_sync_status::GetSyncStatus;
pub use list_sync_statuses::{ListSyncStatuses, SyncStatusPage};

use self::get_health::GetHealthHandler;
use self::get_server_info::GetServerInfoHandler;
use self::get_sync_status::GetSyncStatusHandler;
use self::list_sync_statuses::ListSyncStatusesHandler;
use crate::common::health::HealthCoordinator;
use crate::common::mediator::MediatorBuilder;
use crate::infrastructure::persistence::Database;

/// Adds this slice's handlers.
pub fn register(
    mediator: MediatorBuilder,
    database: &Database,
    health: &HealthCoordinator,
    server: ServerInfo,
) -> MediatorBuilder {
    mediator
        .register(GetSyncStatusHandler { database: database.clone() })
        .register(ListSyncStatusesHandler { database: database.clone() })
        .register(GetHealthHandler { health: health.clone(), environment: server.environment })
        .register(GetServerInfoHandler { server })
}
