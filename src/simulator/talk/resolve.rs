//! Which instrument a client means.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Dialogue;
use super::symbol_info::symbol_info;
use crate::simulator::FaultKind;
use crate::simulator::wire::{Answer, Request};
use crate::simulator::world::Instrument;

/// How deep a specification of a specification may go.
const MAX_DEPTH: usize = 4;

/// To resolve takes a moment, so that `series_loading` of a series that is asked for in the same
/// breath comes first, as it does from the provider.
const RESOLVE_TIME: Duration = Duration::from_millis(5);

/// A name that stands for an instrument, or for a failure.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// None where there is no such instrument, or it is not for everybody.
    pub(super) instrument: Option<Arc<Instrument>>,
    /// When the client is told.
    pub(super) ready_at: Instant,
}

/// The name within a specification: plain, `={"symbol":"..."}`, or nested.
pub(super) fn name_in(specification: &str) -> Option<String> {
    let mut text = specification.to_owned();
    for _ in 0..MAX_DEPTH {
        let Some(json) = text.strip_prefix('=') else { return Some(text) };
        let mut value: Value = serde_json::from_str(json).ok()?;
        while let Some(inner) = value.get_mut("symbol") {
            value = inner.take();
        }
        value.as_str()?.clone_into(&mut text);
    }
    None
}

impl Dialogue {
    pub(super) fn resolve_symbol(&mut self, request: &Request, now: Instant) {
        let (Some(session), Some(name), Some(specification)) =
            (request.text(0), request.text(1), request.text(2))
        else {
            return self.critical(now, request, "invalid parameters");
        };
        self.shared.stats.resolve_requests.add(1);
        let instrument = name_in(specification).and_then(|name| self.shared.world.find(&name));
        let symbol = instrument.as_ref().map(|instrument| instrument.facts().symbol.clone());
        let symbol = symbol.as_ref();
        let Some(due) = self.gate(symbol, now) else {
            // What asks for this name is not answered either.
            if let Some(chart) = self.charts.get_mut(session) {
                chart.remember(name, Resolved { instrument, ready_at: now });
            }
            return;
        };
        let faults = &self.shared.faults;
        let refuses_name = faults.is_on(FaultKind::DuplicateId, symbol);
        let missing = faults.is_on(FaultKind::InvalidSymbol, symbol);
        let denied = faults.find(FaultKind::PermissionDenied, symbol);
        let Some(chart) = self.charts.get_mut(session) else {
            return self.critical(due, request, "invalid parameters");
        };
        if refuses_name || chart.resolved.contains_key(name) {
            return self.critical(due, request, "duplicate id");
        }
        let ready_at = due + RESOLVE_TIME;
        let now = self.shared.time_of(instrument.as_deref());
        let found = instrument.filter(|_| !missing && denied.is_none());
        let answer = match (&found, denied) {
            (Some(instrument), _) => {
                let faulted = self.shared.faults.is_on(FaultKind::NoVolume, symbol);
                let info = symbol_info(instrument, instrument.facts().has_volume && !faulted);
                Answer::at("symbol_resolved", (session, name, info), now).text()
            }
            (None, Some(fault)) if !missing => {
                let group = fault.arg().unwrap_or("economics_paid");
                let parameters = (session, name, "permission denied", "group", group);
                Answer::at("symbol_error", parameters, now).text()
            }
            (None, _) => Answer::at("symbol_error", (session, name, "invalid symbol"), now).text(),
        };
        if !chart.remember(name, Resolved { instrument: found, ready_at }) {
            return self.critical(due, request, "invalid parameters");
        }
        self.outbox.send(ready_at, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_every_form() {
        for specification in [
            "NASDAQ:AAPL",
            r#"={"adjustment":"splits","symbol":"NASDAQ:AAPL"}"#,
            r#"={ "symbol": "NASDAQ:AAPL", "session": "extended" }"#,
            r#"={"symbol":{"symbol":"NASDAQ:AAPL"},"type":"BarSetHeikenAshi@tv-basicstudies-60!"}"#,
            r#"={"symbol":"={\"symbol\":\"NASDAQ:AAPL\"}","type":"BarSetRenko@tv-prostudies-40!"}"#,
        ] {
            assert_eq!(name_in(specification).as_deref(), Some("NASDAQ:AAPL"), "{specification}");
        }
        for broken in ["={", "={}", r#"={"symbol":7}"#, "=[]"] {
            assert_eq!(name_in(broken), None, "{broken}");
        }
    }
}
