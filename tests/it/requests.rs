//! What every call has: its own id, its deadline, clear errors for bad input.

use pocketquant::proto::FILE_DESCRIPTOR_SET;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::client::Grpc;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::support::{TestApp, TestSimulator, demo_data, reason};

async fn app() -> (TestSimulator, TestApp) {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = TestApp::start(&simulator).await;
    (simulator, app)
}

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(reason(status), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()), "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert!(violations.iter().all(|violation| !violation.description.is_empty()));
    violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn every_rpc_in_the_contract_reaches_a_handler() {
    let (_simulator, app) = app().await;
    let mut called = 0;
    for file in FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file {
        for service in file.service.iter().filter(|_| file.package() == "pocketquant.v1") {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let mut grpc = Grpc::new(app.channel.clone());
                grpc.ready().await.unwrap();
                let codec = ProstCodec::<(), ()>::default();
                let answer = grpc.unary(Request::new(()), path.parse().unwrap(), codec).await;
                let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
                assert_ne!(code, Code::Unimplemented, "{path}");
                called += 1;
            }
        }
    }
    assert_eq!(called, 37);
}

#[tokio::test]
async fn every_violation_of_a_request_comes_back_at_once() {
    let (_simulator, mut app) = app().await;
    let sync = pb::SyncSymbolRequest {
        symbol: "no colon".to_owned(),
        interval: 99,
        bar_count: Some(0),
        full_history: true,
    };
    let status = app.market_data.sync_symbol(sync).await.unwrap_err();
    assert_eq!(fields(&status), ["symbol", "interval", "bar_count", "bar_count"]);

    let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let bars = pb::GetBarsRequest {
        symbol: String::new(),
        start_time: time(i64::MAX, 0),
        end_time: time(0, -1),
        limit: Some(5_001),
        order: 7,
        ..Default::default()
    };
    let status = app.market_data.get_bars(bars).await.unwrap_err();
    let expected = ["symbol", "interval", "start_time", "end_time", "limit", "order"];
    assert_eq!(fields(&status), expected);

    let export = pb::ExportBarsRequest {
        symbol: "A:B".to_owned(),
        interval: Interval::Interval1d.into(),
        start_time: time(7, 0),
        end_time: time(7, 0),
        chunk_size: 16_385,
    };
    let status = app.market_data.export_bars(export).await.unwrap_err();
    assert_eq!(fields(&status), ["end_time", "chunk_size"]);

    let list = pb::ListSyncStatusesRequest {
        exchange: Some("NO PE".to_owned()),
        state: Some(0),
        page_size: -1,
        ..Default::default()
    };
    let status = app.market_data.list_sync_statuses(list).await.unwrap_err();
    assert_eq!(fields(&status), ["exchange", "state", "page_size"]);
}

#[tokio::test]
async fn a_page_token_belongs_to_its_query() {
    let (_simulator, mut app) = app().await;
    app.sync("NYSE:IBM", Interval::Interval1d, 10).await.unwrap();
    let page = app.bars("NYSE:IBM", Interval::Interval1d, |request| request.limit = Some(3)).await;
    let token = page.unwrap().next_page_token;
    for other in ["NYSE:IBM", "NASDAQ:AAPL-UNADJ"] {
        let status = app
            .bars(other, Interval::Interval1d, |request| {
                request.page_token.clone_from(&token);
                request.include_forming = true;
            })
            .await
            .unwrap_err();
        assert_eq!(reason(&status), (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned()));
    }
    let nonsense = |request: &mut pb::GetBarsRequest| request.page_token = "nonsense".to_owned();
    let status = app.bars("NYSE:IBM", Interval::Interval1d, nonsense).await.unwrap_err();
    assert_eq!(reason(&status), (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned()));
}

