//! Lets go of readers that read nothing.
//!
//! A stream whose reader's HTTP/2 window is full is not polled, so it cannot see by itself that
//! time passes: one task looks at all of them. What a stalled reader held is dropped; if it ever
//! reads on, it finds `SLOW_CONSUMER` behind what was on its way.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::Stream;
use futures::stream::BoxStream;
use futures::task::AtomicWaker;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::QuoteError;
use super::cursor::Cursor;

/// In how many parts the patience is divided: how exactly it is kept.
const LOOKS: u32 = 20;

/// Looks after the streams that were given to it. Cheap to clone.
#[derive(Clone)]
pub(super) struct StreamWatch {
    patience: Duration,
    streams: Arc<Mutex<Vec<Weak<dyn Stalls>>>>,
}

/// A stream that ends with `SLOW_CONSUMER` when nobody reads it for too long.
pub(super) struct Watched<T>(Arc<Reading<T>>);

/// Where a stream stands behind an item, if it can be resumed there.
pub(super) type PlaceOf<T> = fn(&T) -> Option<Cursor>;

struct Reading<T> {
    state: Mutex<State<T>>,
    alarm: Arc<Alarm>,
}

struct State<T> {
    /// None once it has ended, or was ended.
    items: Option<BoxStream<'static, Result<T, QuoteError>>>,
    place_of: PlaceOf<T>,
    /// Behind the last item that was handed over.
    place: Option<Cursor>,
    /// Why it was ended.
    end: Option<QuoteError>,
}

/// Since when a stream waits to be polled: whoever polls it is woken, and comes or does not.
#[derive(Debug)]
struct Alarm {
    waker: AtomicWaker,
    waiting_since: Mutex<Option<Instant>>,
}

trait Stalls: Send + Sync {
    /// Ends it where it was not read for longer than `patience`.
    fn end_stalled(&self, now: Instant, patience: Duration);
}

impl StreamWatch {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, streams: Arc::default() }
    }

    /// `items` for as long as they are read.
    pub(super) fn watch<T: Send + 'static>(
        &self,
        items: BoxStream<'static, Result<T, QuoteError>>,
        place_of: PlaceOf<T>,
    ) -> Watched<T> {
        let state = State { items: Some(items), place_of, place: None, end: None };
        let reading = Arc::new(Reading { state: Mutex::new(state), alarm: Arc::default() });
        let known = Arc::downgrade(&reading);
        lock(&self.streams).push(known);
        Watched(reading)
    }

    /// Looks after the streams until the service stops.
    pub(super) async fn run(self, stopping: CancellationToken) {
        let mut looks = interval((self.patience / LOOKS).max(Duration::from_millis(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stopping.run_until_cancelled(looks.tick()).await.is_some() {
            self.look();
        }
    }

    fn look(&self) {
        let now = Instant::now();
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.strong_count() > 0);
        let open: Vec<_> = streams.iter().filter_map(Weak::upgrade).collect();
        drop(streams);
        for stream in open {
            stream.end_stalled(now, self.patience);
        }
    }
}

impl fmt::Debug for StreamWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWatch").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl<T> Stream for Watched<T> {
    type Item = Result<T, QuoteError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Reading { state, alarm } = &*self.0;
        let mut state = lock(state);
        alarm.clear(context.waker());
        if let Some(end) = state.end.take() {
            return Poll::Ready(Some(Err(end)));
        }
        let Some(items) = &mut state.items else { return Poll::Ready(None) };
        let waker = Waker::from(Arc::clone(alarm));
        let polled = items.as_mut().poll_next(&mut Context::from_waker(&waker));
        match &polled {
            Poll::Ready(Some(Ok(item))) => {
                state.place = (state.place_of)(item);
                // Whoever took it comes for the next at once, if there is room for it.
                alarm.set();
            }
            Poll::Ready(Some(Err(_)) | None) => state.items = None,
            Poll::Pending => {}
        }
        polled
    }
}

impl<T: Send> Stalls for Reading<T> {
    fn end_stalled(&self, now: Instant, patience: Duration) {
        let Some(waited) = self.alarm.waited(now).filter(|waited| *waited > patience) else {
            return;
        };
        // Whoever holds it is reading.
        let Ok(mut state) = self.state.try_lock() else { return };
        let Some(items) = state.items.take() else { return };
        let cursor = state.place.as_ref().map(Cursor::encode);
        state.end = Some(QuoteError::SlowConsumer { cursor, waited });
        drop(state);
        drop(items);
        info!(waited_ms = waited.as_millis(), "a reader that reads nothing was let go");
    }
}

impl Alarm {
    fn clear(&self, waker: &Waker) {
        self.waker.register(waker);
        *lock(&self.waiting_since) = None;
    }

    fn set(&self) {
        lock(&self.waiting_since).get_or_insert_with(Instant::now);
    }

    fn waited(&self, now: Instant) -> Option<Duration> {
        lock(&self.waiting_since).map(|since| now.saturating_duration_since(since))
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self { waker: AtomicWaker::new(), waiting_since: Mutex::new(Some(Instant::now())) }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
        self.waker.wake();
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _, stream};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn later(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_reads_nothing_is_ended_behind_the_last_that_it_took() {
        let watch = StreamWatch::new(PATIENCE);
        let mut read = watch
            .watch(stream::iter([7_u64, 8, 9]).map(Ok).boxed(), |item| Some(Cursor::at(*item)));
        assert_eq!(read.next().await.unwrap().unwrap(), 7);
        tokio::time::advance(later(30)).await;
        watch.look();
        assert_eq!(read.next().await.unwrap().unwrap(), 8, "just in time");
        tokio::time::advance(later(31)).await;
        watch.look();
        let end = read.next().await.unwrap().unwrap_err();
        let QuoteError::SlowConsumer { cursor, .. } = end else { panic!("{end}") };
        assert_eq!(cursor, Some(Cursor::at(8).encode()));
        assert!(read.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_news_is_not_slow_and_who_is_told_and_does_not_come_is() {
        let (news, items) = futures::channel::mpsc::unbounded::<u64>();
        let watch = StreamWatch::new(PATIENCE);
        let mut read = watch.watch(items.map(Ok).boxed(), |item| Some(Cursor::at(*item)));
        assert!(read.next().now_or_never().is_none());
        tokio::time::advance(later(3_600)).await;
        watch.look();
        news.unbounded_send(1).unwrap();
        tokio::time::advance(later(29)).await;
        watch.look();
        assert_eq!(read.next().await.unwrap().unwrap(), 1);
        assert!(read.next().now_or_never().is_none());
        news.unbounded_send(2).unwrap();
        tokio::time::advance(later(31)).await;
        watch.look();
        assert!(read.next().await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_stalled_reader_held_is_dropped_at_once_and_those_that_left_are_forgotten() {
        let held = Arc::new(());
        let watch = StreamWatch::new(PATIENCE);
        let items = {
            let held = Arc::clone(&held);
            stream::repeat_with(move || Arc::strong_count(&held)).map(Ok).boxed()
        };
        let read = watch.watch(items, |_| None);
        assert_eq!(Arc::strong_count(&held), 2);
        tokio::time::advance(later(31)).await;
        watch.look();
        assert_eq!(Arc::strong_count(&held), 1);
        drop(read);
        watch.look();
        assert!(lock(&watch.streams).is_empty());
    }
}
