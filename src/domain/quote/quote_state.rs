//! The latest quote of an instrument, merged from partial updates.

use std::time::Duration;

use jiff::Timestamp;

use super::{QuoteTick, QuoteUpdate, SessionState, SymbolId};

/// All that is known of an instrument's quote; absent means that the provider gives no value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quote {
    /// Last price of the regular session.
    pub last_price: Option<f64>,
    /// When that was traded.
    pub last_time: Option<Timestamp>,
    /// Volume of the trading day so far.
    pub volume: Option<f64>,
    /// Best bid.
    pub bid: Option<f64>,
    /// Best ask.
    pub ask: Option<f64>,
    /// Change against the previous close.
    pub change: Option<f64>,
    /// The same in percent.
    pub change_percent: Option<f64>,
    /// First price of the trading day.
    pub open_price: Option<f64>,
    /// Highest price of the trading day.
    pub high_price: Option<f64>,
    /// Lowest price of the trading day.
    pub low_price: Option<f64>,
    /// Close of the trading day before.
    pub prev_close: Option<f64>,
    /// Whether it trades; taken as trading where the provider does not say.
    pub session: Option<SessionState>,
    /// How late the quotes are, where the provider says so.
    pub delay: Option<Duration>,
}

/// What an update means for the bars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QuoteEffect {
    /// No value differs.
    Nothing,
    /// Values differ, but there was no trade: bid and ask, or anything out of session.
    Changed,
    /// Out of session, the instrument's time has moved to this without a trade.
    Time(Timestamp),
    /// A trade.
    Tick(QuoteTick),
}

impl Quote {
    /// Merges the snapshot after a subscription: what was known before is gone, and it is no tick.
    /// A snapshot may come in parts: [`merge_snapshot`](Self::merge_snapshot) takes the others.
    pub fn snapshot(update: &QuoteUpdate) -> Self {
        let mut quote = Self::default();
        quote.merge_snapshot(update);
        quote
    }

    /// Merges a further part of a snapshot; no tick. Answers whether a value differs now.
    pub fn merge_snapshot(&mut self, update: &QuoteUpdate) -> bool {
        let before = *self;
        self.merge(update);
        *self != before
    }

    /// Merges an update. It is a tick where last price, its time or the volume changed while the
    /// instrument is in session, and price and time are known.
    pub fn apply(&mut self, symbol: SymbolId, update: &QuoteUpdate) -> QuoteEffect {
        let before = *self;
        let traded = self.merge(update);
        if *self == before {
            return QuoteEffect::Nothing;
        }
        if self.session == Some(SessionState::OutOfSession) {
            let moved = self.last_time.filter(|_| self.last_time != before.last_time);
            return moved.map_or(QuoteEffect::Changed, QuoteEffect::Time);
        }
        match (traded, self.last_price, self.last_time) {
            (true, Some(price), Some(time)) => QuoteEffect::Tick(QuoteTick {
                symbol,
                time,
                price,
                size: None,
                cumulative: self.volume,
            }),
            (true | false, _, _) => QuoteEffect::Changed,
        }
    }

    /// Whether the trading day has no trade yet, as far as this says: no price, or no volume. The
    /// day's bars are then complete from its ticks alone.
    pub fn is_before_first_trade(&self) -> bool {
        self.last_price.is_none() || self.volume == Some(0.0)
    }

