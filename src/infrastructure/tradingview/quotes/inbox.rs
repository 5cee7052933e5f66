//! What the consumer wants. Commands are taken in during every wait, so that a consumer that
//! tells before it takes never hangs.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::domain::shared::Symbol;
use crate::infrastructure::interfaces::FeedCommand;

/// Nobody wants the feed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

/// Where commands come in.
#[derive(Debug)]
pub(super) struct Inbox {
    commands: mpsc::Receiver<FeedCommand>,
    stopping: CancellationToken,
    pub(super) wishes: Wishes,
}

/// Which symbols are to be followed. Bounded by the symbols that were named.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Each with the number of the command that added it.
    wanted: HashMap<Symbol, u64>,
    /// What may differ from what the server was told.
    changed: BTreeSet<Symbol>,
    added: u64,
}

impl Inbox {
    pub(super) fn new(commands: mpsc::Receiver<FeedCommand>, stopping: CancellationToken) -> Self {
        Self { commands, stopping, wishes: Wishes::default() }
    }

    /// Waits for commands and takes in all that are there. Nothing is lost where the wait is
    /// given up.
    pub(super) async fn absorb(&mut self) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => return Err(Stopped),
            command = self.commands.recv() => self.wishes.note(command.ok_or(Stopped)?),
        }
        self.take_in();
        Ok(())
    }

    /// Takes in all commands that are there.
    pub(super) fn take_in(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.wishes.note(command);
        }
    }

    /// Does `work`, which has its own deadline, while commands are taken in.
    pub(super) async fn attend<T>(
        &mut self,
        work: impl Future<Output = T> + Send,
    ) -> Result<T, Stopped> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                absorbed = self.absorb() => absorbed?,
                done = &mut work => return Ok(done),
            }
        }
    }
}

impl Wishes {
    fn note(&mut self, command: FeedCommand) {
        match command {
            FeedCommand::Add(symbol) => {
                if !self.wanted.contains_key(&symbol) {
                    self.added += 1;
                    self.wanted.insert(symbol.clone(), self.added);
                    self.changed.insert(symbol);
                }
            }
            FeedCommand::Remove(symbol) => {
                if self.wanted.remove(&symbol).is_some() {
                    self.changed.insert(symbol);
                }
            }
        }
    }

    /// Whether nothing is to be followed.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether the server may have to be told something.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// A new server knows nothing.
    pub(super) fn forget_told(&mut self) {
        self.changed = self.wanted.keys().cloned().collect();
    }

    /// One symbol that may differ from what the server was told, and the number of the command
    /// that added it; none where it is not wanted.
    pub(super) fn next_change(&mut self) -> Option<(Symbol, Option<u64>)> {
        let symbol = self.changed.pop_first()?;
        let added = self.wanted.get(&symbol).copied();
        Some((symbol, added))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(text: &str) -> Symbol {
        Symbol::parse(text).unwrap()
    }

    fn inbox(capacity: usize) -> (mpsc::Sender<FeedCommand>, Inbox, CancellationToken) {
        let (commands, received) = mpsc::channel(capacity);
        let stopping = CancellationToken::new();
        (commands, Inbox::new(received, stopping.clone()), stopping)
    }

    #[tokio::test]
    async fn many_commands_cost_no_more_than_their_outcome() {
        let (commands, mut inbox, _stopping) = inbox(1);
        let (a, b) = (symbol("NYSE:A"), symbol("NYSE:B"));
        let telling = async {
            for _ in 0..1_000 {
                commands.send(FeedCommand::Add(a.clone())).await.unwrap();
                commands.send(FeedCommand::Remove(a.clone())).await.unwrap();
                commands.send(FeedCommand::Add(b.clone())).await.unwrap();
            }
        };
        assert_eq!(inbox.attend(telling).await, Ok(()));
        inbox.attend(std::future::ready(())).await.unwrap();
        assert_eq!(inbox.wishes.wanted.len(), 1);
        let changes: Vec<_> = std::iter::from_fn(|| inbox.wishes.next_change()).collect();
        assert_eq!((changes.len(), &changes[0]), (2, &(a, None)));
        assert!(changes[1].0 == b && changes[1].1.is_some());
    }

    #[tokio::test]
    async fn adding_again_after_a_removal_is_told_from_adding_twice() {
        let (_commands, mut inbox, _stopping) = inbox(1);
        let a = symbol("NYSE:A");
        inbox.wishes.note(FeedCommand::Add(a.clone()));
        let (_, first) = inbox.wishes.next_change().unwrap();
        inbox.wishes.note(FeedCommand::Add(a.clone()));
        assert!(!inbox.wishes.has_changes());
        inbox.wishes.note(FeedCommand::Remove(a.clone()));
        inbox.wishes.note(FeedCommand::Add(a));
        let (_, second) = inbox.wishes.next_change().unwrap();
        assert!(second > first && first.is_some());
    }

    #[tokio::test]
    async fn every_wait_ends_when_nobody_wants_the_feed() {
        let (_commands, mut inbox_at_work, stopping) = inbox(1);
        stopping.cancel();
        assert_eq!(inbox_at_work.attend(std::future::pending::<()>()).await, Err(Stopped));
        let (commands, mut inbox_at_work, _stopping) = inbox(1);
        drop(commands);
        assert_eq!(inbox_at_work.attend(std::future::pending::<()>()).await, Err(Stopped));
    }
}
