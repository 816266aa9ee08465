//! What processes use while they run, and whether it grows.

use std::path::Path;
use std::time::{Duration, Instant};

/// A process on this host.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Resident memory in bytes; 0 if it is gone.
    pub fn resident(self) -> u64 {
        self.kilobytes("VmRSS:") << 10
    }

    /// The most resident memory it ever had, in MiB; 0 if it is gone.
    pub fn peak(self) -> f64 {
        f64::from(u32::try_from(self.kilobytes("VmHWM:")).unwrap_or(u32::MAX)) / 1024.0
    }

    fn kilobytes(self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kilobytes.unwrap_or(0)
    }

    /// Processor time that it used so far, in user and system mode; zero if it is gone. In steps of the
    /// kernel's clock, which are 10 ms on most machines.
    pub fn cpu(self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // The name before these fields may hold anything, also brackets.
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        ticks(fields.split_whitespace().skip(11).take(2))
    }

    /// Time that its threads were ready and had no processor, all of those together that are there now; zero if it is
    /// gone.
    pub fn waited(self) -> Duration {
        self.threads(|_| true).1
    }

    /// Processor time of its threads of that name that are there now; zero if there are none.
    pub fn thread_cpu(self, name: &str) -> Duration {
        self.threads(|thread| {
            let found = std::fs::read_to_string(thread.join("comm"));
            found.is_ok_and(|found| found.trim_end() == name)
        })
        .0
    }

    /// Time on a processor and waiting for one, of the threads that are there now and wanted.
    fn threads(self, wanted: impl Fn(&Path) -> bool) -> (Duration, Duration) {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0));
        let paths = threads.into_iter().flatten().flatten();
        let paths = paths.map(|thread| thread.path());
        let (mut busy, mut waited) = (0, 0);
        for path in paths.filter(|path| wanted(path)) {
            let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            // Both in nanoseconds, before a third figure.
            let mut fields = text.split_whitespace().map(|field| field.parse().ok());
            busy += fields.next().flatten().unwrap_or(0);
            waited += fields.next().flatten().unwrap_or(0);
        }
        (Duration::from_nanos(busy), Duration::from_nanos(waited))
    }

    /// Bytes that it had written to disks; 0 if it is gone.
    pub fn written(self) -> u64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.0)).unwrap_or_default();
        let line = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
    }

    /// Open file descriptors; 0 if it is gone.
    pub fn descriptors(self) -> u64 {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.0));
        open.map_or(0, |open| u64::try_from(open.count()).unwrap_or(0))
    }
}

/// Processor time that all processes of this host used so far, with the kernel's own.
pub fn host_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = stat.lines().next().unwrap_or_default();
    let fields: Vec<&str> = all.split_whitespace().collect();
    // The name, user, nice, system, idle, waiting for a disk, interrupts, soft ones.
    let (before, after) = (fields.get(1..4), fields.get(6..8));
    ticks([before, after].into_iter().flatten().flatten().copied())
}

/// The sum of times that the kernel counts in its clock.
fn ticks<'a>(fields: impl Iterator<Item = &'a str>) -> Duration {
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
    Duration::from_secs(ticks) / per_second
}

/// One quantity over time: seconds since the series began, and the value.
#[derive(Debug)]
pub struct Series {
    began: Instant,
    points: Vec<(f64, f64)>,
}

impl Series {
    /// Without any point yet.
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            points: Vec::new(),
        }
    }

    pub fn add(&mut self, value: u64) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of a percent is precise enough"
        )]
        let value = value as f64;
        self.points
            .push((self.began.elapsed().as_secs_f64(), value));
    }

    pub fn last(&self) -> f64 {
        self.points.last().map_or(0.0, |(_, value)| *value)
    }

    /// Seconds that it covers.
    pub fn span(&self) -> f64 {
        match (self.points.first(), self.points.last()) {
            (Some((first, _)), Some((last, _))) => last - first,
            _ => 0.0,
        }
    }

    /// Growth in percent of the mean, per hour: the slope of the straight line that fits best.
    pub fn percent_per_hour(&self) -> f64 {
        let count = f64::from(u32::try_from(self.points.len()).unwrap_or(u32::MAX));
        if self.points.len() < 2 {
            return 0.0;
        }
        let (times, values): (f64, f64) = self
            .points
            .iter()
            .fold((0.0, 0.0), |(t, v), (time, value)| (t + time, v + value));
        let (time_mean, value_mean) = (times / count, values / count);
        let (mut above, mut below) = (0.0, 0.0);
        for (time, value) in &self.points {
            above += (time - time_mean) * (value - value_mean);
            below += (time - time_mean).powi(2);
        }
        if below == 0.0 || value_mean == 0.0 {
            return 0.0;
        }
        above / below * 3600.0 / value_mean * 100.0
    }
}

#[test]
fn a_slope_is_in_percent_of_the_mean_per_hour() {
    let series = |points: &[(f64, f64)]| Series {
        began: Instant::now(),
        points: points.to_vec(),
    };
    let growing = series(&[(0.0, 99.0), (1800.0, 100.0), (3600.0, 101.0)]);
    assert!((growing.percent_per_hour() - 2.0).abs() < 1e-9);
    let flat = series(&[(0.0, 5.0), (10.0, 5.0)]);
    assert!(flat.percent_per_hour().abs() < 1e-9);
    assert!((flat.span() - 10.0).abs() < 1e-9);
}
