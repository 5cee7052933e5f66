//! Pages of bars.

use futures::StreamExt as _;
use jiff::Timestamp;
use pocketquant::domain::symbol::SessionSpec;
use pocketquant::infrastructure::interfaces::{
    HistoryDepth, HistoryEnd, HistoryPage, ProviderError,
};
use serde_json::json;

use super::script::{Server, both, completed, frame, loading, rows, update, within};

fn times(page: &HistoryPage) -> Vec<i64> {
    page.bars.iter().map(|bar| bar.open_time.as_second()).collect()
}

#[tokio::test]
async fn a_request_is_asked_as_the_protocol_wants_it_and_cleaned_up_after() {
    let server = Server::start().await;
    let client = server.client();
    let (page, ()) = both(client.page("NASDAQ:AAPL"), async {
        let mut connection = server.greet().await;
        assert!(connection.headers.contains(r#""origin": "https://www.tradingview.com""#));
        assert!(connection.headers.contains("Mozilla/5.0"));
        let created = connection.expect("chart_create_session").await;
        let session = created[0].as_str().unwrap().to_owned();
        assert!(session.len() == 15 && session.starts_with("cs_"), "{session}");
        assert_eq!(connection.expect("switch_timezone").await, json!([session, "Etc/UTC"]));
        let spec = r#"={"adjustment":"splits","session":"regular","symbol":"NASDAQ:AAPL"}"#;
        assert_eq!(connection.expect("resolve_symbol").await, json!([session, "sds_sym_1", spec]));
        assert_eq!(
            connection.expect("create_series").await,
            json!([session, "sds_1", "s1", "sds_sym_1", "1D", 10, ""])
        );
        connection.resolved(&session, "Äpfel 🍏").await;
        connection.bars(&session, &rows(1_600_000_000, 10), &json!({"rt_update_period": 5})).await;
        assert_eq!(connection.farewell().await, session);
    })
    .await;
    let page = page.unwrap();
    assert_eq!((page.bars.len(), page.end), (10, None));
    assert_eq!(page.bars[0].volume, Some(10.25));
    assert_eq!(page.server_time, Timestamp::from_millisecond(1_742_933_770_100).unwrap());
    let symbol = page.symbol.unwrap();
    assert_eq!(symbol.name.as_deref(), Some("Äpfel 🍏"));
    let session = SessionSpec {
        timezone: "America/New_York".to_owned(),
        session: "0930-1600".to_owned(),
        ..SessionSpec::default()
    };
    assert_eq!((symbol.session, symbol.price_scale), (Some(session), Some(100)));
}

#[tokio::test]
async fn full_history_pages_back_until_nothing_older_comes() {
    let server = Server::start().await;
    let client = server.client();
    let day = 86_400;
    let (pages, ()) =
        both(client.history("NYSE:IBM", HistoryDepth::Full).collect::<Vec<_>>(), async {
            let mut connection = server.greet().await;
            let (session, _, count) = connection.request().await;
            assert_eq!(count, 5_000);
            connection.resolved(&session, "IBM").await;
            connection.bars(&session, &rows(100 * day, 10), &json!({})).await;
            let more = json!([session, "sds_1", 5_000]);
            assert_eq!(connection.expect("request_more_data").await, more);
            // Known bars come again, and out of order.
            connection.say(&loading(&session)).await;
            connection.say(&update(&session, &rows(98 * day, 5))).await;
            connection.say(&update(&session, &rows(96 * day, 2))).await;
            connection.say(&completed(&session, &json!({}))).await;
            assert_eq!(connection.expect("request_more_data").await, more);
            connection.bars(&session, &rows(96 * day, 4), &json!({})).await;
            assert_eq!(connection.farewell().await, session);
        })
        .await;
    let pages: Vec<HistoryPage> = pages.into_iter().map(Result::unwrap).collect();
    let days = |page: &HistoryPage| times(page).iter().map(|time| time / day).collect::<Vec<_>>();
    assert_eq!(days(&pages[0]), (100..110).collect::<Vec<_>>());
    assert_eq!(days(&pages[1]), [96, 97, 98, 99]);
    assert_eq!(days(&pages[2]), Vec::<i64>::new());
    let ends: Vec<_> = pages.iter().map(|page| (page.symbol.is_some(), page.end)).collect();
    assert_eq!(ends, [(true, None), (false, None), (false, Some(HistoryEnd::End))]);
}

#[tokio::test]
async fn the_next_page_is_asked_for_only_when_it_is_wanted() {
    let server = Server::start().await;
    let client = server.client();
    let mut pages = client.history("NYSE:IBM", HistoryDepth::Full);
    let (first, (mut connection, session)) = both(pages.next(), async {
        let mut connection = server.greet().await;
        let session = connection.serve(5).await;
        (connection, session)
    })
    .await;
    assert!(first.unwrap().is_ok());
    // What it says next answers this: nothing was asked for in between.
    connection.raw("~m~4~m~~h~1".to_owned()).await;
    assert_eq!(connection.text().await.unwrap(), "~m~4~m~~h~1");
    let (second, ()) = both(pages.next(), async {
        connection.expect("request_more_data").await;
        connection.bars(&session, &rows(86_400, 3), &json!({"data_completed": "limit"})).await;
    })
    .await;
    assert_eq!(second.unwrap().unwrap().end, Some(HistoryEnd::Limit));
    assert!(pages.next().await.is_none());
}

#[tokio::test]
async fn the_newest_bars_are_as_many_as_were_asked_for() {
    let server = Server::start().await;
    let client = server.client();
    let request = client.history("NYSE:IBM", HistoryDepth::Newest(8)).collect::<Vec<_>>();
    let (pages, ()) = both(request, async {
        let mut connection = server.greet().await;
        let (session, _, count) = connection.request().await;
        assert_eq!(count, 8);
        connection.bars(&session, &rows(86_400 * 10, 5), &json!({})).await;
        assert_eq!(connection.expect("request_more_data").await, json!([session, "sds_1", 3]));
        connection.bars(&session, &rows(86_400, 9), &json!({"data_completed": "end"})).await;
        connection.farewell().await;
    })
    .await;
    let pages: Vec<HistoryPage> = pages.into_iter().map(Result::unwrap).collect();
    assert_eq!(times(&pages[1]), [7, 8, 9].map(|day| day * 86_400));
    assert_eq!(pages[1].end, None, "older bars exist, but were not wanted");
}

#[tokio::test]
async fn a_message_of_two_megabytes_is_taken() {
    let server = Server::start().await;
    let client = server.client();
    let mut pages = client.history("TVC:SPX", HistoryDepth::Full);
    let (page, size) = both(pages.next(), async {
        let mut connection = server.greet().await;
        let (session, ..) = connection.request().await;
        connection.resolved(&session, "스탠더드").await;
        let row = |i: i64| {
            json!({"i": i, "v": [-3_000_000_000.0 + f64::from(i32::try_from(i).unwrap()) * 86_400.0,
            4_650.367_891_234, 4_697.671_234_567, 4_645.531_234_567, 4_696.571_234_567, 1_798_000_000.125]})
        };
        let update = update(&session, &(0..20_005).map(row).collect());
        let text =
            [loading(&session), update, completed(&session, &json!({"data_completed": "end"}))]
                .map(|json| frame(&json))
                .concat();
        let size = text.len();
        connection.raw(text).await;
        size
    })
    .await;
    assert!(size > 2_000_000, "{size}");
    let page = page.unwrap().unwrap();
    assert_eq!((page.bars.len(), page.end), (20_005, Some(HistoryEnd::End)));
    assert!(page.bars.is_sorted_by_key(|bar| bar.open_time));
    assert!(pages.next().await.is_none());
}

#[tokio::test]
async fn an_answer_without_bars_is_no_success() {
    let server = Server::start().await;
    let client = server.client();
    let (page, ()) = both(client.page("NYSE:NEW"), async {
        let mut connection = server.greet().await;
        let (session, ..) = connection.request().await;
        connection.bars(&session, &json!([]), &json!({"data_completed": "end"})).await;
    })
    .await;
    assert!(matches!(page, Err(ProviderError::NoData { .. })), "{page:?}");
}

#[tokio::test]
async fn without_a_time_in_the_reply_the_hello_dates_it() {
    let server = Server::start().await;
    let client = server.client();
    let (page, ()) = both(client.page("NYSE:IBM"), async {
        let mut connection = server.greet().await;
        let (session, ..) = connection.request().await;
        let update = json!({"m": "timescale_update", "p": [session, {"sds_1": {"s": rows(0, 2)}}]});
        connection.say(&update.to_string()).await;
        let end = json!({"m": "series_completed", "p": [session, "sds_1", "streaming", "s1"]});
        connection.say(&end.to_string()).await;
    })
    .await;
    let since_hello = page.unwrap().server_time.as_millisecond() - 1_742_933_763_175;
    assert!((0..20_000).contains(&since_hello), "{since_hello}");
}

#[tokio::test]
async fn dropping_the_stream_ends_the_request_upstream() {
    let server = Server::start().await;
    let client = server.client();
    let mut pages = client.history("NYSE:IBM", HistoryDepth::Full);
    let mut connection = within(async {
        tokio::select! {
            _ = pages.next() => unreachable!("nothing was answered"),
            connection = async {
                let mut connection = server.greet().await;
                let (session, ..) = connection.request().await;
                (connection, session)
            } => connection,
        }
    })
    .await;
    drop(pages);
    assert_eq!(connection.0.farewell().await, connection.1);
    // What still comes for it disturbs nobody.
    connection.0.bars(&connection.1, &rows(0, 5), &json!({})).await;
    let (page, _) = both(client.page("NYSE:GE"), connection.0.serve(10)).await;
    assert_eq!(page.unwrap().bars.len(), 10);
}
