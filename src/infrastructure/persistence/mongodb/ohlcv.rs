//! Bars: reading them. `ohlcv_write` stores them.

use futures::stream::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, doc};
use mongodb::options::{FindOptions, Hint};

use super::super::bars::{BarOrder, BarQuery, SeriesSummary};
use super::super::export::BarColumns;
use super::super::{millisecond_before, millisecond_from};
use super::{DEADLINE, DatabaseError, LONG_DEADLINE, MongoDb, database_error, decode, schema};
use crate::domain::ohlcv::{BarState, StoredBar};
use crate::domain::shared::{Series, Symbol};

/// The collection's name.
pub(super) const COLLECTION: &str = "ohlcv";

/// The collection `ohlcv`.
#[derive(Clone, Debug)]
pub(in super::super) struct Ohlcv {
    pub(super) engine: MongoDb,
}

impl Ohlcv {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self { engine: engine.clone() }
    }

    pub(in super::super) async fn find(
        &self,
        series: &Series,
        query: BarQuery,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        let from = query.start.map(millisecond_from);
        let before = query.end.map(millisecond_from);
        let filter = range_filter(series, from, before, query.include_forming);
        self.bars(series, filter, query.order, query.limit).await
    }

    pub(in super::super) async fn stretch(
        &self,
        series: &Series,
        from: Timestamp,
        to_inclusive: Timestamp,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        let from = millisecond_from(from);
        let before = millisecond_before(to_inclusive).saturating_add(1);
        let filter = range_filter(series, Some(from), Some(before), true);
        self.bars(series, filter, BarOrder::OldestFirst, u32::MAX).await
    }

    pub(in super::super) async fn page(
        &self,
        series: &Series,
        from: i64,
        before: i64,
        limit: u32,
    ) -> Result<BarColumns, DatabaseError> {
        let filter = range_filter(series, Some(from), Some(before), false);
        let projection = doc! {
            "_id": 0, "datetime": 1, "open": 1, "high": 1, "low": 1, "close": 1, "volume": 1,
            "state": 1,
        };
        let options = find_options(projection, BarOrder::OldestFirst, limit);
        let columns = BarColumns::with_capacity(usize::try_from(limit).unwrap_or_default());
        let name = series.clone();
        self.fold(filter, options, columns, move |columns, document| {
            columns.push(&decode::bar(document, &name)?);
            Ok(())
        })
        .await
    }

    /// Two counts on indexes alone, and a bar at each end.
    pub(in super::super) async fn summary(
        &self,
        series: &Series,
    ) -> Result<SeriesSummary, DatabaseError> {
        let all = self.count(series_filter(series), schema::bar_key());
        let mut forming = series_filter(series);
        forming.insert("state", BarState::Forming.as_str());
        let forming = self.count(forming, schema::forming_key());
        let first = self.end(series, BarOrder::OldestFirst);
        let last = self.end(series, BarOrder::NewestFirst);
        let (all, forming, first_bar_at, last_bar_at) =
            futures::try_join!(all, forming, first, last)?;
        Ok(SeriesSummary {
            bar_count: all.saturating_sub(forming),
            first_bar_at,
            last_bar_at,
            has_any: all > 0,
        })
    }

    pub(in super::super) async fn series(&self) -> Result<Vec<Series>, DatabaseError> {
        let database = self.engine.database.clone();
        let groups = async move {
            let key =
                doc! { "exchange": "$exchange", "symbol": "$symbol", "interval": "$interval" };
            let pipeline = [doc! { "$group": { "_id": key } }];
            let found = database
                .collection::<Document>(COLLECTION)
                .aggregate(pipeline)
                .hint(Hint::Keys(schema::bar_key()))
                .allow_disk_use(true)
                .max_time(LONG_DEADLINE)
                .await;
            let cursor = found.map_err(|error| database_error(&error))?;
            cursor.try_collect::<Vec<Document>>().await.map_err(|error| database_error(&error))
        };
        let groups = self.engine.run(LONG_DEADLINE, groups).await?;
        Ok(groups.iter().filter_map(named_series).collect())
    }

    async fn bars(
        &self,
        series: &Series,
        filter: Document,
        order: BarOrder,
        limit: u32,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        // To the server, no limit is zero.
        if limit == 0 {
            return Ok(Vec::new());
        }
        let projection = doc! {
            "_id": 0, "datetime": 1, "open": 1, "high": 1, "low": 1, "close": 1, "volume": 1,
            "state": 1, "revision": 1, "source": 1, "tick_count": 1,
        };
        let name = series.clone();
        self.fold(
            filter,
            find_options(projection, order, limit),
            Vec::new(),
            move |bars, document| {
                bars.push(decode::bar(document, &name)?);
                Ok(())
            },
        )
        .await
    }

    /// Reads raw batches: no document is copied or parsed twice.
    pub(super) async fn fold<A: Send + 'static>(
        &self,
        filter: Document,
        options: FindOptions,
        mut all: A,
        each: impl Fn(&mut A, &RawDocument) -> Result<(), DatabaseError> + Send + 'static,
    ) -> Result<A, DatabaseError> {
        let collection = self.engine.raw(COLLECTION);
        let read = async move {
            let found = collection.find(filter).with_options(options).batch().await;
            let mut batches = found.map_err(|error| database_error(&error))?;
            while let Some(batch) =
                batches.try_next().await.map_err(|error| database_error(&error))?
            {
                for value in batch.doc_slices().map_err(|error| database_error(&error))? {
                    let document = value.ok().and_then(RawBsonRef::as_document);
                    let document = document.ok_or_else(|| {
                        DatabaseError::corrupt(COLLECTION, "a batch", "it holds no documents")
                    })?;
                    each(&mut all, document)?;
                }
            }
            Ok(all)
        };
        self.engine.run(DEADLINE, read).await
    }

    /// The `count` command, as it alone counts index keys without looking at them one by one.
    async fn count(&self, query: Document, index: Document) -> Result<u64, DatabaseError> {
        let database = self.engine.database.clone();
        let count = async move {
            let milliseconds = i64::try_from(DEADLINE.as_millis()).unwrap_or(i64::MAX);
            let command = doc! {
                "count": COLLECTION, "query": query, "hint": index, "maxTimeMS": milliseconds,
            };
            let reply = database.run_command(command).await;
            let reply = reply.map_err(|error| database_error(&error))?;
            Ok(whole(&reply, "n"))
        };
        self.engine.run(DEADLINE, count).await
    }

    /// The open time of the final bar at one end.
    async fn end(
        &self,
        series: &Series,
        order: BarOrder,
    ) -> Result<Option<Timestamp>, DatabaseError> {
        let filter = range_filter(series, None, None, false);
        let options = find_options(doc! { "_id": 0, "datetime": 1 }, order, 1);
        self.fold(filter, options, None, |found, document| {
            let at = document.get_datetime("datetime").map(DateTime::timestamp_millis);
            *found = at.ok().and_then(|at| Timestamp::from_millisecond(at).ok());
            Ok(())
        })
        .await
    }
}

