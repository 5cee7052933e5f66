//! What is told to the server, and what its messages mean for each symbol.

use std::borrow::Cow;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::quote::Field;
use crate::infrastructure::interfaces::FeedCommand;
use crate::infrastructure::tradingview::quotes::inbox::Inbox;

const PATIENCE: Duration = Duration::from_secs(10);

/// Commands, and the session that they end up in.
struct Told {
    commands: mpsc::Sender<FeedCommand>,
    inbox: Inbox,
    subscriptions: Subscriptions,
    events: Vec<FeedEvent>,
}

impl Told {
    fn new() -> Self {
        let (commands, received) = mpsc::channel(1_000);
        let inbox = Inbox::new(received, CancellationToken::new());
        let subscriptions = Subscriptions::new(PATIENCE);
        Self { commands, inbox, subscriptions, events: Vec::new() }
    }

    fn of(name: &str) -> Self {
        let mut told = Self::new();
        told.add(name);
        assert_eq!(told.commands().len(), 1);
        told
    }

    fn add(&mut self, name: &str) {
        self.commands.try_send(FeedCommand::Add(Symbol::parse(name).unwrap())).unwrap();
    }

    fn remove(&mut self, name: &str) {
        self.commands.try_send(FeedCommand::Remove(Symbol::parse(name).unwrap())).unwrap();
    }

    /// The methods that are told next, each with how many symbols.
    fn commands(&mut self) -> Vec<(String, usize)> {
        self.inbox.take_in();
        let texts = self.subscriptions.next_commands(&mut self.inbox.wishes);
        let method = |text: &String| {
            let (_, json) = text.rsplit_once("~m~").unwrap();
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            let count = json["p"].as_array().unwrap().len() - 1;
            (json["m"].as_str().unwrap().to_owned(), count)
        };
        texts.iter().map(method).collect()
    }

    fn hear(&mut self, status: &str, now: Instant) {
        let quote = QuoteData {
            name: "X:Y".into(),
            status: Cow::Owned(status.to_owned()),
            reason: None,
            alternative: None,
            update: QuoteUpdate { bid: Field::Set(1.0), ..QuoteUpdate::default() },
        };
        let session = self.subscriptions.session.clone().into();
        let incoming = Incoming::Quote { session, quote };
        self.subscriptions.check(&incoming).unwrap();
        self.subscriptions.apply(incoming, now, &mut self.events);
    }

    fn complete(&mut self) {
        let session = self.subscriptions.session.clone().into();
        let incoming = Incoming::Completed { session, name: "X:Y".into() };
        self.subscriptions.apply(incoming, Instant::now(), &mut self.events);
    }

    /// The events so far, in short.
    fn events(&mut self) -> Vec<&'static str> {
        let short = |event| match event {
            FeedEvent::Update { kind: UpdateKind::Snapshot, .. } => "snapshot",
            FeedEvent::Update { kind: UpdateKind::Change, .. } => "change",
            FeedEvent::SnapshotComplete { .. } => "complete",
            FeedEvent::SymbolError { .. } => "error",
            FeedEvent::State(_) | FeedEvent::Alive => unreachable!(),
        };
        self.events.drain(..).map(short).collect()
    }
}

#[test]
fn a_message_adds_or_removes_fifty_symbols_at_most() {
    let mut told = Told::new();
    for number in 0..120 {
        told.add(&format!("NYSE:S{number}"));
    }
    let add = |count| ("quote_add_symbols".to_owned(), count);
    let remove = |count| ("quote_remove_symbols".to_owned(), count);
    assert_eq!(told.commands(), [add(50)]);
    assert_eq!(told.commands(), [add(50)]);
    assert_eq!(told.commands(), [add(20)]);
    assert_eq!(told.commands(), []);
    for number in 0..60 {
        told.remove(&format!("NYSE:S{number}"));
    }
    assert_eq!(told.commands(), [remove(50)]);
    assert_eq!(told.commands(), [remove(10)]);
    assert_eq!(told.subscriptions.entries.len(), 60, "what is not followed costs nothing");
}

#[test]
fn only_the_outcome_of_commands_is_told() {
    let mut told = Told::of("X:Y");
    told.add("X:Y");
    told.add("X:Z");
    told.remove("X:Z");
    assert_eq!(told.commands(), []);
    told.remove("X:Y");
    told.add("X:Y");
    let methods = told.commands();
    let methods: Vec<_> = methods.iter().map(|(method, _)| method.as_str()).collect();
    assert_eq!(methods, ["quote_remove_symbols", "quote_add_symbols"]);
}

#[test]
fn no_command_carries_flags() {
    let mut told = Told::new();
    told.add("X:Y");
    told.inbox.take_in();
    let opening = told.subscriptions.opening();
    let adding = told.subscriptions.next_commands(&mut told.inbox.wishes);
    for text in opening.iter().chain(&adding) {
        assert!(!text.contains("force_permission") && !text.contains("flags"), "{text}");
    }
    assert_eq!((opening.len(), adding.len()), (2, 1));
}

#[test]
fn a_symbol_goes_from_its_snapshot_to_changes() {
    let mut told = Told::of("X:Y");
    let now = Instant::now();
    told.hear("ok", now);
    told.hear("ok", now);
    told.complete();
    told.hear("ok", now);
    told.complete();
    assert_eq!(told.events(), ["snapshot", "snapshot", "complete", "change"]);
    told.remove("X:Y");
    told.add("X:Y");
    told.commands();
    told.hear("ok", now);
    assert_eq!(told.events(), ["snapshot"], "begun anew");
}

#[test]
fn an_empty_snapshot_is_complete_too() {
    let mut told = Told::of("X:Y");
    told.complete();
    told.hear("ok", Instant::now());
    assert_eq!(told.events(), ["complete", "change"]);
}

#[test]
fn a_refusal_is_told_once_and_may_be_taken_back() {
    let mut told = Told::of("X:Y");
    let now = Instant::now();
    told.hear("permission_denied", now);
    told.hear("permission_denied", now);
    told.complete();
    assert_eq!(told.events(), ["error"]);
    told.hear("ok", now);
    told.complete();
    told.hear("ok", now);
    told.hear("what_is_this", now);
    assert_eq!(told.events(), ["snapshot", "complete", "change", "error"]);
}

#[test]
fn a_snapshot_ends_in_time() {
    let mut told = Told::of("X:Y");
    let begun = Instant::now();
    assert_eq!(told.subscriptions.deadline(), None, "it has not begun");
    told.hear("ok", begun);
    told.hear("ok", begun + PATIENCE / 2);
    assert_eq!(told.subscriptions.deadline(), Some(begun + PATIENCE));
    let Told { subscriptions, events, .. } = &mut told;
    subscriptions.end_overdue(begun + PATIENCE - Duration::from_millis(1), events);
    subscriptions.end_overdue(begun + PATIENCE, events);
    assert_eq!(subscriptions.deadline(), None);
    assert_eq!(told.events(), ["snapshot", "snapshot", "complete"]);
}

#[test]
fn a_server_that_cannot_decide_costs_no_memory() {
    let mut told = Told::of("X:Y");
    let now = Instant::now();
    for _ in 0..1_000 {
        told.hear("ok", now);
        told.hear("error", now);
    }
    assert!(told.subscriptions.begun.len() < 5, "{}", told.subscriptions.begun.len());
}
