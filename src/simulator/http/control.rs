//! The simulator's own pages: faults, counters, and what is made up in markets.

use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Page, json as json_page, text};
use crate::simulator::{FaultSpec, Shared};

/// `{"kind","arg","symbol","on"}`: `arg` is a text or a number; `on` is true unless it says false.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    kind: String,
    #[serde(default)]
    arg: Option<Value>,
    #[serde(default)]
    symbol: Option<String>,
    #[serde(default = "yes")]
    on: bool,
}

const fn yes() -> bool {
    true
}

/// Answers a request for `/_sim/<path>`.
pub(super) fn respond(path: &str, request: &Page, shared: &Shared) -> Response<String> {
    match (request.method(), path) {
        (&Method::GET, "stats") => json_page(StatusCode::OK, &shared.stats()),
        (&Method::GET, "faults") => list(shared),
        (&Method::POST, "faults") => match switch(request.body(), shared) {
            Ok(()) => list(shared),
            Err(reason) => json_page(StatusCode::BAD_REQUEST, &json!({"error": reason})),
        },
        (&Method::POST, "tick") => done(tick(request.body(), shared)),
        (&Method::POST, "quote") => done(quote(request.body(), shared)),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are GET stats, GET faults, POST faults, POST tick and POST quote",
        ),
    }
}

fn done(result: Result<Value, String>) -> Response<String> {
    match result {
        Ok(value) => json_page(StatusCode::OK, &value),
        Err(reason) => json_page(StatusCode::BAD_REQUEST, &json!({"error": reason})),
    }
}

/// `{"symbol","time","price","size"}`: one trade more; `time` is now unless it is given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tick {
    symbol: String,
    #[serde(default)]
    time: Option<String>,
    price: f64,
    #[serde(default)]
    size: Option<f64>,
}

fn tick(body: &str, shared: &Shared) -> Result<Value, String> {
    let tick: Tick = serde_json::from_str(body)
        .map_err(|error| format!("expected {{\"symbol\",\"time\",\"price\",\"size\"}}: {error}"))?;
    let time = tick.time.map(|time| {
        let wrong = |_| format!("`time`: `{}` is no RFC 3339", time.escape_debug());
        time.parse::<Timestamp>().map_err(wrong)
    });
    let (time, quote) = shared
        .inject(&tick.symbol, time.transpose()?, tick.price, tick.size)
        .map_err(|error| format!("`{}`: {error}", tick.symbol.escape_debug()))?;
    Ok(json!({"symbol": tick.symbol, "time": time.to_string(), "volume": quote.volume}))
}

/// `{"symbol","values"}`: an update with just these fields, to everybody who has subscribed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MadeUp {
    symbol: String,
    values: Map<String, Value>,
}

fn quote(body: &str, shared: &Shared) -> Result<Value, String> {
    let made_up: MadeUp = serde_json::from_str(body)
        .map_err(|error| format!("expected {{\"symbol\",\"values\"}}: {error}"))?;
    shared
        .invent(&made_up.symbol, made_up.values)
        .map_err(|error| format!("`{}`: {error}", made_up.symbol.escape_debug()))?;
    Ok(json!({"symbol": made_up.symbol}))
}

fn list(shared: &Shared) -> Response<String> {
    json_page(StatusCode::OK, &json!({"faults": shared.faults.list()}))
}

fn switch(body: &str, shared: &Shared) -> Result<(), String> {
    let switch: Switch = serde_json::from_str(body)
        .map_err(|error| format!("expected {{\"kind\",\"arg\",\"symbol\",\"on\"}}: {error}"))?;
    let arg = match &switch.arg {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            return Err("`arg` is a text or a number".to_owned());
        }
    };
    let symbol = switch.symbol.filter(|symbol| !symbol.is_empty());
    let fault = FaultSpec::new(&switch.kind, arg.as_deref(), symbol.as_deref())
        .map_err(|error| error.to_string())?;
    if !switch.on {
        shared.faults.switch_off(&fault);
        return Ok(());
    }
    let fits = shared.faults.switch_on(fault);
    if fits { Ok(()) } else { Err("too many faults are on".to_owned()) }
}
