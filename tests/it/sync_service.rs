//! The service that runs syncs, with a provider that waits until it is let go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use pocketquant::common::shutdown::Lifecycle;
use pocketquant::domain::shared::{Interval, Series, Symbol};
use pocketquant::domain::symbol::{SessionSpec, SymbolDescription};
use pocketquant::domain::sync::{SyncState, SyncStatus};
use pocketquant::features::market_data::coverage::GapRepairs;
use pocketquant::features::market_data::sync::{
    SyncError, SyncService, SyncServiceParts, SyncTicket,
};
use pocketquant::features::market_data::{Announcer, CoverageLedger, LiveSeries, Sessions};
use pocketquant::infrastructure::interfaces::{
    HistoryDepth, HistoryPage, HistoryProvider, HistoryRequest, HistoryStream, RawBar,
};
use pocketquant::infrastructure::persistence::{
    Cache, CacheConfig, CacheRead, Database, Lease, SeriesCache, SyncCounts, SyncRecord,
};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use uuid::Uuid;

use crate::database::{Store, on_both_engines, series};

on_both_engines!(
    eight_syncs_are_with_the_provider_and_the_others_wait,
    of_one_series_one_sync_runs_at_a_time,
    a_sync_that_is_cancelled_is_not_joined,
    a_symbol_that_another_server_syncs_is_not_held,
    a_sync_that_another_server_took_over_ends_here,
    a_stop_hands_syncs_back_and_begins_none,
    a_start_corrects_statuses_that_no_sync_belongs_to,
    a_session_that_the_provider_says_anew_counts_at_once,
);

/// A service without its calls, and what works with it.
pub struct Syncing {
    pub database: Database,
    pub cache: SeriesCache,
    pub sessions: Sessions,
    pub ledger: CoverageLedger,
    pub syncs: SyncService,
    pub repairs: GapRepairs,
    pub lifecycle: Lifecycle,
}

impl Syncing {
    pub async fn start(store: &Store, provider: Arc<dyn HistoryProvider>) -> Self {
        let (database, lifecycle) = (store.database.clone(), Lifecycle::new());
        let (announcer, _untold) = Announcer::new(database.clone());
        let (sessions, live) = (Sessions::new(database.clone()), LiveSeries::default());
        let ledger = CoverageLedger::new(database.clone(), sessions.clone(), announcer.clone());
        let cache = SeriesCache::new(Cache::connect(CacheConfig::Memory).await.unwrap());
        let syncs = SyncService::new(SyncServiceParts {
            database: database.clone(),
            cache: cache.clone(),
            provider,
            sessions: sessions.clone(),
            live: live.clone(),
            ledger: ledger.clone(),
            announcer,
            lifecycle: lifecycle.clone(),
        });
        let (kept, ledger_kept) = (sessions.clone(), ledger.clone());
        let repairs = GapRepairs::new(database.clone(), kept, live, ledger_kept, syncs.clone());
        Self { database, cache, sessions, ledger, syncs, repairs, lifecycle }
    }

    fn begin(&self, series: &Series, bars: u32) -> Result<SyncTicket, SyncError> {
        self.syncs.start(series.clone(), HistoryDepth::Newest(bars))
    }

    async fn stop(self) {
        self.lifecycle.stop();
        self.lifecycle.wait(Duration::from_mins(1)).await.unwrap();
    }
}

/// Has one bar of everything, for whoever has a permit.
#[derive(Debug)]
struct Gate {
    permits: Semaphore,
    /// How many ask for each series now, and how many did at most.
    asking: Mutex<(HashMap<Series, usize>, usize, usize)>,
    /// What it says of every instrument.
    said: Mutex<Option<SymbolDescription>>,
}

