//! Why a simulator does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::domain::shared::SymbolError;
use crate::domain::symbol::SessionError;

/// Why a simulator does not start: what is wrong in its folder, or with its address.
#[derive(Debug, Error)]
pub enum SimulatorError {
    /// A file or the folder cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing to serve.
    #[error(
        "`{0}` holds no bars: put files named EXCHANGE_CODE_INTERVAL.csv (or .csv.gz) in it, such as `NASDAQ_AAPL_1d.csv`, or ticks/EXCHANGE_CODE_trades.csv.gz"
    )]
    NoBars(PathBuf),
    /// A file's name says not whose bars it holds.
    #[error("`{path}`: {reason}; name it EXCHANGE_CODE_INTERVAL.csv, such as `NASDAQ_AAPL_1d.csv`")]
    FileName {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A line of a file cannot be used.
    #[error("`{path}` line {line}: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1, the header included.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// `symbols.json` is not of its shape.
    #[error("`{path}` is no list of symbols and calendars")]
    Catalogue {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: serde_json::Error,
    },
    /// `symbols.json` names a symbol that is none.
    #[error("symbols.json: {0}")]
    Symbol(#[from] SymbolError),
    /// `symbols.json` says something that does not fit together.
    #[error("symbols.json: {0}")]
    Entry(String),
    /// A calendar cannot be read.
    #[error("symbols.json: calendar `{calendar}`")]
    Calendar {
        /// Which.
        calendar: String,
        /// Why.
        #[source]
        source: SessionError,
    },
    /// It would be reachable from elsewhere, and nobody asked for that.
    #[error(
        "`{0}` is not loopback, and the simulator asks nobody who they are: allow it explicitly"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
}
