//! A server of `QuoteStream` that says what it is told to, and notes what it is asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::stream::{self, Stream, StreamExt as _};
use pocketquant::common::grpc::Encoded;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::quote_stream_server::{QuoteStream, QuoteStreamServer};
use prost::Message;
use prost_types::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

type Events<E> = Pin<Box<dyn Stream<Item = Result<E, Status>> + Send>>;

/// What each stream is going to say, and what was asked so far.
#[derive(Default)]
struct Told {
    quotes: VecDeque<Events<pb::QuoteEvent>>,
    bars: VecDeque<Events<pb::BarEvent>>,
    quote_requests: Vec<pb::StreamQuotesRequest>,
    bar_requests: Vec<pb::StreamBarsRequest>,
    subscriptions: Vec<pb::Subscription>,
    started: bool,
}

/// A running server; a clone is the same.
#[derive(Clone)]
pub struct Script {
    pub address: SocketAddr,
    told: Arc<Mutex<Told>>,
}

impl Script {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Self { address, told: Arc::default() };
        let service = QuoteStreamServer::new(script.clone());
        let server = Server::builder().add_service(service);
        drop(tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener))));
        script
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the next stream of quotes says before it ends.
    pub fn quotes(&self, events: impl IntoIterator<Item = Result<pb::QuoteEvent, Status>>) {
        let events: Vec<_> = events.into_iter().collect();
        self.told.lock().unwrap().quotes.push_back(stream::iter(events).boxed());
    }

    /// What the next stream of bars says before it ends.
    pub fn bars(&self, events: impl IntoIterator<Item = Result<pb::BarEvent, Status>>) {
        let events: Vec<_> = events.into_iter().collect();
        self.told.lock().unwrap().bars.push_back(stream::iter(events).boxed());
    }

    /// What the next stream of bars says; it does not end.
    pub fn bars_for_ever(&self, events: impl IntoIterator<Item = Result<pb::BarEvent, Status>>) {
        let events: Vec<_> = events.into_iter().collect();
        let events = stream::iter(events).chain(stream::pending()).boxed();
        self.told.lock().unwrap().bars.push_back(events);
    }

    pub fn quote_requests(&self) -> Vec<pb::StreamQuotesRequest> {
        self.told.lock().unwrap().quote_requests.clone()
    }

    pub fn bar_requests(&self) -> Vec<pb::StreamBarsRequest> {
        self.told.lock().unwrap().bar_requests.clone()
    }

    fn feed_status(&self, unchanged: bool) -> pb::FeedStatus {
        use pb::ConnectionState::{Connected, Stopped};
        let state = if self.told.lock().unwrap().started { Connected } else { Stopped };
        pb::FeedStatus { state: state.into(), unchanged, ..Default::default() }
    }

    fn switch(&self, on: bool) -> Response<pb::FeedStatus> {
        let before = std::mem::replace(&mut self.told.lock().unwrap().started, on);
        Response::new(self.feed_status(before == on))
    }
}

/// An error as the service sends it.
pub fn failure(code: Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "pocketquant", []);
    Status::with_error_details(code, message, details)
}

pub fn feed(state: pb::ConnectionState, error: &str) -> pb::FeedEvent {
    pb::FeedEvent { state: state.into(), error: error.to_owned() }
}

pub fn quote(symbol: &str, last_price: f64) -> pb::Quote {
    pb::Quote {
        symbol: symbol.to_owned(),
        time: Some(Timestamp { seconds: 1_378_116_000, nanos: 0 }),
        last_price,
        bid: Some(1640.0),
        change: Some(-1.5),
        change_percent: Some(-0.0914),
        sequence: 2,
        epoch: 7,
        delay: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        ..Default::default()
    }
}

pub fn quote_event(event: pb::quote_event::Event) -> pb::QuoteEvent {
    pb::QuoteEvent { event: Some(event) }
}

pub fn bar_event(event: pb::bar_event::Event, cursor: &str) -> pb::BarEvent {
    pb::BarEvent { event: Some(event), cursor: cursor.to_owned() }
}

/// A bar of CME:ES, of one minute.
pub fn bar(minute: i64, revision: i32, cursor: &str) -> pb::BarEvent {
    let bar = one_minute(minute, revision);
    let (symbol, interval) = ("CME:ES".to_owned(), pb::Interval::Interval1m.into());
    let series = pb::SeriesBar { symbol, interval, bar: Some(bar) };
    bar_event(pb::bar_event::Event::Bar(series), cursor)
}

