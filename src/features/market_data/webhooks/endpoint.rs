//! How a webhook stands with the dispatcher of this process.

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use crate::infrastructure::persistence::Webhook;
use crate::infrastructure::webhooks::{InvalidSecret, WebhookSecret};

/// Events that are sent to a webhook at a time.
const AT_ONCE: usize = 16;
/// The same after a try that failed, until one succeeds: it gets a chance, and no more.
const AT_ONCE_AFTER_FAILURE: usize = 1;

/// A webhook that is sent to.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: Arc<str>,
    pub(super) secret: WebhookSecret,
    /// How many are being sent.
    pub(super) sending: usize,
    /// Whether the last try failed.
    pub(super) failing: bool,
    /// When it is to be looked what is due; never before something is put.
    pub(super) look_at: Option<Instant>,
    /// Whether anything was sent since it was tidied up last.
    pub(super) is_untidy: bool,
}

impl Endpoint {
    pub(super) fn new(webhook: &Webhook) -> Result<Self, InvalidSecret> {
        Ok(Self {
            url: webhook.url.as_str().into(),
            secret: WebhookSecret::parse(webhook.secret.expose_secret())?,
            sending: 0,
            failing: false,
            look_at: Some(Instant::now()),
            is_untidy: true,
        })
    }

    /// How many may be sent besides those that are; none while there are too few for a batch.
    pub(super) fn room(&self) -> usize {
        let most = if self.failing { AT_ONCE_AFTER_FAILURE } else { AT_ONCE };
        let room = most.saturating_sub(self.sending);
        if room * 2 < most { 0 } else { room }
    }
}