    /// Takes over what `update` says; answers whether price, time or volume differ and are known.
    fn merge(&mut self, update: &QuoteUpdate) -> bool {
        let price = update.last_price.merge_into(&mut self.last_price);
        let time = update.last_time.merge_into(&mut self.last_time);
        let volume = update.volume.merge_into(&mut self.volume);
        update.bid.merge_into(&mut self.bid);
        update.ask.merge_into(&mut self.ask);
        update.change.merge_into(&mut self.change);
        update.change_percent.merge_into(&mut self.change_percent);
        update.open_price.merge_into(&mut self.open_price);
        update.high_price.merge_into(&mut self.high_price);
        update.low_price.merge_into(&mut self.low_price);
        update.prev_close.merge_into(&mut self.prev_close);
        update.session.merge_into(&mut self.session);
        update.delay.merge_into(&mut self.delay);
        price && self.last_price.is_some()
            || time && self.last_time.is_some()
            || volume && self.volume.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Field;
    use super::*;

    const SYMBOL: SymbolId = SymbolId { index: 0, generation: 0 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn snapshot() -> QuoteUpdate {
        QuoteUpdate {
            last_price: Field::Set(10.0),
            last_time: Field::Set(at(60)),
            volume: Field::Set(100.0),
            bid: Field::Set(9.0),
            session: Field::Set(SessionState::InSession),
            ..QuoteUpdate::default()
        }
    }

    fn tick(second: i64, price: f64, cumulative: Option<f64>) -> QuoteEffect {
        QuoteEffect::Tick(QuoteTick {
            symbol: SYMBOL,
            time: at(second),
            price,
            size: None,
            cumulative,
        })
    }

    #[test]
    fn price_time_or_volume_alone_is_a_tick() {
        let price = QuoteUpdate { last_price: Field::Set(11.0), ..QuoteUpdate::default() };
        let time = QuoteUpdate { last_time: Field::Set(at(61)), ..QuoteUpdate::default() };
        let volume = QuoteUpdate { volume: Field::Set(103.0), ..QuoteUpdate::default() };
        let rows = [
            (price, tick(60, 11.0, Some(100.0))),
            (time, tick(61, 10.0, Some(100.0))),
            (volume, tick(60, 10.0, Some(103.0))),
        ];
        for (update, expected) in rows {
            let mut quote = Quote::snapshot(&snapshot());
            assert_eq!(quote.apply(SYMBOL, &update), expected);
            assert_eq!(quote.apply(SYMBOL, &update), QuoteEffect::Nothing, "the same again");
        }
    }

    #[test]
    fn bid_and_ask_alone_are_no_tick() {
        let mut quote = Quote::snapshot(&snapshot());
        let update = QuoteUpdate {
            bid: Field::Unset,
            ask: Field::Set(11.0),
            change: Field::Set(1.0),
            ..QuoteUpdate::default()
        };
        assert_eq!(quote.apply(SYMBOL, &update), QuoteEffect::Changed);
        assert_eq!((quote.bid, quote.ask, quote.last_price), (None, Some(11.0), Some(10.0)));
    }

    #[test]
    fn out_of_session_only_time_moves() {
        let mut quote = Quote::snapshot(&snapshot());
        let end = QuoteUpdate {
            session: Field::Set(SessionState::OutOfSession),
            last_time: Field::Set(at(180)),
            ..QuoteUpdate::default()
        };
        assert_eq!(quote.apply(SYMBOL, &end), QuoteEffect::Time(at(180)));
        let volume = QuoteUpdate { volume: Field::Set(500.0), ..QuoteUpdate::default() };
        assert_eq!(quote.apply(SYMBOL, &volume), QuoteEffect::Changed);
    }

    #[test]
    fn what_is_not_known_makes_no_tick() {
        let mut quote = Quote::snapshot(&QuoteUpdate::default());
        assert!(quote.is_before_first_trade());
        let price = QuoteUpdate { last_price: Field::Set(1.0), ..QuoteUpdate::default() };
        assert_eq!(quote.apply(SYMBOL, &price), QuoteEffect::Changed, "at an unknown time");
        let mut quote = Quote::snapshot(&snapshot());
        let gone = QuoteUpdate {
            last_price: Field::Unset,
            volume: Field::Unset,
            ..QuoteUpdate::default()
        };
        assert_eq!(quote.apply(SYMBOL, &gone), QuoteEffect::Changed);
        let back = QuoteUpdate { last_price: Field::Set(12.0), ..QuoteUpdate::default() };
        assert_eq!(quote.apply(SYMBOL, &back), tick(60, 12.0, None));
    }

    #[test]
    fn a_snapshot_in_parts_is_whole() {
        let mut quote = Quote::snapshot(&snapshot());
        let rest = QuoteUpdate { ask: Field::Set(11.0), ..QuoteUpdate::default() };
        assert!(quote.merge_snapshot(&rest));
        assert_eq!((quote.bid, quote.ask), (Some(9.0), Some(11.0)));
        let again = Quote::snapshot(&rest);
        assert_eq!(again.bid, None, "a new subscription starts from nothing");
    }
}
