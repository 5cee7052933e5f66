//! Who we are to the server: the token that every connection begins with, and where it comes
//! from. A refusal is remembered, so that no log-in is tried twice with the same settings.

mod cookies;
mod sign_in;
mod token;
mod web;

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::cookies::Cookies;
use self::web::Web;
use super::config::{ConfigError, Credentials, TradingViewConfig};
use super::errors;
use crate::infrastructure::http_client::HttpClient;
use crate::infrastructure::interfaces::ProviderError;

/// What connections of nobody begin with.
const ANONYMOUS: &str = "unauthorized_user_token";

/// A token is not fetched again before this, whatever happens: refused log-ins lock accounts.
const LEAST_AGE: Duration = Duration::from_mins(10);

/// Fetches, keeps and renews the token.
pub(super) struct Auth {
    web: Web,
    credentials: Credentials,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Kept>,
    refusal: Option<Refusal>,
}

struct Kept {
    token: SecretString,
    fetched_at: Instant,
    renew_at: Instant,
}

struct Refusal {
    error: ProviderError,
    /// Until when; for the process's life, where none.
    until: Option<Instant>,
}

impl Auth {
    pub(super) fn new(config: &TradingViewConfig, http: HttpClient) -> Result<Self, ConfigError> {
        let web = Web::new(config, http)?;
        Ok(Self { web, credentials: config.credentials.clone(), state: Mutex::default() })
    }

    /// The token for a new connection. What was refused before is refused at once.
    pub(super) async fn token(&self) -> Result<SecretString, ProviderError> {
        match &self.credentials {
            Credentials::Anonymous => return Ok(ANONYMOUS.into()),
            Credentials::Token(token) => return Ok(token.clone()),
            Credentials::Cookies { .. } | Credentials::Password { .. } => {}
        }
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some(kept) = state.token.as_ref().filter(|kept| now < kept.renew_at) {
            return Ok(kept.token.clone());
        }
        if let Some(error) = state.refusal.as_ref().and_then(|refusal| refusal.at(now)) {
            return Err(error);
        }
        match self.fetch().await {
            Ok(token) => {
                let renew_at = now + token::lifetime(&token).max(LEAST_AGE);
                state.token = Some(Kept { token: token.clone(), fetched_at: now, renew_at });
                state.refusal = None;
                Ok(token)
            }
            Err(error) => {
                state.refusal = Refusal::of(&error);
                Err(error)
            }
        }
    }

    /// Notes that the server refused the token: an older one is fetched anew for the next
    /// connection. Answers whether it will be; if not, trying again changes nothing.
    pub(super) async fn refused(&self) -> bool {
        let mut state = self.state.lock().await;
        let Some(kept) = &mut state.token else { return false };
        kept.renew_at = kept.renew_at.min(kept.fetched_at + LEAST_AGE);
        kept.renew_at <= Instant::now()
    }

    async fn fetch(&self) -> Result<SecretString, ProviderError> {
        match &self.credentials {
            Credentials::Anonymous => Ok(ANONYMOUS.into()),
            Credentials::Token(token) => Ok(token.clone()),
            Credentials::Cookies { sessionid, sign } => {
                cookies::token(&self.web, &Cookies::new(sessionid, sign.as_ref())).await
            }
            Credentials::Password { username, password } => {
                sign_in::token(&self.web, username, password).await
            }
        }
    }
}

impl Refusal {
    /// What of `error` is worth remembering: trouble on the way is not.
    fn of(error: &ProviderError) -> Option<Self> {
        match error {
            ProviderError::AuthRequired { .. } => Some(Self { error: error.clone(), until: None }),
            ProviderError::RateLimited { retry_after, .. } => {
                Some(Self { error: error.clone(), until: Some(Instant::now() + *retry_after) })
            }
            ProviderError::Unavailable { .. }
            | ProviderError::Timeout { .. }
            | ProviderError::NotEntitled { .. }
            | ProviderError::SymbolNotFound { .. }
            | ProviderError::NoData { .. } => None,
        }
    }

    /// The error as of `now`; none where it is over.
    fn at(&self, now: Instant) -> Option<ProviderError> {
        let Some(until) = self.until else { return Some(self.error.clone()) };
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(errors::with_retry_after(self.error.clone(), left))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}
