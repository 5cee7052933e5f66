//! Runs the same tests on the embedded engines and on real servers.

use crate::servers;

/// Which database and cache a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// SQLite and the in-process cache.
    Embedded,
    /// A real mongod and a real Redis.
    Servers,
}

impl Engine {
    /// The settings that choose it; on servers, a database of its own.
    pub async fn settings(self) -> Vec<(&'static str, String)> {
        match self {
            Self::Embedded => Vec::new(),
            Self::Servers => {
                let database = format!("it_{}", uuid::Uuid::now_v7().simple());
                vec![
                    ("MONGODB_URL", servers::mongodb_url().await),
                    ("MONGODB_DATABASE", database),
                    ("REDIS_URL", servers::own_redis_url().await),
                ]
            }
        }
    }
}

/// Declares each test twice: on the embedded engines, and on real servers, which `cargo test`
/// alone names as ignored.
macro_rules! on_every_engine {
    ($($(#[$attribute:meta])* $name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            $(#[$attribute])*
            async fn $name() {
                super::$name($crate::engines::Engine::Embedded).await;
            })+
        }
        mod servers {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs a real mongod and Redis: run scripts/test"]
            async fn $name() {
                super::$name($crate::engines::Engine::Servers).await;
            })+
        }
    };
}

pub(crate) use on_every_engine;
