//! The literal messages of the protocol.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn event(json: &str) -> ChartEvent {
    let incoming = parse(json).unwrap();
    let Incoming::Chart { event, .. } = incoming else { panic!("{incoming:?}") };
    event
}

fn bars_of(rows: &str) -> (Vec<RawBar>, usize) {
    let json = format!(r#"{{"m":"timescale_update","p":["cs_1",{{"sds_1":{{"s":{rows}}}}}]}}"#);
    let event = event(&json);
    let ChartEvent::Bars { bars, timeless } = event else { panic!("{event:?}") };
    (bars, timeless)
}

#[test]
fn hello_says_the_servers_time() {
    let hello = r#"{"session_id":"0.4607.904_dal-charts-free-4-tvbs-c2fn6-2","timestamp":1742933763,"timestampMs":1742933763175,"release":"release_208-49","studies_metadata_hash":"e2f4","auth_scheme_vsn":2,"protocol":"json","via":"209.58.146.82:443","javastudies":["3.66"]}"#;
    let time = Timestamp::from_millisecond(1_742_933_763_175).unwrap();
    assert_eq!(parse(hello).unwrap(), Incoming::Hello(Some(time)));
    let old = r#"{"session_id":"<0.2285.652>_tyo1","timestamp":1742933763,"javastudies":"javastudies-3.61_2654"}"#;
    assert_eq!(parse(old).unwrap(), Incoming::Hello(Some(at(1_742_933_763))));
    assert_eq!(parse("{}").unwrap(), Incoming::Hello(None));
}

#[test]
fn a_timescale_update_brings_bars_and_the_time() {
    let json = r#"{"m":"timescale_update","p":["cs_x",{"sds_1":{"node":"sin1-26-series-charts-free-2-runner-2","s":[{"i":0,"v":[1640183400.0,4650.36,4697.67,4645.53,4696.57,1798000000.0]},{"i":1,"v":[1640269800.0,4703.96,4740.74,4703.96,4725.78,1564000000.0]}],"ns":{"d":"","indexes":[]},"t":"s1","lbs":{"bar_close_time":1686341399}}},{"index":0,"zoffset":0,"changes":[1640183400.0,1640269800.0],"marks":[[10,1640131200,0],[40,1640217600,1]],"index_diff":[]}],"t":1686475613,"t_ms":1686475613164}"#;
    let Incoming::Chart { session, event, server_time } = parse(json).unwrap() else { panic!() };
    assert_eq!(session, "cs_x");
    assert_eq!(server_time, Timestamp::from_millisecond(1_686_475_613_164).ok());
    let first = RawBar {
        open_time: at(1_640_183_400),
        open: 4650.36,
        high: 4697.67,
        low: 4645.53,
        close: 4696.57,
        volume: Some(1_798_000_000.0),
    };
    let ChartEvent::Bars { bars, timeless: 0 } = event else { panic!() };
    assert_eq!((bars.len(), bars[0]), (2, first));
}

#[test]
fn five_elements_have_no_volume_and_more_than_six_are_passed_over() {
    let (bars, _) =
        bars_of(r#"[{"i":0,"v":[60.0,1,2,0.5,1.5]},{"v":[120,1,2,0.5,1.5,3.25,7,"x"]}]"#);
    assert_eq!(bars.iter().map(|bar| bar.volume).collect::<Vec<_>>(), [None, Some(3.25)]);
}

#[test]
fn no_value_is_no_volume_and_no_price() {
    let (bars, _) =
        bars_of(r#"[{"v":[60,null,2,0.5,1e+100,1e+100]},{"v":[120,1,2,0.5,1.5,null]}]"#);
    assert!(bars[0].open.is_nan() && bars[0].close.is_nan());
    assert!(bars[0].high.is_finite() && bars[1].close.is_finite());
    assert_eq!((bars[0].volume, bars[1].volume), (None, None));
}

#[test]
fn a_bar_without_a_time_is_counted() {
    let (bars, timeless) = bars_of(r#"[{"v":[null,1,1,1,1]},{"i":1},{"v":[]},{"v":[60,1,1,1,1]}]"#);
    assert_eq!((bars.len(), timeless), (1, 3));
}

#[test]
fn numbers_are_read_exactly() {
    // Off by one unit in the last place with serde_json's default parser.
    let numbers = ["0.1", "9007199254740993", "51.248178375505404", "-93.31137037688033"];
    for number in numbers {
        let (bars, _) = bars_of(&format!(r#"[{{"v":[60,{number},1,1,1]}}]"#));
        let exact: f64 = number.parse().unwrap();
        assert_eq!(bars[0].open.to_bits(), exact.to_bits(), "{number}");
    }
}

#[test]
fn other_series_and_live_updates_are_no_history() {
    let json = r#"{"m":"timescale_update","p":["cs_1",{"st1":{"st":[{"i":0,"v":[60,1]}]}}]}"#;
    assert_eq!(event(json), ChartEvent::Bars { bars: Vec::new(), timeless: 0 });
    let du = r#"{"m":"du","p":["cs_1",{"sds_1":{"s":[{"i":299,"v":[1663050540.0,22334.5,22340.0,22330.1,22335.2,1.25]}],"ns":{"d":"","indexes":"nochange"},"t":"s1","lbs":{"bar_close_time":1663050600}}}]}"#;
    assert_eq!(parse(du).unwrap(), Incoming::Other);
}

#[test]
fn an_answer_begins_and_ends() {
    let loading =
        r#"{"m":"series_loading","p":["cs_1","sds_1","s1"],"t":1686475613,"t_ms":1686475613100}"#;
    assert_eq!(event(loading), ChartEvent::Loading);
    for (info, end) in [
        (r#"{"rt_update_period":5}"#, None),
        (r#"{"rt_update_period":0,"data_completed":"end"}"#, Some(HistoryEnd::End)),
        (r#"{"data_completed":"limit"}"#, Some(HistoryEnd::Limit)),
        (r#"{"data_completed":"soon"}"#, None),
        ("null", None),
    ] {
        let json = format!(
            r#"{{"m":"series_completed","p":["cs_1","sds_1","streaming","s1",{info}],"t":1686475613}}"#
        );
        assert_eq!(event(&json), ChartEvent::Completed(end), "{info}");
    }
    let bare = r#"{"m":"series_completed","p":["cs_1","sds_7","streaming","s1"]}"#;
    assert_eq!(event(bare), ChartEvent::Completed(None));
}

#[test]
fn refusals_keep_their_reasons() {
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        event(
            r#"{"m":"symbol_error","p":["cs_1","sds_sym_1","permission denied","group","economics_paid"]}"#
        ),
        ChartEvent::SymbolError(strings(&["permission denied", "group", "economics_paid"]))
    );
    assert_eq!(
        event(r#"{"m":"series_error","p":["cs_1","sds_1","s1","resolve error","node@node"]}"#),
        ChartEvent::SeriesError("resolve error".to_owned())
    );
    assert_eq!(
        event(r#"{"m":"series_error","p":["cs_1","sds_1","custom_resolution"]}"#),
        ChartEvent::SeriesError("custom_resolution".to_owned())
    );
    assert_eq!(
        event(
            r#"{"m":"critical_error","p":["cs_1","invalid timezone","method: switch_timezone. args: \"[Nowhere/Nowhere]\""]}"#
        ),
        ChartEvent::CriticalError(strings(&[
            "invalid timezone",
            r#"method: switch_timezone. args: "[Nowhere/Nowhere]""#
        ]))
    );
    assert_eq!(
        parse(r#"{"m":"protocol_error","p":["bad auth token"]}"#).unwrap(),
        Incoming::ProtocolError("bad auth token".to_owned())
    );
}

#[test]
fn unknown_messages_are_passed_over_and_broken_ones_are_not() {
    for json in [
        r#"{"m":"quote_completed","p":["qs_1","A:B"]}"#,
        r#"{"m":"series_timeframe","p":["cs_1","sds_7","s1",116,367,"12M",true]}"#,
        r#"{"m":"tomorrow"}"#,
        r#"{"m":"series_loading","p":[]}"#,
        r#"{"m":"series_loading","p":[7]}"#,
    ] {
        assert_eq!(parse(json).unwrap(), Incoming::Other, "{json}");
    }
    for json in [
        "",
        "{",
        "garbage",
        "5",
        r#"{"m":"du","p":7}"#,
        r#"{"m":"timescale_update","p":["cs_1",{"sds_1":{"s":7}}]}"#,
    ] {
        assert!(parse(json).is_err(), "{json}");
    }
}

#[test]
fn commands_are_framed() {
    assert_eq!(
        command("create_series", ("cs_BBBBBBBBBBBB", "sds_1", "s1", "sds_sym_1", "1D", 300, "")),
        r#"~m~82~m~{"m":"create_series","p":["cs_BBBBBBBBBBBB","sds_1","s1","sds_sym_1","1D",300,""]}"#
    );
}
