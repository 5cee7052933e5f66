//! Progress on stderr: bars and spinners on a terminal, nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);
const BAR: &str = "{msg:<28} {wide_bar} {human_pos:>9} of {human_len} bars";
const SYNC: &str = "{msg:<28} {wide_bar} {human_pos:>9} of {human_len} bars ({elapsed})";
const COUNTER: &str = "{msg:<28} {spinner} {human_pos} bars ({elapsed})";
const TOTAL: &str = "{pos:>3} of {len} symbols ({elapsed}) {wide_msg}";
const SPINNER: &str = "{msg:<28} {spinner} {elapsed}";

/// A bar up to `total` bars.
pub(super) fn bar(total: u64, name: String) -> ProgressBar {
    ProgressBar::new(total).with_style(style(BAR)).with_message(name)
}

/// A counter of bars, of which nobody knows how many there will be.
pub(super) fn counter(name: String) -> ProgressBar {
    moving(ProgressBar::no_length().with_style(style(COUNTER)).with_message(name))
}

/// Shows how far a sync is: a bar where it is known how many bars are to come.
pub(super) fn synced(shown: &ProgressBar, fetched: u64, expected: Option<u64>) {
    match expected {
        Some(total) if shown.length().is_none() => {
            shown.set_style(style(SYNC));
            shown.set_length(total);
        }
        None if fetched > 0 => shown.set_style(style(COUNTER)),
        Some(_) | None => {}
    }
    shown.set_position(fetched);
}

/// How many of `count` symbols are done.
pub(super) fn total(count: usize) -> ProgressBar {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    ProgressBar::new(count).with_style(style(TOTAL))
}

/// Something that moves while the server works.
pub(super) fn spinner(name: String) -> ProgressBar {
    ProgressBar::no_length().with_style(style(SPINNER)).with_message(name)
}

/// Lets it move by itself.
pub(super) fn moving(bar: ProgressBar) -> ProgressBar {
    bar.enable_steady_tick(TICK);
    bar
}

/// The templates are ours; should one be wrong, there is still indicatif's own.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_right() {
        for template in [BAR, SYNC, COUNTER, SPINNER, TOTAL] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
