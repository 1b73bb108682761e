//! A program that runs as long as its owner wants it to, and never longer than its owner's process.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// Ends the process whose number it is given once its input ends.
const ENDS: &str = "cat >/dev/null; kill -KILL $0";
const POLL: Duration = Duration::from_millis(5);

/// See the module.
pub struct Process {
    child: Child,
    guardian: Child,
    output: PathBuf,
}

/// What a process does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Runs,
    /// It stands where a signal stopped it.
    Stopped,
    /// It is gone.
    Ended,
}

impl Process {
    /// Starts a program in a folder, which is made if it isn't there; what it says is appended to a file there.
    ///
    /// # Panics
    /// When it can't be run.
    #[must_use]
    pub fn start(command: &mut Command, folder: &Path) -> Self {
        let output = folder.join("output.txt");
        fs::create_dir_all(folder).expect("a folder");
        let file = fs::OpenOptions::new().create(true).append(true).open(&output).expect("a file for the output");
        let second = file.try_clone().expect("a second handle");
        let started = command.current_dir(folder).stdin(Stdio::null()).stdout(second).stderr(file).spawn();
        let child = started.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        let guardian = guardian(ENDS, child.id().to_string().as_ref());
        Self { child, guardian, output }
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Sends a signal by its name, as `kill` knows it.
    ///
    /// # Panics
    /// When the process doesn't run.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{name} can't be sent");
    }

    /// What it does now.
    #[must_use]
    pub fn state(&self) -> State {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        match stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next() {
            None | Some('Z' | 'X') => State::Ended,
            Some('T' | 't') => State::Stopped,
            Some(_) => State::Runs,
        }
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When the system doesn't say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Asks it to end, waits, and ends it when it takes too long; whether it ended by itself.
    pub async fn terminate(mut self, limit: Duration) -> bool {
        let began = Instant::now();
        self.signal("TERM");
        while self.ended().is_none() {
            if began.elapsed() > limit {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }

    /// CPU time used so far, in seconds.
    #[must_use]
    pub fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The name in parentheses may hold anything; user and system time are the 12th and 13th numbers after it, in ticks of 10 ms.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches("kB").trim().parse().map_or(0, |kib: u64| kib * 1024)
    }
}

impl Drop for Process {
    /// At once, as a power cut would; and waits until it is gone.
    fn drop(&mut self) {
        // First the guardian, which knows the process by its number only.
        for child in [&mut self.guardian, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A shell that does what it is told with its argument once its input ends: when the process that holds the other end of the pipe is
/// gone, however it went.
pub(super) fn guardian(script: &str, argument: &OsStr) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(argument).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().expect("a shell")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Process {
        Process::start(Command::new("sleep").arg("600"), &folder.join("own"))
    }

    fn exists(pid: u32) -> bool {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z")
    }

    #[test]
    fn it_goes_with_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let process = sleeper(folder.path());
        let pids = [process.pid(), process.guardian.id()];
        assert!(pids.into_iter().all(exists));
        drop(process);
        assert!(!pids.into_iter().any(exists));
    }

    #[test]
    fn it_goes_when_its_owners_process_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut process = sleeper(folder.path());
        // What the system does with the pipe when a process ends.
        drop(process.guardian.stdin.take());
        let began = Instant::now();
        while exists(process.pid()) {
            assert!(began.elapsed() < Duration::from_secs(20), "it still runs");
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn its_state_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut process = sleeper(folder.path());
        let waited_for = |process: &Process, wanted: State| {
            let began = Instant::now();
            while process.state() != wanted {
                assert!(began.elapsed() < Duration::from_secs(20), "{:?}, not {wanted:?}", process.state());
                std::thread::sleep(POLL);
            }
        };
        waited_for(&process, State::Runs);
        for (signal, state) in [("STOP", State::Stopped), ("CONT", State::Runs), ("KILL", State::Ended)] {
            process.signal(signal);
            waited_for(&process, state);
        }
        assert!(process.ended().is_some());
        waited_for(&process, State::Ended);
    }

    #[tokio::test]
    async fn it_ends_when_it_is_asked_to() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(sleeper(folder.path()).terminate(Duration::from_secs(10)).await);
        let mut deaf = Command::new("sh");
        deaf.args(["-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]);
        let stubborn = Process::start(&mut deaf, &folder.path().join("deaf"));
        while !stubborn.said().contains("up") {
            tokio::time::sleep(POLL).await;
        }
        assert!(!stubborn.terminate(Duration::from_millis(50)).await);
    }
}
