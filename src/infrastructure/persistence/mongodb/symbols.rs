//! Instruments.

use futures::stream::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, doc};
use mongodb::options::ReturnDocument;

use super::super::millisecond_before;
use super::super::symbols::SymbolFilter;
use super::{DEADLINE, DatabaseError, MongoDb, database_error, decode};
use crate::domain::shared::Symbol;
use crate::domain::symbol::{
    CustomFields, SessionSpec, SymbolChange, SymbolDescription, SymbolInfo,
};

/// What a person says: the fields of [`CustomFields`], in its order.
const CUSTOM: [&str; 3] = ["custom_name", "custom_description", "custom_asset_type"];

/// The collection's name.
pub(super) const COLLECTION: &str = "symbols";

/// The collection `symbols`.
#[derive(Clone, Debug)]
pub(in super::super) struct Symbols(MongoDb);

impl Symbols {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn get(
        &self,
        symbol: &Symbol,
    ) -> Result<Option<SymbolInfo>, DatabaseError> {
        let mut filter = key(symbol);
        filter.insert("deleted_at", Bson::Null);
        self.find(filter).await
    }

    pub(in super::super) async fn last_known(
        &self,
        symbol: &Symbol,
    ) -> Result<Option<SymbolInfo>, DatabaseError> {
        self.find(key(symbol)).await
    }

    async fn find(&self, filter: Document) -> Result<Option<SymbolInfo>, DatabaseError> {
        let collection = self.0.raw(COLLECTION);
        let get = async move {
            let found = collection.find_one(filter).max_time(DEADLINE).await;
            match found.map_err(|error| database_error(&error))? {
                Some(document) => Ok(read_info(&document)),
                None => Ok(None),
            }
        };
        self.0.run(DEADLINE, get).await
    }

    pub(in super::super) async fn put(&self, info: &SymbolInfo) -> Result<(), DatabaseError> {
        let (collection, filter) = (self.0.documents(COLLECTION), key(&info.symbol));
        let change = change(info);
        let mut deleted = filter.clone();
        deleted.insert("deleted_at", doc! { "$ne": Bson::Null });
        let put = async move {
            // A symbol that comes back after it was deleted is a new one.
            let gone = collection.delete_one(deleted).await;
            gone.map_err(|error| database_error(&error))?;
            // Of two upserts of a new key one may lose, and then finds it (server SERVER-14322).
            let mut done = collection.update_one(filter.clone(), change.clone()).upsert(true).await;
            if done.as_ref().is_err_and(super::is_duplicate_key) {
                done = collection.update_one(filter, change).upsert(true).await;
            }
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, put).await
    }

    pub(in super::super) async fn customise(
        &self,
        symbol: &Symbol,
        change: &SymbolChange,
        at: Timestamp,
    ) -> Result<Option<SymbolInfo>, DatabaseError> {
        let (collection, mut filter) = (self.0.raw(COLLECTION), key(symbol));
        filter.insert("deleted_at", Bson::Null);
        let change = custom_change(change, at);
        let customise = async move {
            let changing = collection.find_one_and_update(filter, change);
            let changed = changing.return_document(ReturnDocument::After).await;
            let changed = changed.map_err(|error| database_error(&error))?;
            Ok(changed.and_then(|document| read_info(&document)))
        };
        self.0.run(DEADLINE, customise).await
    }

    pub(in super::super) async fn delete(
        &self,
        symbol: &Symbol,
        at: Timestamp,
    ) -> Result<bool, DatabaseError> {
        let (collection, mut filter) = (self.0.documents(COLLECTION), key(symbol));
        filter.insert("deleted_at", Bson::Null);
        let mut unset = Document::new();
        unset.extend(CUSTOM.map(|name| (name.to_owned(), Bson::from(""))));
        let at = DateTime::from_millis(millisecond_before(at));
        let change = doc! { "$set": { "deleted_at": at, "is_active": true }, "$unset": unset };
        let delete = async move {
            let done = collection.update_one(filter, change).await;
            done.map(|done| done.matched_count > 0).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, delete).await
    }

    pub(in super::super) async fn forget(&self, symbol: &Symbol) -> Result<(), DatabaseError> {
        let (collection, filter) = (self.0.documents(COLLECTION), key(symbol));
        let forget = async move {
            let done = collection.delete_one(filter).await;
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, forget).await
    }

    pub(in super::super) async fn list(
        &self,
        filter: &SymbolFilter,
        after: Option<&Symbol>,
        limit: u32,
    ) -> Result<Vec<SymbolInfo>, DatabaseError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut query = doc! { "deleted_at": Bson::Null };
        if let Some(exchange) = &filter.exchange {
            query.insert("exchange", exchange);
        }
        if let Some(active) = filter.active {
            // Absent means active.
            query.insert(
                "is_active",
                if active {
                    doc! { "$ne": false }
                } else {
                    doc! { "$eq": false }
                },
            );
        }
        if let Some(after) = after {
            let (exchange, code) = (after.exchange(), after.code());
            query.insert(
                "$or",
                [
                    doc! { "exchange": { "$gt": exchange } },
                    doc! { "exchange": exchange, "symbol": { "$gt": code } },
                ]
                .to_vec(),
            );
        }
        let collection = self.0.raw(COLLECTION);
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let list = async move {
            let found = collection
                .find(query)
                .sort(doc! { "exchange": 1, "symbol": 1 })
                .batch_size(limit)
                .max_time(DEADLINE)
                .await;
            let mut cursor = found.map_err(|error| database_error(&error))?;
            let mut all = Vec::new();
            while let Some(document) =
                cursor.try_next().await.map_err(|error| database_error(&error))?
            {
                all.extend(read_info(&document));
                // Counted here: what is left alone must not end the list early.
                if all.len() >= wanted {
                    break;
                }
            }
            Ok(all)
        };
        self.0.run(DEADLINE, list).await
    }
}