#[tokio::test]
async fn an_unknown_symbol_or_method_says_so() {
    let (_simulator, mut app) = app().await;
    let request = pb::GetSymbolRequest { symbol: "NYSE:IBM".to_owned() };
    let status = app.market_data.get_symbol(request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "SYMBOL_UNKNOWN".to_owned()));
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, "NYSE:IBM");

    let mut grpc = Grpc::new(app.channel.clone());
    grpc.ready().await.unwrap();
    let path = "/pocketquant.v1.MarketData/Nope".parse().unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let status = grpc.unary(Request::new(()), path, codec).await.unwrap_err();
    assert_eq!(reason(&status), (Code::Unimplemented, "METHOD_UNKNOWN".to_owned()));
}

#[tokio::test]
async fn the_callers_correlation_id_comes_back_on_answers_and_errors() {
    let (_simulator, mut app) = app().await;
    let with_id = |id: &str| {
        let mut request = Request::new(pb::GetServerInfoRequest {});
        request.metadata_mut().insert("x-correlation-id", id.parse().unwrap());
        request
    };
    let answer = app.system.get_server_info(with_id("mine 1")).await.unwrap();
    assert_eq!(answer.metadata().get("x-correlation-id").unwrap(), "mine 1");

    let mut wrong = Request::new(pb::GetSymbolRequest { symbol: "x".to_owned() });
    wrong.metadata_mut().insert("x-correlation-id", "mine 2".parse().unwrap());
    let status = app.market_data.get_symbol(wrong).await.unwrap_err();
    assert_eq!(status.metadata().get("x-correlation-id").unwrap(), "mine 2");

    let answer = app.system.get_server_info(pb::GetServerInfoRequest {}).await.unwrap();
    let made = answer.metadata().get("x-correlation-id").unwrap().to_str().unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&made).unwrap().get_version_num(), 7);

    let status = app.system.get_server_info(with_id(&"x".repeat(129))).await.unwrap_err();
    assert_eq!(fields(&status), ["x-correlation-id"]);
    assert!(status.metadata().get("x-correlation-id").is_some());
}

#[tokio::test]
async fn the_server_tells_what_runs_and_how_it_is() {
    let (_simulator, mut app) = app().await;
    let info = app.system.get_server_info(pb::GetServerInfoRequest {}).await.unwrap().into_inner();
    let engines = info.engines.unwrap();
    let names = (engines.database.as_str(), engines.cache.as_str(), engines.provider.as_str());
    assert_eq!(names, ("sqlite", "memory", "tradingview"));
    assert_eq!(info.intervals.len(), 13);
    assert!(
        info.limits.iter().any(|limit| limit.name == "get_bars.limit.max" && limit.value == 5_000)
    );

    let health = app.system.get_health(pb::GetHealthRequest {}).await.unwrap().into_inner();
    assert_eq!(health.status(), pb::HealthStatus::Serving);
    let names: Vec<_> = health.dependencies.iter().map(|each| each.name.as_str()).collect();
    assert_eq!(names, ["database", "cache", "feed", "jobs"]);

    let mut probe = tonic_health::pb::health_client::HealthClient::new(app.channel.clone());
    for name in [
        "",
        "readiness",
        "liveness",
        "database",
        "cache",
        "pocketquant.v1.MarketData",
        "pocketquant.v1.System",
    ] {
        let request = tonic_health::pb::HealthCheckRequest { service: name.to_owned() };
        let answer = probe.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status, 1, "{name}");
    }
    let unknown = tonic_health::pb::HealthCheckRequest { service: "nope".to_owned() };
    assert_eq!(probe.check(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn stopping_ends_an_endless_sync_and_the_process() {
    let (simulator, app) = app().await;
    simulator.fault("silence", None, None, true).await;
    let mut client = app.market_data.clone();
    let call = tokio::spawn(async move {
        let request = pb::SyncSymbolRequest {
            symbol: "NYSE:IBM".to_owned(),
            interval: Interval::Interval1d.into(),
            ..Default::default()
        };
        client.sync_symbol(request).await
    });
    // The sync is under way once its row says so.
    let mut app = app;
    while app.status("NYSE:IBM", Interval::Interval1d).await.is_err() {
        tokio::task::yield_now().await;
    }
    app.stop().await;
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "DRAINING".to_owned()));
}
