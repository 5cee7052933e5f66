//! Sends messages to webhooks, signed as Standard Webhooks has it (standardwebhooks.com): one try,
//! and only to addresses that may be called.
//!
//! It does not know what is sent, nor when it is tried again.

mod address;
mod secret;
mod sender;
mod url;

pub use address::{AddressPolicy, RefusedUrl};
pub use secret::{InvalidSecret, WebhookSecret};
pub use sender::{Attempt, Failure, FailureKind, Message, SenderError, WebhookSender};
pub use url::{InvalidUrl, MAX_URL_LENGTH, WebhookUrl};
