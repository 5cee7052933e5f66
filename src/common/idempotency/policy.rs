//! Who runs, who waits, and what is kept.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message as _;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::flights::{Flight, Flights, Landed, Seat};
use super::{Answer, Claim, IdempotencyError, IdempotencyStore, KeyedCall, StoreError, Token};
use crate::common::constants::{
    IDEMPOTENCY_LEASE, IDEMPOTENCY_RENEWAL, IDEMPOTENCY_STORE_TIMEOUT, IDEMPOTENCY_WAIT,
    MAX_IDEMPOTENT_ANSWER_BYTES, TTL_IDEMPOTENCY,
};
use crate::common::error::{Coded as _, ErrorCode, StatusCode, with_causes};
use crate::common::metrics::table::IDEMPOTENCY_CALLS;
use crate::common::metrics::timed;
use crate::common::shutdown::{Lifecycle, spawn_tracked};

/// Pauses between two looks at what another process runs: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));
/// How long the end of a run is tried to be stored while the store is away.
const SETTLE_WITHIN: Duration = Duration::from_mins(2);
/// How long is waited between two tries.
const SETTLE_PAUSE: Duration = Duration::from_millis(500);

/// Runs commands as tracked tasks, and once for each idempotency key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Idempotency {
    store: Arc<dyn IdempotencyStore>,
    flights: Flights,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// How the run of a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    answer: Answer,
    is_final: bool,
}

/// What a call with a key is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The first run's answer.
    pub answer: Answer,
    /// Whether it was made for an earlier call.
    pub replayed: bool,
}

impl Ended {
    /// The command was carried out.
    pub const fn ok(answer: Answer) -> Self {
        Self { answer, is_final: true }
    }

    /// The command failed with `code`; `answer` says so.
    pub const fn failed(answer: Answer, code: StatusCode) -> Self {
        Self { answer, is_final: is_final(code) }
    }
}

/// What came of a call with a key, for metrics.
const fn outcome_of(result: &Result<Reply, IdempotencyError>) -> &'static str {
    match result {
        Ok(Reply { replayed: false, .. }) => "ran",
        Ok(Reply { replayed: true, .. }) => "replayed",
        Err(IdempotencyError::KeyReused) => "key_reused",
        Err(IdempotencyError::InProgress) => "in_progress",
        Err(IdempotencyError::Store(_)) => "store_away",
        Err(IdempotencyError::InvalidKey(_) | IdempotencyError::Stopped) => "refused",
    }
}

/// Whether a failure is the answer for good. After any other the caller is to try again, and the
/// command to run again.
const fn is_final(code: StatusCode) -> bool {
    match code {
        StatusCode::NotFound | StatusCode::FailedPrecondition | StatusCode::InvalidArgument => true,
        StatusCode::Cancelled
        | StatusCode::DeadlineExceeded
        | StatusCode::PermissionDenied
        | StatusCode::ResourceExhausted
        | StatusCode::Aborted
        | StatusCode::OutOfRange
        | StatusCode::Unimplemented
        | StatusCode::Internal
        | StatusCode::Unavailable
        | StatusCode::Unauthenticated => false,
    }
}

impl Idempotency {
    /// Keeps answers in `store`; runs on the tasks of `lifecycle`.
    pub fn new(store: Arc<dyn IdempotencyStore>, lifecycle: &Lifecycle) -> Self {
        let (tasks, stopping) = (lifecycle.tracker().clone(), lifecycle.token());
        Self { store, flights: Flights::default(), tasks, stopping }
    }

