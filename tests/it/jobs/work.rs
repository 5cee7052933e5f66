//! What the jobs do, on a database of our own, with a provider that answers as it is told.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use pocketquant::common::config::Settings;
use pocketquant::domain::job::JobOutcome;
use pocketquant::domain::shared::{EventType, Interval, Series, Symbol};
use pocketquant::domain::sync::{SyncState, SyncStatus};
use pocketquant::features::market_data::CoverageLedger;
use pocketquant::features::market_data::jobs::{Clock, JobParts, JobService, table};
use pocketquant::infrastructure::interfaces::{
    HistoryDepth, HistoryPage, HistoryProvider, HistoryRequest, HistoryStream, Phase,
    ProviderError, RawBar,
};
use pocketquant::infrastructure::persistence::{
    Database, DeliveryState, JobEnd, Lease, LogBar, NewDelivery, Settled, Subscribed, SyncCounts,
    SyncRecord,
};
use uuid::Uuid;

use crate::database::webhooks::with_webhook;
use crate::database::{Store, closed, on_both_engines};
use crate::sync_service::Syncing;

on_both_engines!(
    what_was_missed_is_fetched_and_a_series_that_fails_stops_no_other,
    a_series_that_no_sync_ever_brought_is_passed_over,
    what_is_old_is_removed_from_every_place,
);

/// Has a bar of every minute of the last hours, but for symbols that fail.
#[derive(Debug, Default)]
struct Minutes {
    failing: Mutex<HashSet<Symbol>>,
    asked: Mutex<Vec<HistoryRequest>>,
}

impl Minutes {
    fn fail(&self, symbols: &[&str]) {
        *self.failing.lock().unwrap() = symbols.iter().map(|text| symbol(text)).collect();
    }

    /// What was asked for since the last time.
    fn asked(&self) -> Vec<HistoryRequest> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl HistoryProvider for Minutes {
    fn name(&self) -> &'static str {
        "minutes"
    }

    fn history(&self, request: HistoryRequest) -> HistoryStream {
        self.asked.lock().unwrap().push(request.clone());
        let answer = if self.failing.lock().unwrap().contains(&request.series.symbol) {
            Err(ProviderError::Unavailable {
                provider: self.name(),
                phase: Phase::History,
                detail: "it is told to fail".to_owned(),
                retry_after: Duration::from_secs(1),
            })
        } else {
            let HistoryDepth::Newest(count) = request.depth else { panic!("{request:?}") };
            Ok(page(count))
        };
        stream::iter([answer]).boxed()
    }
}

fn page(count: u32) -> HistoryPage {
    let now = Timestamp::now();
    let minute = |ago: u32| {
        let second = (now.as_second().div_euclid(60) - i64::from(ago)) * 60;
        let open_time = Timestamp::from_second(second).unwrap();
        RawBar { open_time, open: 1.0, high: 1.0, low: 1.0, close: 1.0, volume: Some(1.0) }
    };
    let bars = (0..count).rev().map(minute).collect();
    HistoryPage { bars, server_time: now, symbol: None, end: None }
}

/// The jobs as the service has them.
struct Scene {
    database: Database,
    ledger: CoverageLedger,
    provider: Arc<Minutes>,
    jobs: JobService,
}

impl Scene {
    async fn new(store: &Store) -> Self {
        let provider = Arc::<Minutes>::default();
        let Syncing { database, ledger, syncs, repairs, lifecycle, .. } =
            Syncing::start(store, Arc::clone(&provider) as _).await;
        let bar_log_retention = Duration::from_hours(24);
        let parts = JobParts { database: database.clone(), syncs, repairs, bar_log_retention };
        let jobs = table(&Settings::from_lookup(|_| None).unwrap().jobs, &parts);
        let jobs = JobService::new(jobs, false, &database, Clock::of_machine(), lifecycle);
        Self { database, ledger, provider, jobs }
    }

    async fn run(&self, job_id: &str) -> JobEnd {
        self.jobs.run_now(job_id).await.unwrap().ended.unwrap()
    }