fn key(symbol: &Symbol) -> Document {
    doc! { "symbol": symbol.code(), "exchange": symbol.exchange() }
}

/// What a person says: absent stays, empty is taken back.
fn custom_change(change: &SymbolChange, at: Timestamp) -> Document {
    let mut set = doc! { "updated_at": DateTime::from_millis(millisecond_before(at)) };
    let mut unset = Document::new();
    let texts = [&change.name, &change.description, &change.asset_type];
    for (name, text) in CUSTOM.into_iter().zip(texts) {
        match text.as_deref() {
            None => {}
            Some("") => drop(unset.insert(name, "")),
            Some(text) => drop(set.insert(name, text)),
        }
    }
    if let Some(active) = change.active {
        set.insert("is_active", active);
    }
    let mut change = doc! { "$set": set };
    if !unset.is_empty() {
        change.insert("$unset", unset);
    }
    change
}

/// What makes the stored instrument what the provider says in `info`; all else stays.
fn change(info: &SymbolInfo) -> Document {
    let said = &info.description;
    let session = said.session.as_ref();
    let texts = [
        ("name", said.name.as_ref()),
        ("description", said.description.as_ref()),
        ("asset_type", said.asset_type.as_ref()),
        ("currency", said.currency.as_ref()),
        ("timezone", session.map(|session| &session.timezone)),
        ("session", session.map(|session| &session.session)),
        ("holidays", session.map(|session| &session.holidays)),
        ("corrections", session.map(|session| &session.corrections)),
    ];
    let scale = said.price_scale.map(i64::from);
    let fields = texts
        .into_iter()
        .map(|(name, text)| (name, text.map(|text| Bson::from(text.as_str()))))
        .chain([("price_scale", scale.map(Bson::Int64))]);
    let mut set = doc! {
        "updated_at": DateTime::from_millis(millisecond_before(info.updated_at)),
    };
    let mut unset = Document::new();
    for (name, value) in fields {
        match value {
            Some(value) => set.insert(name, value),
            None => unset.insert(name, ""),
        };
    }
    let created_at = DateTime::from_millis(millisecond_before(info.created_at));
    let new = doc! { "is_active": info.active, "created_at": created_at };
    let mut change = doc! { "$set": set, "$setOnInsert": new };
    if !unset.is_empty() {
        change.insert("$unset", unset);
    }
    change
}

/// None where it cannot be read, which is logged: one such document must not hide the others, and
/// the next sync of the symbol writes it anew.
fn read_info(document: &RawDocument) -> Option<SymbolInfo> {
    let part = |name| document.get_str(name).unwrap_or_default();
    let (exchange, symbol) = (part("exchange"), part("symbol"));
    let read = Symbol::new(exchange, symbol)
        .map_err(|error| error.to_string())
        .and_then(|symbol| read_fields(document, symbol));
    read.map_err(|error| {
        tracing::warn!(exchange, symbol, error, "an unreadable symbol is left alone");
    })
    .ok()
}

fn read_fields(document: &RawDocument, symbol: Symbol) -> Result<SymbolInfo, String> {
    let field = |name: &str| -> Result<RawBsonRef<'_>, String> {
        let value = document.get(name).map_err(|error| error.to_string())?;
        Ok(value.unwrap_or(RawBsonRef::Null))
    };
    let text = |name| Ok::<_, String>(decode::text(name, field(name)?)?.map(str::to_owned));
    let made_at = decode::made_at(document.get_object_id("_id").ok());
    let created_at = decode::time("created_at", field("created_at")?)?.unwrap_or(made_at);
    let session = match text("session")? {
        None => None,
        Some(session) => Some(SessionSpec {
            timezone: text("timezone")?.unwrap_or_default(),
            session,
            holidays: text("holidays")?.unwrap_or_default(),
            corrections: text("corrections")?.unwrap_or_default(),
        }),
    };
    Ok(SymbolInfo {
        symbol,
        description: SymbolDescription {
            name: text("name")?,
            description: text("description")?,
            asset_type: text("asset_type")?,
            currency: text("currency")?,
            session,
            price_scale: decode::whole("price_scale", field("price_scale")?)?,
        },
        custom: CustomFields {
            name: text("custom_name")?,
            description: text("custom_description")?,
            asset_type: text("custom_asset_type")?,
        },
        active: field("is_active")?.as_bool().unwrap_or(true),
        created_at,
        updated_at: decode::time("updated_at", field("updated_at")?)?.unwrap_or(created_at),
    })
}