fn one_minute(minute: i64, revision: i32) -> pb::Bar {
    let state = match revision {
        0 => pb::BarState::Forming,
        1 => pb::BarState::Closed,
        _ => pb::BarState::Revised,
    };
    pb::Bar {
        open_time: Some(Timestamp { seconds: minute * 60, nanos: 0 }),
        close_time: Some(Timestamp { seconds: minute * 60 + 60, nanos: 0 }),
        open: 1.0,
        high: 4.0,
        low: 0.5,
        close: 2.0,
        volume: None,
        state: state.into(),
        revision,
        source: pb::BarSource::Ticks.into(),
        tick_count: Some(9),
    }
}

#[tonic::async_trait]
impl QuoteStream for Script {
    type StreamQuotesStream = Events<Encoded>;
    type StreamBarsStream = Events<Encoded>;

    async fn start_feed(
        &self,
        _: Request<pb::StartFeedRequest>,
    ) -> Result<Response<pb::FeedStatus>, Status> {
        Ok(self.switch(true))
    }

    async fn stop_feed(
        &self,
        _: Request<pb::StopFeedRequest>,
    ) -> Result<Response<pb::FeedStatus>, Status> {
        Ok(self.switch(false))
    }

    async fn get_feed_status(
        &self,
        _: Request<pb::GetFeedStatusRequest>,
    ) -> Result<Response<pb::FeedStatus>, Status> {
        Ok(Response::new(self.feed_status(false)))
    }

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<pb::Subscription>, Status> {
        let symbol = request.into_inner().symbol;
        if !symbol.contains(':') {
            return Err(failure(Code::InvalidArgument, "INVALID_FIELDS", "no symbol"));
        }
        let state = pb::SubscriptionState::Active.into();
        let subscription = pb::Subscription { symbol, state, ..Default::default() };
        self.told.lock().unwrap().subscriptions.push(subscription.clone());
        Ok(Response::new(subscription))
    }

    async fn unsubscribe(
        &self,
        request: Request<pb::UnsubscribeRequest>,
    ) -> Result<Response<pb::Subscription>, Status> {
        let symbol = request.into_inner().symbol;
        let kept = &mut self.told.lock().unwrap().subscriptions;
        match kept.iter().position(|each| each.symbol == symbol) {
            Some(place) => Ok(Response::new(kept.remove(place))),
            None => Err(failure(Code::NotFound, "NOT_SUBSCRIBED", "not subscribed")),
        }
    }

    async fn list_subscriptions(
        &self,
        _: Request<pb::ListSubscriptionsRequest>,
    ) -> Result<Response<pb::ListSubscriptionsResponse>, Status> {
        let subscriptions = self.told.lock().unwrap().subscriptions.clone();
        Ok(Response::new(pb::ListSubscriptionsResponse { subscriptions }))
    }

    async fn get_latest_quote(
        &self,
        _: Request<pb::GetLatestQuoteRequest>,
    ) -> Result<Response<pb::Quote>, Status> {
        Err(failure(Code::NotFound, "NO_QUOTE", "no quote yet"))
    }

    async fn list_quotes(
        &self,
        _: Request<pb::ListQuotesRequest>,
    ) -> Result<Response<pb::ListQuotesResponse>, Status> {
        let quotes = vec![quote("CME:ES", 1640.25)];
        Ok(Response::new(pb::ListQuotesResponse { quotes }))
    }

    async fn get_current_bar(
        &self,
        _: Request<pb::GetCurrentBarRequest>,
    ) -> Result<Response<pb::Bar>, Status> {
        Ok(Response::new(one_minute(1, 0)))
    }

    async fn stream_quotes(
        &self,
        request: Request<pb::StreamQuotesRequest>,
    ) -> Result<Response<Self::StreamQuotesStream>, Status> {
        let mut told = self.told.lock().unwrap();
        told.quote_requests.push(request.into_inner());
        Ok(encoded(told.quotes.pop_front().expect("another stream of quotes")))
    }

    async fn stream_bars(
        &self,
        request: Request<pb::StreamBarsRequest>,
    ) -> Result<Response<Self::StreamBarsStream>, Status> {
        let mut told = self.told.lock().unwrap();
        told.bar_requests.push(request.into_inner());
        Ok(encoded(told.bars.pop_front().expect("another stream of bars")))
    }
}

fn encoded<E: Message + 'static>(events: Events<E>) -> Response<Events<Encoded>> {
    Response::new(events.map(|event| event.map(|event| Encoded::of(&event))).boxed())
}

/// A way to a server that can be cut.
pub struct Cuttable {
    address: SocketAddr,
    scissors: Arc<Notify>,
}

impl Cuttable {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, scissors) = (listener.local_addr().unwrap(), Arc::new(Notify::new()));
        let cut = Arc::clone(&scissors);
        drop(tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let cut = Arc::clone(&cut);
                drop(tokio::spawn(async move {
                    let mut server = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = cut.notified() => {}
                    }
                }));
            }
        }));
        Self { address, scissors }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks the connections that are open.
    pub fn cut(&self) {
        self.scissors.notify_waiters();
    }
}