/// The key of a series.
pub(super) fn series_filter(series: &Series) -> Document {
    doc! {
        "symbol": series.symbol.code(),
        "exchange": series.symbol.exchange(),
        "interval": series.interval.as_str(),
    }
}

/// The bars of `series` that open in `[from, before)`.
fn range_filter(
    series: &Series,
    from: Option<i64>,
    before: Option<i64>,
    include_forming: bool,
) -> Document {
    let mut filter = series_filter(series);
    let mut range = Document::new();
    if let Some(from) = from {
        range.insert("$gte", DateTime::from_millis(from));
    }
    if let Some(before) = before {
        range.insert("$lt", DateTime::from_millis(before));
    }
    if !range.is_empty() {
        filter.insert("datetime", range);
    }
    if !include_forming {
        filter.insert("state", doc! { "$ne": BarState::Forming.as_str() });
    }
    filter
}

/// One batch where the server's limit of 16 MB allows it.
pub(super) fn find_options(projection: Document, order: BarOrder, limit: u32) -> FindOptions {
    let direction = match order {
        BarOrder::NewestFirst => -1,
        BarOrder::OldestFirst => 1,
    };
    FindOptions::builder()
        .projection(projection)
        .sort(doc! { "datetime": direction })
        .limit(i64::from(limit))
        .batch_size(limit.min(50_000))
        .max_time(DEADLINE)
        .hint(Hint::Keys(schema::bar_key()))
        .build()
}

/// A whole number in a reply, which some servers answer as a double.
pub(super) fn whole(reply: &Document, name: &str) -> u64 {
    match reply.get(name) {
        Some(Bson::Int32(value)) => u64::try_from(*value).unwrap_or_default(),
        Some(Bson::Int64(value)) => u64::try_from(*value).unwrap_or_default(),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of documents"
        )]
        Some(Bson::Double(value)) => *value as u64,
        _ => 0,
    }
}

/// A series whose name cannot be one of ours was not written by us, and cannot be asked for.
fn named_series(group: &Document) -> Option<Series> {
    let key = group.get_document("_id").ok()?;
    let field = |name| key.get_str(name).ok();
    let symbol = Symbol::new(field("exchange")?, field("symbol")?).ok();
    let interval = field("interval")?.parse().ok();
    let named = symbol.zip(interval).map(|(symbol, interval)| Series::new(symbol, interval));
    if named.is_none() {
        tracing::warn!(key = %key, "bars with an unreadable name are left alone");
    }
    named
}