    /// A series of minutes that is kept current.
    async fn track(&self, text: &str) -> Series {
        let series = Series::new(symbol(text), Interval::M1);
        let mut status = SyncStatus::pending(series.clone());
        status.start().unwrap();
        status.complete(ago(5), 0, None).unwrap();
        self.database.sync_statuses().put(&status, Timestamp::now()).await.unwrap();
        series
    }

    /// A series that was asked for, and could not be had.
    async fn mistype(&self, text: &str) {
        let mut status = SyncStatus::pending(Series::new(symbol(text), Interval::D1));
        status.fail("there is no such symbol", 0, None).unwrap();
        self.database.sync_statuses().put(&status, Timestamp::now()).await.unwrap();
    }

    /// The feed was there for two hours, away for one, and there again.
    fn miss(&self, text: &str) {
        let symbol = symbol(text);
        self.ledger.heard([(&symbol, ago(4)), (&symbol, ago(2))]);
        self.ledger.cut(&symbol);
        self.ledger.heard([(&symbol, ago(1)), (&symbol, ago(0))]);
    }

    /// Which of the minutes that were missed are stored.
    async fn minutes(&self, series: &Series) -> usize {
        self.database.bars().stretch(series, ago(2), ago(1)).await.unwrap().len()
    }
}

fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).unwrap()
}

fn ago(hours: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(hours)
}

async fn what_was_missed_is_fetched_and_a_series_that_fails_stops_no_other(store: &Store) {
    let scene = Scene::new(store).await;
    let mut all = Vec::new();
    for text in ["T:AWAY", "T:BAD", "T:CUT"] {
        all.push(scene.track(text).await);
        scene.miss(text);
    }
    // Of these nothing was missed: of one nobody has asked, to the other the feed has listened.
    scene.track("T:NEW").await;
    let subscribed =
        Subscribed { symbol: symbol("T:THERE"), created_at: ago(4), logged_from: None };
    scene.database.subscriptions().put(&subscribed).await.unwrap();
    scene.ledger.heard([(&subscribed.symbol, ago(4)), (&subscribed.symbol, ago(0))]);

    scene.provider.fail(&["T:BAD"]);
    let first = scene.run("repair_gaps").await;
    assert_eq!(first.outcome, JobOutcome::Partial);
    let (what, why) = first.message.split_once("; ").unwrap();
    // Three, the new one, and all intervals of the one that is followed.
    assert!(what.starts_with("2 of 17 series repaired, "), "{what}");
    assert!(why.starts_with("T:BAD 1m: ") && why.contains("told to fail"), "{why}");
    let asked = scene.provider.asked();
    let series: Vec<&Series> = asked.iter().map(|request| &request.series).collect();
    assert_eq!(series, all.iter().collect::<Vec<_>>(), "nobody else, in order");
    for HistoryRequest { depth, .. } in asked {
        let HistoryDepth::Newest(bars) = depth else { panic!("{depth:?}") };
        assert!((120..200).contains(&bars), "back to the gap, and about no further: {bars}");
    }
    assert_eq!(scene.minutes(&all[1]).await, 0);
    for repaired in [&all[0], &all[2]] {
        assert!(scene.minutes(repaired).await >= 60, "{repaired}");
    }

    scene.provider.fail(&[]);
    let second = scene.run("repair_gaps").await;
    assert_eq!(second.outcome, JobOutcome::Succeeded, "{}", second.message);
    assert!(second.message.starts_with("1 of 17 series repaired, "), "{}", second.message);
    let asked = scene.provider.asked();
    assert_eq!(asked.iter().map(|request| &request.series).collect::<Vec<_>>(), [&all[1]]);
    assert!(scene.minutes(&all[1]).await >= 60);
    let third = scene.run("repair_gaps").await;
    assert_eq!(third.message, "0 of 17 series repaired, 0 bars inserted");
    assert!(scene.provider.asked().is_empty(), "nothing is missing");
}

