//! What the rest of the service sees.

use std::fmt;
use std::sync::Arc;

use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::auth::Auth;
use super::config::{ConfigError, TradingViewConfig};
use super::search::Search;
use super::session::{Dialer, Session};
use super::{PROVIDER, quotes};
use crate::infrastructure::interfaces::{FeedCommand, FeedEvent, QuoteProvider};

/// The TradingView provider. Connects when it is first asked for something.
#[derive(Clone)]
pub struct TradingView {
    session: Session,
    search: Search,
    dialer: Arc<Dialer>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl TradingView {
    /// A client of what `config` names. Its tasks run on `tasks` and end when `stopping` is
    /// cancelled; requests under way fail then.
    pub fn new(
        config: TradingViewConfig,
        tasks: TaskTracker,
        stopping: CancellationToken,
    ) -> Result<Self, ConfigError> {
        let tls = crate::infrastructure::tls::client_config(config.extra_roots.as_deref())?;
        let http = config.http_client(&tls)?;
        let search = Search::new(&config, http.clone())?;
        let auth = Auth::new(&config, http)?;
        let dialer = Arc::new(Dialer::new(&config, tls, auth)?);
        let session = Session::new(config, Arc::clone(&dialer), tasks.clone(), stopping.clone());
        Ok(Self { session, search, dialer, tasks, stopping })
    }

    pub(super) const fn directory(&self) -> &Search {
        &self.search
    }

    pub(super) const fn session(&self) -> &Session {
        &self.session
    }
}

impl QuoteProvider for TradingView {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    fn feed(&self, commands: mpsc::Receiver<FeedCommand>) -> BoxStream<'static, FeedEvent> {
        let (config, dialer) = (self.session.config().clone(), Arc::clone(&self.dialer));
        quotes::feed(config, dialer, self.tasks.clone(), &self.stopping, commands)
    }
}

impl fmt::Debug for TradingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TradingView").field("session", &self.session).finish_non_exhaustive()
    }
}
