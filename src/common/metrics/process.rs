//! What the operating system says of this process and the runtime of itself, read when asked.
//!
//! From `/proc` (proc(5)), so on Linux only; elsewhere these metrics are absent.

use std::fs;

use tokio::runtime::Handle;

use super::table as t;

/// Ticks a second in `/proc/self/stat`: `USER_HZ`, which is 100 on every platform that Linux
/// gives to programs.
const TICKS_PER_SECOND: u64 = 100;

/// Records how the process is now.
pub(super) fn observe() {
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    // The second field is the program's name in parentheses, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    // Fields from the third on: utime is the 14th, stime the 15th, starttime the 22nd.
    let field = |number: usize| {
        fields.split_ascii_whitespace().nth(number - 3).and_then(|text| text.parse::<u64>().ok())
    };
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        t::PROCESS_CPU.handle().absolute((user + system) / TICKS_PER_SECOND);
    }
    let booted = number_after(&read("/proc/stat"), "btime");
    if let (Some(booted), Some(ticks)) = (booted, field(22)) {
        t::PROCESS_START.handle().set(booted + float(ticks) / float(TICKS_PER_SECOND));
    }
    let kibibytes = |name: &str| number_after(&status, name).map(|kib| kib * 1024.0);
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| {
        // The one that lists them is among them.
        float(u64::try_from(entries.count()).unwrap_or_default().saturating_sub(1))
    });
    let values = [
        (t::PROCESS_RESIDENT, kibibytes("VmRSS:")),
        (t::PROCESS_VIRTUAL, kibibytes("VmSize:")),
        (t::PROCESS_THREADS, number_after(&status, "Threads:")),
        (t::PROCESS_OPEN_FDS, open),
        (t::PROCESS_MAX_FDS, number_after(&read("/proc/self/limits"), "Max open files")),
    ];
    for (gauge, value) in values {
        if let Some(value) = value {
            gauge.handle().set(value);
        }
    }
    observe_runtime();
}

fn observe_runtime() {
    let runtime = Handle::current().metrics();
    let set = |gauge: super::Family<metrics::Gauge, 0>, value: usize| {
        gauge.handle().set(float(u64::try_from(value).unwrap_or(u64::MAX)));
    };
    set(t::RUNTIME_WORKERS, runtime.num_workers());
    set(t::RUNTIME_TASKS, runtime.num_alive_tasks());
    set(t::RUNTIME_QUEUE, runtime.global_queue_depth());
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number behind `name`, at the beginning of a line.
fn number_after(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_their_names() {
        let status = "Name:\tVmRSS: 1\nVmRSS:\t  5216 kB\nThreads:\t9\n";
        assert_eq!(number_after(status, "VmRSS:"), Some(5_216.0));
        assert_eq!(number_after(status, "Threads:"), Some(9.0));
        assert_eq!(number_after(status, "VmSize:"), None);
    }
}
