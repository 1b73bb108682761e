//! The process's own numbers, from the system, in Prometheus' text format and under its usual names.

use std::{fmt::Write as _, fs};

/// Ticks of `/proc/self/stat` a second: fixed on Linux, whatever the kernel's own clock is.
const TICKS_PER_S: f64 = 100.0;

/// The numbers of this process as a scrape shows them. What the system doesn't tell is left out.
#[must_use]
pub fn render() -> String {
    let mut out = String::new();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
    };
    let mut add = |name: &str, kind: &str, help: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string can't fail.
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
        }
    };
    let bytes = |kilobytes: u64| (kilobytes * 1024).to_string();
    add("process_resident_memory_bytes", "gauge", "Resident memory.", field("VmRSS").map(bytes));
    add("process_virtual_memory_bytes", "gauge", "Virtual memory.", field("VmSize").map(bytes));
    add("process_threads", "gauge", "Threads.", field("Threads").map(|threads| threads.to_string()));
    let fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().to_string());
    add("process_open_fds", "gauge", "Open file descriptors.", fds);
    let cpu = cpu_seconds().map(|seconds| format!("{seconds:.2}"));
    add("process_cpu_seconds_total", "counter", "User and system CPU time.", cpu);
    out
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in parentheses, may hold anything; the 14th and 15th fields are user and system time.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_numbers_are_plausible() {
        let text = super::render();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!((0.0..1e6).contains(&value("process_cpu_seconds_total")));
    }
}
