//! `process_*` of this process, read from /proc at scrape time; absent where there is no /proc.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Opts};

pub(super) struct Process {
    resident: Gauge,
    size: Gauge,
    threads: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    started: Gauge,
    /// Held while it is brought up to date.
    cpu: Mutex<Counter>,
    descriptions: Vec<Desc>,
}

impl Process {
    pub(super) fn new() -> Result<Process, prometheus::Error> {
        let gauge = |name: &str, help: &str| Gauge::with_opts(Opts::new(name, help));
        let spent = Opts::new("process_cpu_seconds_total", "Time on processors in seconds.");
        let mut process = Process {
            resident: gauge("process_resident_memory_bytes", "Resident memory in bytes.")?,
            size: gauge("process_virtual_memory_bytes", "Virtual memory in bytes.")?,
            threads: gauge("process_threads", "Threads of the process.")?,
            open_fds: gauge("process_open_fds", "Open file descriptors.")?,
            max_fds: gauge("process_max_fds", "File descriptors that may be open.")?,
            started: gauge("process_start_time_seconds", "Start, in seconds since 1970.")?,
            cpu: Mutex::new(Counter::with_opts(spent)?),
            descriptions: Vec::new(),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        process.started.set(now.as_secs_f64());
        let cpu = process.cpu.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gauges = process.gauges().into_iter().flat_map(|gauge| gauge.desc());
        process.descriptions = gauges.chain(cpu.desc()).cloned().collect();
        Ok(process)
    }

    fn gauges(&self) -> [&Gauge; 6] {
        let Process { resident, size, threads, open_fds, max_fds, started, .. } = self;
        [resident, size, threads, open_fds, max_fds, started]
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(status) = fs::read_to_string("/proc/self/status") else { return Vec::new() };
        self.resident.set(number(&status, "VmRSS:") * 1024.0);
        self.size.set(number(&status, "VmSize:") * 1024.0);
        self.threads.set(number(&status, "Threads:"));
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            self.max_fds.set(number(&limits, "Max open files"));
        }
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(fds.count() as f64);
        }
        let cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        cpu.inc_by((spent() - cpu.get()).max(0.0));
        self.gauges().iter().flat_map(|gauge| gauge.collect()).chain(cpu.collect()).collect()
    }
}

/// Seconds that all threads have worked.
fn spent() -> f64 {
    #[cfg(target_os = "linux")]
    {
        use rustix::time::{ClockId, clock_gettime};
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        std::time::Duration::try_from(spent).unwrap_or_default().as_secs_f64()
    }
    #[cfg(not(target_os = "linux"))]
    0.0
}

fn number(text: &str, field: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
