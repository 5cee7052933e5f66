//! The simulator's own pages: faults and counters.

use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

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
        (&Method::GET, "stats") => json_page(StatusCode::OK, &shared.stats.snapshot()),
        (&Method::GET, "faults") => list(shared),
        (&Method::POST, "faults") => match switch(request.body(), shared) {
            Ok(()) => list(shared),
            Err(reason) => json_page(StatusCode::BAD_REQUEST, &json!({"error": reason})),
        },
        _ => text(StatusCode::NOT_FOUND, "there are GET stats, GET faults and POST faults"),
    }
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
