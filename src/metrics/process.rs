//! `process_*` of this process, read from /proc at scrape time; absent where there is no /proc.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};

pub(super) struct Process {
    resident: Gauge,
    threads: Gauge,
    open_fds: Gauge,
}

impl Process {
    pub(super) fn new() -> Result<Process, prometheus::Error> {
        let gauge = |name: &str, help: &str| Gauge::with_opts(Opts::new(name, help));
        Ok(Process {
            resident: gauge("process_resident_memory_bytes", "Resident memory in bytes.")?,
            threads: gauge("process_threads", "Threads of the process.")?,
            open_fds: gauge("process_open_fds", "Open file descriptors.")?,
        })
    }

    fn gauges(&self) -> [&Gauge; 3] {
        [&self.resident, &self.threads, &self.open_fds]
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().iter().flat_map(|gauge| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return Vec::new() };
        self.resident.set(number(&status, "VmRSS:") * 1024.0);
        self.threads.set(number(&status, "Threads:"));
        if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(fds.count() as f64);
        }
        self.gauges().iter().flat_map(|gauge| gauge.collect()).collect()
    }
}

fn number(status: &str, field: &str) -> f64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
