//! Holds symbols at the provider for as long as a stream wants them.

use tokio::sync::mpsc;

use super::feed_task::Command;
use crate::domain::shared::Symbol;

/// Follows symbols until it is dropped. Symbols are counted: the last one that lets go ends it.
#[derive(Debug)]
pub(super) struct Follow {
    symbols: Vec<Symbol>,
    /// Unbounded, as a drop cannot wait; it holds at most one message a stream that ended.
    released: mpsc::UnboundedSender<Command>,
}

impl Follow {
    pub(super) const fn new(
        symbols: Vec<Symbol>,
        released: mpsc::UnboundedSender<Command>,
    ) -> Self {
        Self { symbols, released }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let symbols = std::mem::take(&mut self.symbols);
        // An error says that the feed is gone, and the subscriptions with it.
        drop(self.released.send(Command::Release(symbols)));
    }
}