impl Gate {
    fn closed() -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(0),
            asking: Mutex::default(),
            said: Mutex::default(),
        })
    }

    fn open(&self) {
        self.permits.add_permits(1_000);
    }

    fn enter(&self, series: &Series) {
        let (each, most, most_of_one) = &mut *self.asking.lock().unwrap();
        *each.entry(series.clone()).or_default() += 1;
        *most = each.values().sum::<usize>().max(*most);
        *most_of_one = each.values().copied().max().unwrap().max(*most_of_one);
    }

    fn leave(&self, series: &Series) {
        *self.asking.lock().unwrap().0.get_mut(series).unwrap() -= 1;
    }

    /// Waits until so many ask.
    async fn until(&self, count: usize) {
        while self.asking.lock().unwrap().0.values().sum::<usize>() < count {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many asked at most, of all and of one series.
    fn most(&self) -> (usize, usize) {
        let asking = self.asking.lock().unwrap();
        (asking.1, asking.2)
    }
}

#[derive(Debug)]
struct Provider(Arc<Gate>);

impl HistoryProvider for Provider {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn history(&self, request: HistoryRequest) -> HistoryStream {
        let gate = Arc::clone(&self.0);
        let answer = async move {
            gate.enter(&request.series);
            gate.permits.acquire().await.unwrap().forget();
            gate.leave(&request.series);
            let open_time = Timestamp::UNIX_EPOCH;
            let bar =
                RawBar { open_time, open: 1.0, high: 1.0, low: 1.0, close: 1.0, volume: None };
            let (server_time, symbol) = (Timestamp::now(), gate.said.lock().unwrap().clone());
            Ok(HistoryPage { bars: vec![bar], server_time, symbol, end: None })
        };
        stream::once(answer).boxed()
    }
}

async fn scene(store: &Store) -> (Arc<Gate>, Syncing) {
    let gate = Gate::closed();
    let syncing = Syncing::start(store, Arc::new(Provider(Arc::clone(&gate)))).await;
    (gate, syncing)
}

fn many(count: usize) -> impl Iterator<Item = Series> {
    (0..count).map(|number| series(&format!("A:B{number}"), Interval::D1))
}

async fn eight_syncs_are_with_the_provider_and_the_others_wait(store: &Store) {
    let (gate, syncing) = scene(store).await;
    let tickets: Vec<SyncTicket> =
        many(12).map(|series| syncing.begin(&series, 1).unwrap()).collect();
    gate.until(8).await;
    for ticket in tickets.clone() {
        // Each has begun: what is not with the provider now is held back.
        ticket.kept().await.unwrap();
    }
    gate.open();
    for ticket in tickets {
        assert_eq!(ticket.finished().await.unwrap().bars_inserted, 1);
    }
    assert_eq!(gate.most().0, 8);
    syncing.stop().await;
}

async fn of_one_series_one_sync_runs_at_a_time(store: &Store) {
    let (gate, syncing) = scene(store).await;
    let series = series("A:B", Interval::D1);
    let tickets: Vec<SyncTicket> =
        (1..=3).map(|bars| syncing.begin(&series, bars).unwrap()).collect();
    gate.until(1).await;
    let mut ids: Vec<Uuid> = tickets.iter().map(|ticket| ticket.sync_id).collect();
    assert_eq!(syncing.begin(&series, 3).unwrap().sync_id, ids[2], "one that waits is joined");
    for ticket in tickets {
        gate.until(1).await;
        gate.permits.add_permits(1);
        ticket.finished().await.unwrap();
    }
    ids.dedup();
    assert_eq!((ids.len(), gate.most().1), (3, 1), "each asks for more than those before it");
    syncing.stop().await;
}

async fn a_sync_that_is_cancelled_is_not_joined(store: &Store) {
    let (gate, syncing) = scene(store).await;
    let series = series("A:B", Interval::D1);
    let first = syncing.begin(&series, 1).unwrap();
    gate.until(1).await;
    first.cancel();
    let second = syncing.begin(&series, 1).unwrap();
    assert_ne!(second.sync_id, first.sync_id);
    gate.open();
    assert!(matches!(first.finished().await, Err(SyncError::Cancelled)));
    // Whether its bar was stored already is chance.
    assert_eq!(second.finished().await.unwrap().bars_fetched, 1);
    syncing.stop().await;
}

async fn a_symbol_that_another_server_syncs_is_not_held(store: &Store) {
    let (_gate, syncing) = scene(store).await;
    let (one, other) = (Symbol::parse("A:B").unwrap(), Symbol::parse("A:C").unwrap());
    let mut record = record(&Series::new(one.clone(), Interval::D1));
    let elsewhere = other_lease();
    let syncs = syncing.database.syncs();
    syncs.insert(&record, elsewhere).await.unwrap();
    assert!(syncing.syncs.hold(&one).await.unwrap().is_none());
    assert!(syncing.syncs.hold(&other).await.unwrap().is_some());
    record.ended = Some((Timestamp::now(), Bytes::new()));
    assert!(syncs.update(&record, elsewhere).await.unwrap());
    assert!(syncing.syncs.hold(&one).await.unwrap().is_some());
    syncing.stop().await;
}

/// A sync of another server.
fn record(series: &Series) -> SyncRecord {
    SyncRecord {
        sync_id: Uuid::now_v7(),
        series: series.clone(),
        depth: HistoryDepth::Full,
        state: SyncState::Syncing,
        counts: SyncCounts::default(),
        reached: None,
        started_at: Timestamp::now(),
        ended: None,
    }
}

fn other_lease() -> Lease {
    Lease { owner: Uuid::now_v7(), length: Duration::from_hours(1) }
}

async fn a_sync_that_another_server_took_over_ends_here(store: &Store) {
    let (gate, syncing) = scene(store).await;
    let ticket = syncing.begin(&series("A:B", Interval::D1), 1).unwrap();
    gate.until(1).await;
    // As if this one had been frozen for longer than its lease.
    store.lapse_leases().await;
    let taken = syncing.database.syncs().take_over(other_lease(), 9).await.unwrap();
    assert_eq!(taken.iter().map(|each| each.sync_id).collect::<Vec<_>>(), [ticket.sync_id]);
    gate.open();
    let ended = ticket.finished().await;
    assert!(matches!(ended, Err(SyncError::Interrupted)), "{ended:?}");
    syncing.stop().await;
}

async fn a_stop_hands_syncs_back_and_begins_none(store: &Store) {
    let (gate, syncing) = scene(store).await;
    let (one, other) = (series("A:B", Interval::D1), series("A:C", Interval::D1));
    let ticket = syncing.begin(&one, 1).unwrap();
    gate.until(1).await;
    syncing.lifecycle.stop();
    assert!(matches!(syncing.begin(&other, 1), Err(SyncError::Interrupted)));
    assert!(matches!(ticket.clone().finished().await, Err(SyncError::Interrupted)));
    let syncs = syncing.database.syncs();
    syncing.stop().await;
    // Whoever comes next need not wait for its lease to lapse.
    let taken = syncs.take_over(other_lease(), 9).await.unwrap();
    assert_eq!(taken.iter().map(|each| each.sync_id).collect::<Vec<_>>(), [ticket.sync_id]);
}

async fn a_start_corrects_statuses_that_no_sync_belongs_to(store: &Store) {
    let (_gate, syncing) = scene(store).await;
    let (running, orphan) = (series("A:B", Interval::D1), series("A:C", Interval::D1));
    let statuses = syncing.database.sync_statuses();
    for series in [&running, &orphan] {
        let mut status = SyncStatus::pending(series.clone());
        status.start().unwrap();
        statuses.put(&status, Timestamp::now()).await.unwrap();
    }
    let elsewhere = record(&running);
    syncing.database.syncs().insert(&elsewhere, other_lease()).await.unwrap();
    syncing.syncs.recover().await.unwrap();
    let state = async |series| statuses.get(series).await.unwrap().unwrap().state;
    assert_eq!(state(&orphan).await, SyncState::Error);
    assert_eq!(state(&running).await, SyncState::Syncing);
    syncing.stop().await;
}

async fn a_session_that_the_provider_says_anew_counts_at_once(store: &Store) {
    let (gate, syncing) = scene(store).await;
    gate.open();
    let (days, hours) = (series("A:B", Interval::D1), series("A:B", Interval::H1));
    let synced = async |session: &str| {
        let session = SessionSpec {
            timezone: "America/New_York".to_owned(),
            session: session.to_owned(),
            ..SessionSpec::default()
        };
        let said = SymbolDescription { session: Some(session), ..SymbolDescription::default() };
        *gate.said.lock().unwrap() = Some(said);
        syncing.begin(&days, 1).unwrap().finished().await.unwrap();
        // When the bar of noon of a Wednesday closes.
        let noon = "2024-01-10T17:00:00Z".parse().unwrap();
        let session = syncing.sessions.of(&days.symbol).await.unwrap();
        session.bounds_of(Interval::H3, noon).close().to_string()
    };
    assert_eq!(synced("0930-1600").await, "2024-01-10T17:30:00Z");
    let cache = &syncing.cache;
    let CacheRead::Miss(ticket) = cache.read(&hours, "q").await else { panic!("it is empty") };
    cache.fill(ticket, Bytes::from_static(b"answer")).await;
    synced("0930-1600").await;
    assert!(matches!(cache.read(&hours, "q").await, CacheRead::Hit(_)));
    assert_eq!(synced("1000-1600").await, "2024-01-10T18:00:00Z");
    let read = cache.read(&hours, "q").await;
    assert!(matches!(read, CacheRead::Miss(_)), "its bars are cut another way: {read:?}");
    syncing.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_syncs_wait_and_more_are_refused() {
    let (_gate, syncing) = scene(&Store::sqlite().await).await;
    let mut all = many(1_025);
    for series in all.by_ref().take(1_024) {
        syncing.begin(&series, 1).unwrap();
    }
    let refused = syncing.begin(&all.next().unwrap(), 1);
    assert!(matches!(refused, Err(SyncError::Overloaded)), "{refused:?}");
    let joined = syncing.begin(&many(1).next().unwrap(), 1);
    assert!(joined.is_ok(), "one that is joined is no more work");
    syncing.stop().await;
}
