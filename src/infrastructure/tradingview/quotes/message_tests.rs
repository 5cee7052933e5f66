//! The literal messages of the protocol.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::domain::quote::{Field, SessionState};

fn quote(json: &str) -> QuoteData<'_> {
    let incoming = parse(json).unwrap();
    let Incoming::Quote { session, quote } = incoming else { panic!("{incoming:?}") };
    assert_eq!(session, "qs_1");
    quote
}

fn update(values: &str) -> QuoteUpdate {
    let json = format!(r#"{{"m":"qsd","p":["qs_1",{{"n":"X:Y","s":"ok","v":{values}}}]}}"#);
    quote(&json).update
}

#[test]
fn a_snapshot_is_read_as_it_was_captured() {
    let json = r#"{"m":"qsd","p":["qs_1",{"n":"NASDAQ:AAPL","s":"ok","v":{"volume":48899973,"update_mode":"streaming","typespecs":["common"],"type":"stock","short_name":"AAPL","pro_name":"NASDAQ:AAPL","pricescale":100,"original_name":"BATS:AAPL","minmove2":0,"minmov":1,"lp_time":1686355199,"lp":180.96,"logoid":"apple","local_description":"삼성","is_tradable":true,"fractional":false,"market-status":{"phase":"out"},"current_session":"out_of_session","currency_code":"USD","chp":0.22,"ch":0.39}}]}"#;
    let quote = quote(json);
    assert_eq!((quote.name.as_ref(), quote.status.as_ref()), ("NASDAQ:AAPL", "ok"));
    assert!(matches!(quote.name, Cow::Borrowed(_)) && matches!(quote.status, Cow::Borrowed(_)));
    let expected = QuoteUpdate {
        last_price: Field::Set(180.96),
        last_time: Field::Set(Timestamp::from_second(1_686_355_199).unwrap()),
        volume: Field::Set(48_899_973.0),
        change: Field::Set(0.39),
        change_percent: Field::Set(0.22),
        session: Field::Set(SessionState::OutOfSession),
        delay: Field::Set(Duration::ZERO),
        ..QuoteUpdate::default()
    };
    assert_eq!(quote.update, expected);
}

#[test]
fn what_is_absent_is_told_from_what_has_no_value() {
    let found = update(r#"{"lp":null,"volume":1e+100,"bid":-1e100,"ask":0,"lp_time":null}"#);
    let expected = QuoteUpdate {
        last_price: Field::Unset,
        last_time: Field::Unset,
        volume: Field::Unset,
        bid: Field::Unset,
        ask: Field::Set(0.0),
        ..QuoteUpdate::default()
    };
    assert_eq!(found, expected);
    assert_eq!(update("{}"), QuoteUpdate::default());
    assert_eq!(update("null"), QuoteUpdate::default());
    assert_eq!(update(r#"{"lp":-37.63}"#).last_price, Field::Set(-37.63));
}

#[test]
fn values_of_another_type_are_none() {
    let found = update(
        r#"{"lp":"180.96","volume":{"a":[1]},"bid":[1,2],"ask":true,"lp_time":9e99,"update_mode":5,"current_session":null,"trade":{"price":"1"}}"#,
    );
    let expected = QuoteUpdate {
        last_price: Field::Unset,
        last_time: Field::Unset,
        volume: Field::Unset,
        bid: Field::Unset,
        ask: Field::Unset,
        session: Field::Unset,
        delay: Field::Unset,
        ..QuoteUpdate::default()
    };
    assert_eq!(found, expected);
}

#[test]
fn sessions_and_modes_are_told_by_their_words() {
    use SessionState::{InSession, OutOfSession};
    for (word, expected) in [
        ("market", Field::Set(InSession)),
        ("pre_market", Field::Set(OutOfSession)),
        ("post_market", Field::Set(OutOfSession)),
        ("out_of_session", Field::Set(OutOfSession)),
        ("holiday", Field::Set(OutOfSession)),
        ("siesta", Field::Unset),
    ] {
        assert_eq!(update(&format!(r#"{{"current_session":"{word}"}}"#)).session, expected);
    }
    for (mode, expected) in [
        ("streaming", Field::Set(Duration::ZERO)),
        ("delayed_streaming_900", Field::Set(Duration::from_mins(15))),
        ("delayed_streaming_1200", Field::Set(Duration::from_mins(20))),
        ("endofday", Field::Set(Duration::from_hours(24))),
        ("delayed_streaming_", Field::Unset),
        ("delayed_streaming_-1", Field::Unset),
        ("pulsed", Field::Unset),
    ] {
        assert_eq!(update(&format!(r#"{{"update_mode":"{mode}"}}"#)).delay, expected, "{mode}");
    }
}

#[test]
fn refusals_say_why() {
    let error = quote(
        r#"{"m":"qsd","p":["qs_1",{"n":"NASDAQ:NOPE","s":"error","errmsg":"no_such_symbol","v":{}}]}"#,
    );
    assert_eq!((error.status.as_ref(), error.reason.as_deref()), ("error", Some("no_such_symbol")));
    let denied = quote(
        r#"{"m":"qsd","p":["qs_1",{"n":"ECONOMICS:X","s":"permission_denied","errmsg":"Permission denied","v":{"alternative":"economics_paid"}}]}"#,
    );
    assert_eq!(denied.status, "permission_denied");
    assert_eq!(denied.alternative.as_deref(), Some("economics_paid"));
}

#[test]
fn keys_may_come_in_any_order_with_unknown_ones_between() {
    let json =
        r#"{"t":1,"p":["qs_1",{"v":{"lp":1},"s":"ok","n":"X\u003aY"},"more"],"x":[{}],"m":"qsd"}"#;
    let quote = quote(json);
    assert_eq!((quote.name.as_ref(), quote.update.last_price), ("X:Y", Field::Set(1.0)));
}

#[test]
fn the_other_messages_of_a_session() {
    let completed = parse(r#"{"m":"quote_completed","p":["qs_1","NASDAQ:AAPL"]}"#).unwrap();
    let expected = Incoming::Completed { session: "qs_1".into(), name: "NASDAQ:AAPL".into() };
    assert_eq!(completed, expected);
    let critical =
        r#"{"m":"critical_error","p":["qs_1","invalid_parameters","quote_add_symbols"]}"#;
    let said = vec!["invalid_parameters".to_owned(), "quote_add_symbols".to_owned()];
    let expected = Incoming::CriticalError { session: "qs_1".to_owned(), said };
    assert_eq!(parse(critical).unwrap(), expected);
    let protocol = parse(r#"{"m":"protocol_error","p":["bad auth token"]}"#).unwrap();
    assert_eq!(protocol, Incoming::ProtocolError("bad auth token".to_owned()));
    for other in ["{}", r#"{"m":"du","p":["cs_1",{}]}"#, r#"{"m":"qsd"}"#, r#"{"session_id":"x"}"#]
    {
        assert_eq!(parse(other).unwrap(), Incoming::Other, "{other}");
    }
}

#[test]
fn a_shape_that_is_not_expected_is_told_from_what_is_no_json() {
    for odd in ["[1]", r#"{"m":5}"#, r#"{"m":"qsd","p":["qs_1"]}"#, r#"{"m":"qsd","p":[1,{}]}"#] {
        assert!(parse(odd).unwrap_err().is_data(), "{odd}");
    }
    for garbage in ["{]", "", r#"{"m":"qsd","p":["qs_1",{"n":"X"#, r#"{"m":"qsd"}x"#] {
        assert!(!parse(garbage).unwrap_err().is_data(), "{garbage}");
    }
}
