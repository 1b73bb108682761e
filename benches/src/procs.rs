//! What processes have spent, from `/proc`.

use std::collections::HashSet;
use std::fs;

use crate::error::LoadError;

/// Clock ticks a second in `/proc/<pid>/stat`: fixed at 100 in the kernel's interface to programs.
const TICKS_PER_SECOND: u64 = 100;

/// Sums over process trees, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU spent, user and system, children that ended included; in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory, in KiB. Memory that processes share is counted in each.
    pub rss_kib: u64,
    /// Bytes handed to block devices.
    pub written: u64,
}

/// The parts of `/proc/<pid>/stat` used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The parent's id.
    pub parent: u32,
    /// Own time and that of children waited for, in ticks.
    pub ticks: u64,
}

/// Parses one `/proc/<pid>/stat`. The command may contain spaces and parentheses.
#[must_use]
pub fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5), of which the first two went with the command.
    let times = fields.get(11..15)?;
    let ticks = times.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Stat { parent, ticks })
}

/// The number after `key` (with its colon) at a line's beginning, as in `/proc/<pid>/status` and `/proc/<pid>/io`.
#[must_use]
pub fn parse_field(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// The socket inodes that listen on `port`, from `/proc/net/tcp` or `tcp6`.
#[must_use]
pub fn parse_listeners(text: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    let lines = text.lines().skip(1);
    let fields = lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let listening =
        fields.filter(|fields| fields.get(1).is_some_and(|at| at.ends_with(&suffix)) && fields.get(3) == Some(&LISTEN));
    listening.filter_map(|fields| fields.get(9)?.parse().ok()).collect()
}

/// What the trees below `roots` have spent so far. A process that ends while being read counts as nothing.
///
/// # Errors
/// When `/proc` can't be read, or a root does not exist.
pub fn usage(roots: &[u32]) -> Result<Usage, LoadError> {
    let mut total = Usage::default();
    for pid in family(roots)? {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let ticks = parse_stat(&read("stat")).map_or(0, |stat| stat.ticks);
        total.cpu_ms += ticks * 1000 / TICKS_PER_SECOND;
        total.rss_kib += parse_field(&read("status"), "VmRSS:").unwrap_or(0);
        total.written += parse_field(&read("io"), "write_bytes:").unwrap_or(0);
    }
    Ok(total)
}

/// The processes that listen on a TCP port of this machine.
///
/// # Errors
/// When `/proc` can't be read or nobody listens.
pub fn listening_on(port: u16) -> Result<Vec<u32>, LoadError> {
    let mut inodes = HashSet::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        inodes.extend(parse_listeners(&fs::read_to_string(file).unwrap_or_default(), port));
    }
    let sockets: HashSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let found: Vec<u32> = all_pids()?.into_iter().filter(|pid| holds(*pid, &sockets)).collect();
    if found.is_empty() {
        return Err(LoadError::Argument(format!("no process listens on port {port}")));
    }
    Ok(found)
}

fn holds(pid: u32, sockets: &HashSet<String>) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.into_iter().any(|link| link.to_str().is_some_and(|link| sockets.contains(link)))
}

fn all_pids() -> Result<Vec<u32>, LoadError> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

fn family(roots: &[u32]) -> Result<HashSet<u32>, LoadError> {
    if roots.is_empty() {
        return Ok(HashSet::new());
    }
    let stats: Vec<(u32, u32)> = all_pids()?
        .into_iter()
        .filter_map(|pid| Some((pid, parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.parent)))
        .collect();
    let mut family = HashSet::new();
    for root in roots {
        if !stats.iter().any(|(pid, _)| pid == root) {
            return Err(LoadError::Argument(format!("there is no process {root}")));
        }
        family.insert(*root);
    }
    // Each round adds one generation; it ends when a round adds nothing.
    loop {
        let before = family.len();
        let children: Vec<u32> =
            stats.iter().filter(|(_, parent)| family.contains(parent)).map(|(pid, _)| *pid).collect();
        family.extend(children);
        if family.len() == before {
            return Ok(family);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_an_ugly_command() {
        let text = "77 (a) b (c)) S 42 77 77 0 -1 4194560 9 0 0 0 11 22 33 44 20 0 1 0 100 0 0";
        assert_eq!(parse_stat(text), Some(Stat { parent: 42, ticks: 110 }));
    }

    #[test]
    fn truncated_stat_is_nothing() {
        assert_eq!(parse_stat("77 (a) S 42 77 77 0 -1 4194560 9 0 0 0 11 22"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn fields_by_key() {
        let text = "rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert_eq!(parse_field(text, "write_bytes:"), Some(4096));
        assert_eq!(parse_field("VmRSS:\t  123 kB\n", "VmRSS:"), Some(123));
        assert_eq!(parse_field(text, "absent:"), None);
    }

    #[test]
    fn listeners_only() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F48 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 555 1\n\
             1: 0100007F:1F48 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0  0 556 1\n";
        assert_eq!(parse_listeners(text, 8008), [555]);
        assert!(parse_listeners(text, 8009).is_empty());
    }

    #[test]
    fn this_process_is_alive_and_a_missing_one_is_an_error() {
        assert!(usage(&[std::process::id()]).unwrap().rss_kib > 0);
        assert!(usage(&[u32::MAX]).is_err());
    }

    #[test]
    fn the_listener_of_a_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listening_on(port).unwrap(), [std::process::id()]);
    }
}
