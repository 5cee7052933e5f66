//! Who calls, and what they may do. It knows no method: the rules of methods are given to it.

mod api_key;
mod certificate;
mod key_file;
mod key_ring;
mod layer;
mod origin;
mod principal;
mod scope;

pub use api_key::{ApiKey, InvalidHash, KeyHash, MAX_KEY_LENGTH};
pub use key_file::{KeyFile, KeyFileError};
pub use key_ring::{KEYS_PER_PRINCIPAL, KeyEntry, KeyFileMistakes, KeyRing, is_principal_name};
pub use layer::{AccessError, Authentication, AuthenticationLayer, Rules};
pub use principal::Principal;
pub use scope::{Access, Rule, Scope, Scopes, UnknownScope};