    /// The tasks that commands run on.
    pub const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Runs `work` for `call`, unless its key was used: then its answer is what was kept, and
    /// `work` is dropped. Begun work runs to its end and is kept, whether its caller waits or not.
    ///
    /// `work` must not panic. Errors say why it did not run, or that it still runs for another.
    pub async fn once<F>(&self, call: KeyedCall, work: F) -> Result<Reply, IdempotencyError>
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let record = |outcome, _| IDEMPOTENCY_CALLS.with([outcome]).increment(1);
        timed(self.answer(call, work), outcome_of, record).await
    }

    async fn answer<F>(&self, call: KeyedCall, work: F) -> Result<Reply, IdempotencyError>
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let (mut outcome, until) = match self.flights.join(call) {
            Seat::Joined(outcome) => (outcome, Some(Instant::now() + IDEMPOTENCY_WAIT)),
            Seat::First(flight) => {
                let (outcome, name) = (flight.subscribe(), flight.call().scope.method);
                let run = Box::pin(self.clone().carry_out(flight, work));
                drop(spawn_tracked(&self.tasks, name, run));
                (outcome, None)
            }
        };
        let landing = outcome.wait_for(Option::is_some);
        let landed = match until {
            None => landing.await,
            Some(until) => {
                timeout_at(until, landing).await.map_err(|_| IdempotencyError::InProgress)?
            }
        };
        let landed = landed.ok().and_then(|landed| landed.clone());
        let landed = landed.unwrap_or(Err(IdempotencyError::Stopped))?;
        let replayed = landed.replayed || (landed.kept && until.is_some());
        Ok(Reply { answer: landed.answer, replayed })
    }

    async fn carry_out<F>(self, flight: Flight, work: F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let token = Token::generate();
        match self.claim(flight.call(), token).await {
            Ok(None) => self.run(flight, token, work).await,
            Ok(Some(answer)) => flight.land(Ok(Landed { answer, replayed: true, kept: true })),
            Err(error) => {
                let is_unknown = matches!(error, IdempotencyError::Store(_));
                let scope = flight.call().scope.clone();
                flight.land(Err(error));
                // Only the answer may be lost: a claim that arrived would hold the key in vain.
                if is_unknown {
                    self.settle(|| self.store.release(&scope, token)).await;
                }
            }
        }
    }

    /// Takes the key, or gets the answer that is kept for it. Waits for a run elsewhere.
    async fn claim(
        &self,
        call: &KeyedCall,
        token: Token,
    ) -> Result<Option<Answer>, IdempotencyError> {
        let until = Instant::now() + IDEMPOTENCY_WAIT;
        let mut pause = LOOKS.0;
        loop {
            let claim = self.store.claim(call, token, IDEMPOTENCY_LEASE, TTL_IDEMPOTENCY);
            match self.bounded(claim).await? {
                Claim::Ours => return Ok(None),
                Claim::OtherRequest => return Err(IdempotencyError::KeyReused),
                Claim::Finished(answer) => {
                    let unreadable = |error| StoreError::new(ErrorCode::Internal, error);
                    return Ok(Some(Answer::decode(answer).map_err(unreadable)?));
                }
                Claim::Running if Instant::now() + pause > until => {
                    return Err(IdempotencyError::InProgress);
                }
                Claim::Running => sleep(pause).await,
            }
            pause = LOOKS.1.min(pause * 2);
        }
    }

    async fn run<F>(&self, flight: Flight, token: Token, work: F)
    where
        F: Future<Output = Ended>,
    {
        let ended = tokio::select! {
            ended = work => ended,
            never = self.keep_lease(&flight, token) => match never {},
        };
        let Ended { answer, is_final } = ended;
        if is_final && answer.encoded_len() <= MAX_IDEMPOTENT_ANSWER_BYTES {
            self.keep(flight, token, answer).await;
            return;
        }
        if is_final {
            warn!("an answer is too large to be kept; its idempotency key is free again");
        }
        let scope = flight.call().scope.clone();
        let released = self.bounded(self.store.release(&scope, token)).await;
        flight.land(Ok(Landed { answer, replayed: false, kept: false }));
        if released.is_err() {
            self.settle(|| self.store.release(&scope, token)).await;
        }
    }

    /// Keeps the answer, then tells it: who knows it can rely on getting it again.
    async fn keep(&self, flight: Flight, token: Token, answer: Answer) {
        let call = flight.call().clone();
        let encoded = Bytes::from(answer.encode_to_vec());
        let finish = || self.store.finish(&call, token, encoded.clone(), TTL_IDEMPOTENCY);
        let kept = self.bounded(finish()).await;
        let landed = Landed { answer, replayed: false, kept: !matches!(kept, Ok(false)) };
        match kept {
            Ok(true) => flight.land(Ok(landed)),
            Ok(false) => {
                warn!("a command ran longer than its lease and was run again by another");
                flight.land(Ok(landed));
            }
            Err(error) => {
                warn!(error = with_causes(&error), "an answer could not be kept yet");
                // Here at least the command does not run again meanwhile.
                flight.tell(Ok(landed));
                self.settle(finish).await;
            }
        }
    }

    /// Says every few seconds that the command still runs.
    async fn keep_lease(&self, flight: &Flight, token: Token) -> Infallible {
        let mut beat = interval_at(Instant::now() + IDEMPOTENCY_RENEWAL, IDEMPOTENCY_RENEWAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let renewal = self.store.renew(&flight.call().scope, token, IDEMPOTENCY_LEASE);
            match self.bounded(renewal).await {
                Ok(true) => {}
                Ok(false) => {
                    warn!("a command under way lost its idempotency key");
                    return pending().await;
                }
                Err(error) => {
                    warn!(error = with_causes(&error), "a lease could not be renewed");
                }
            }
        }
    }

    /// Tries until it is done, no longer than [`SETTLE_WITHIN`] and not once we are stopping.
    async fn settle<'a, T>(&self, access: impl Fn() -> BoxFuture<'a, Result<T, StoreError>>) {
        let tries = async {
            while self.bounded(access()).await.is_err_and(|error| error.is_transient()) {
                sleep(SETTLE_PAUSE).await;
            }
        };
        if timeout(SETTLE_WITHIN, self.stopping.run_until_cancelled(tries)).await.is_err() {
            warn!("the end of a command was not stored; its idempotency key frees itself");
        }
    }

    async fn bounded<T>(
        &self,
        access: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        timeout(IDEMPOTENCY_STORE_TIMEOUT, access).await.unwrap_or_else(|_| {
            let waited = format!("no answer within {IDEMPOTENCY_STORE_TIMEOUT:?}");
            Err(StoreError::new(self.store.unavailable(), waited))
        })
    }
}
