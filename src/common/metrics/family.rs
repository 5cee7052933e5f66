//! Metrics as they are declared, and handles to count with.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString};

/// Whether anything is recorded: so that nothing is put together for nobody.
static RECORDING: AtomicBool = AtomicBool::new(false);

static METADATA: Metadata<'static> = Metadata::new("pocketquant", Level::INFO, None);

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often something took how long, in buckets.
    Histogram,
}

/// A metric as it is documented.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Its name, with its unit as Prometheus has it.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// What it counts.
    pub unit: &'static str,
    /// What tells its series apart; each takes few values.
    pub labels: &'static [&'static str],
    /// What it means, in one line.
    pub help: &'static str,
}

/// A metric of the table, to record with: one series for each set of values of its labels.
#[derive(Clone, Copy, Debug)]
pub struct Family<K, const LABELS: usize> {
    name: &'static str,
    labels: [&'static str; LABELS],
    kind: PhantomData<fn() -> K>,
}

impl<K, const LABELS: usize> Family<K, LABELS> {
    pub(super) const fn new(name: &'static str, labels: [&'static str; LABELS]) -> Self {
        Self { name, labels, kind: PhantomData }
    }

    fn key(&self, values: [SharedString; LABELS]) -> Key {
        let pairs = self.labels.iter().zip(values);
        let labels: Vec<Label> = pairs.map(|(name, value)| Label::new(*name, value)).collect();
        Key::from_parts(self.name, labels)
    }
}

/// Gives the handle of one series: `with` its labels' values, in the table's order.
macro_rules! handles {
    ($handle:ident, $register:ident) => {
        impl<const LABELS: usize> Family<$handle, LABELS> {
            /// The series of these values. Looked up each time: keep the handle where it is hot.
            pub fn with<V: Into<SharedString>>(&self, values: [V; LABELS]) -> $handle {
                if !is_recording() {
                    return $handle::noop();
                }
                let key = self.key(values.map(Into::into));
                metrics::with_recorder(|recorder: &dyn Recorder| {
                    recorder.$register(&key, &METADATA)
                })
            }
        }

        impl Family<$handle, 0> {
            /// The one series of a metric without labels.
            pub fn handle(&self) -> $handle {
                self.with::<&str>([])
            }
        }
    };
}

handles!(Counter, register_counter);
handles!(Gauge, register_gauge);
handles!(Histogram, register_histogram);

/// Whether anything is recorded.
pub(super) fn is_recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

pub(super) fn start_recording() {
    RECORDING.store(true, Ordering::Relaxed);
}
