//! Indexes and validators: ensured at start, as often as that is.
//!
//! An existing database has the unique indexes already, perhaps by other names; they are taken as
//! they are. Validators hold new documents; old ones stay readable, and writable, as they are.

mod layouts;
mod validators;

use std::time::Duration;

use futures::stream::TryStreamExt as _;
use layouts::{Index, Layout, layouts};
pub(super) use layouts::{bar_key, forming_key, log_sequence};
use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::options::IndexOptions;

use super::{DEADLINE, DatabaseError, LONG_DEADLINE, MongoDb, code, database_error};

/// `NamespaceExists`: another process was faster.
const EXISTS: i32 = 48;

/// Unauthorized.
const UNAUTHORIZED: i32 = 13;

/// `DuplicateKey`.
const DUPLICATE_KEY: i32 = 11_000;

/// `IndexOptionsConflict` and `IndexKeySpecsConflict`.
const CONFLICTS: [i32; 2] = [85, 86];

/// Makes what is missing.
pub(super) async fn ensure(engine: &MongoDb) -> Result<(), DatabaseError> {
    for layout in layouts() {
        ensure_collection(engine, &layout).await?;
        for index in layout.indexes {
            ensure_index(engine, layout.name, index).await?;
        }
    }
    Ok(())
}

/// Makes the collection, or gives the one there is its validator.
async fn ensure_collection(engine: &MongoDb, layout: &Layout) -> Result<(), DatabaseError> {
    let (database, name) = (engine.database.clone(), layout.name);
    let validator = layout.validator.clone();
    let ensure = async move {
        let filter = doc! { "name": name };
        let listed = database.list_collections().filter(filter).await?;
        let found = listed.try_collect::<Vec<_>>().await?.pop();
        let options = |command: &str| {
            doc! {
                command: name, "validator": &validator, "validationLevel": "moderate",
                "validationAction": "error",
            }
        };
        match found {
            Some(found) if found.options.validator.as_ref() == Some(&validator) => Ok(()),
            Some(_) => database.run_command(options("collMod")).await.map(|_| ()),
            None => match database.run_command(options("create")).await {
                Err(error) if code(&error) != Some(EXISTS) => Err(error),
                Ok(_) | Err(_) => Ok(()),
            },
        }
    };
    let tolerant = async move { Ok(ensure.await) };
    match engine.run(DEADLINE, tolerant).await? {
        Ok(()) => Ok(()),
        Err(error) if code(&error) == Some(UNAUTHORIZED) => {
            tracing::warn!(%error, "the validator of `{name}` was not set: the user may not");
            Ok(())
        }
        Err(error) => Err(database_error(&error)),
    }
}

/// Makes `index`, unless one with its keys is there.
async fn ensure_index(
    engine: &MongoDb,
    collection: &'static str,
    index: Index,
) -> Result<(), DatabaseError> {
    let documents = engine.documents(collection);
    let (name, unique, keys) = (index.name, index.unique, index.keys.clone());
    let keys_text = index.keys.to_string();
    let ensure = async move {
        let listed = documents.list_indexes().await?.try_collect::<Vec<IndexModel>>().await?;
        let is_unique = |model: &IndexModel| {
            model.options.as_ref().is_some_and(|options| options.unique == Some(true))
        };
        if listed.iter().any(|model| same_keys(&model.keys, &keys) && is_unique(model) == unique) {
            return Ok(());
        }
        let mut options = IndexOptions::default();
        options.name = Some(name.to_owned());
        options.unique = unique.then_some(true);
        options.partial_filter_expression = index.partial;
        options.expire_after = index.expires.then_some(Duration::ZERO);
        let model = IndexModel::builder().keys(index.keys).options(options).build();
        documents.create_index(model).await.map(|_| ())
    };
    let tolerant = async move { Ok(ensure.await) };
    let made = engine.run(LONG_DEADLINE, tolerant).await?;
    made.map_err(|error| index_error(collection, name, &keys_text, &error))
}

fn index_error(collection: &str, name: &str, keys: &str, error: &Error) -> DatabaseError {
    let message = format!("the index `{name}` of `{collection}` cannot be made");
    match code(error) {
        Some(DUPLICATE_KEY) => DatabaseError::config(
            format!("{message}: two documents have the same {keys}"),
            "remove one of each such pair, then start again",
        ),
        Some(number) if CONFLICTS.contains(&number) => DatabaseError::config(
            format!("{message}: another index is in its place"),
            format!("drop the index of `{collection}` on {keys} or by that name, then start again"),
        ),
        Some(UNAUTHORIZED) => DatabaseError::config(
            format!("{message}: the user may not"),
            "grant the user of MONGODB_URL the role `readWrite` on the database",
        ),
        _ => database_error(error),
    }
}

/// Some clients write an index's directions as doubles.
#[expect(clippy::wildcard_enum_match_arm, reason = "a direction is a number")]
fn same_keys(a: &Document, b: &Document) -> bool {
    let direction = |value: &Bson| match value {
        Bson::Int32(value) => f64::from(*value),
        Bson::Double(value) => *value,
        #[expect(clippy::cast_precision_loss, reason = "1 or -1")]
        Bson::Int64(value) => *value as f64,
        _ => f64::NAN,
    };
    a.len() == b.len()
        && a.iter().zip(b).all(|((name, way), (other, other_way))| {
            name == other && (direction(way) - direction(other_way)).abs() < f64::EPSILON
        })
}