async fn a_series_that_no_sync_ever_brought_is_passed_over(store: &Store) {
    let scene = Scene::new(store).await;
    let series = scene.track("T:KNOWN").await;
    scene.mistype("T:NOPE").await;
    scene.provider.fail(&["T:NOPE"]);
    let jobs = [("market_data_sync_all", 1), ("market_data_sync_daily", 0), ("repair_gaps", 1)];
    for (job_id, count) in jobs {
        let end = scene.run(job_id).await;
        assert_eq!(end.outcome, JobOutcome::Succeeded, "{job_id}: {}", end.message);
        assert!(end.message.contains(&format!("of {count} series")), "{}", end.message);
    }
    let asked = scene.provider.asked();
    assert_eq!(asked.iter().map(|request| &request.series).collect::<Vec<_>>(), [&series]);
    // One that was brought once, and cannot be had any more, is told each time.
    scene.track("T:OTHER").await;
    scene.provider.fail(&["T:KNOWN"]);
    for _ in 0..2 {
        let end = scene.run("market_data_sync_all").await;
        assert_eq!(end.outcome, JobOutcome::Partial);
        let told = end.message.starts_with("1 of 2 series synced; T:KNOWN 1m: ");
        assert!(told, "{}", end.message);
    }
}

async fn what_is_old_is_removed_from_every_place(store: &Store) {
    let scene = Scene::new(store).await;
    let database = &scene.database;
    let series = Series::new(symbol("A:B"), Interval::M1);
    for (index, hours) in [(0, 25), (1, 23)] {
        let bar = LogBar { series: series.clone(), bar: closed(index, 1.0) };
        database.bar_log().append(&[bar], ago(hours)).await.unwrap();
    }
    let mut syncs = Vec::new();
    for hours in [25, 23] {
        syncs.push(ended_sync(database, &series, ago(hours)).await);
    }
    let webhook = with_webhook(store).await;
    let mut deliveries = Vec::new();
    for days in [31, 29] {
        deliveries.push(taken(database, webhook, ago(days * 24)).await);
    }

    let run = scene.run("retention").await;
    assert_eq!(run.outcome, JobOutcome::Succeeded);
    assert_eq!(run.message, "what is old is removed from 3 of 3 places");
    let head = database.bar_log().head().await.unwrap();
    assert_eq!((head.first, head.next), (2, 3));
    assert!(database.syncs().get(syncs[0]).await.unwrap().is_none());
    assert!(database.syncs().get(syncs[1]).await.unwrap().is_some());
    let left = database.webhook_outbox().list(webhook, None, 9).await.unwrap();
    assert_eq!(left.iter().map(|each| each.event_id).collect::<Vec<_>>(), deliveries[1..]);
}

async fn ended_sync(database: &Database, series: &Series, at: Timestamp) -> Uuid {
    let record = SyncRecord {
        sync_id: Uuid::now_v7(),
        series: series.clone(),
        depth: HistoryDepth::Full,
        state: SyncState::Completed,
        counts: SyncCounts::default(),
        reached: None,
        started_at: at,
        ended: Some((at, Bytes::new())),
    };
    let lease = Lease { owner: Uuid::now_v7(), length: Duration::ZERO };
    database.syncs().insert(&record, lease).await.unwrap();
    assert!(database.syncs().update(&record, lease).await.unwrap());
    record.sync_id
}

/// An event that was taken at `at`.
async fn taken(database: &Database, webhook_id: Uuid, at: Timestamp) -> Uuid {
    let outbox = database.webhook_outbox();
    let event_id = Uuid::now_v7();
    let (event_type, body) = (EventType::FeedUp, Bytes::new());
    outbox.put(vec![NewDelivery { webhook_id, event_id, event_type, body }], at).await.unwrap();
    let settled = Settled {
        webhook_id,
        event_id,
        attempt: 1,
        state: DeliveryState::Delivered,
        at,
        next_attempt_at: at,
        status: Some(204),
        error: String::new(),
    };
    outbox.settle(vec![settled]).await.unwrap();
    event_id
}
