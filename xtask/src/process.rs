//! Processes that outlive the command that started them: who they are, whether they live, how they
//! end.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal};

/// One process, told apart from a later one that got the same id by when it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// When it started, in the words of the operating system: only good for comparing.
    pub(crate) started: String,
}

impl Identity {
    /// The process that has this id now. `None` if there is none, or it is dead and only waits to
    /// be reaped.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let started = if Path::new("/proc/self/stat").exists() {
            started_from_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?
        } else {
            let pid = pid.to_string();
            let output =
                Command::new("ps").args(["-o", "stat=,lstart=", "-p", &pid]).output().ok()?;
            started_from_ps(&String::from_utf8_lossy(&output.stdout))?
        };
        Some(Self { pid, started })
    }

    /// Whether this very process still runs.
    pub(crate) fn lives(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Kills the process and all of its process group, and waits until it is gone. Fine if it is
    /// gone already.
    pub(crate) fn kill(&self) -> Result<()> {
        if !self.lives() {
            return Ok(());
        }
        signal_group(self.pid, Signal::KILL);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.lives() {
            if Instant::now() > deadline {
                bail!("process {} does not die", self.pid);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Sends a signal to a process group. A group that is gone is not an error.
pub(crate) fn signal_group(group: u32, signal: Signal) {
    let pid = i32::try_from(group).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // The only failures: the group is gone (wanted), or it is not ours (it is: we started it).
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// The name of a command's program, for messages.
pub(crate) fn program(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The 22nd field of Linux's `/proc/PID/stat`. The second one is the program's name in brackets,
/// which may contain anything, brackets and blanks too: fields are counted from its last bracket.
fn started_from_stat(stat: &str) -> Option<String> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

/// `ps -o stat=,lstart=`: a word for the state, then the date.
fn started_from_ps(line: &str) -> Option<String> {
    let (state, started) = line.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| started.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "77 (a) S (b)) S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 5 6";

    #[test]
    fn stat_is_read_past_an_odd_program_name() {
        assert_eq!(started_from_stat(STAT).as_deref(), Some("4242"));
    }

    #[test]
    fn a_zombie_is_gone() {
        assert_eq!(started_from_stat(&STAT.replace(") S 1", ") Z 1")), None);
        assert_eq!(started_from_ps("Z+   Mon Nov 23 15:09:01 2026"), None);
    }

    #[test]
    fn ps_is_read() {
        assert_eq!(
            started_from_ps("Ss  Mon Nov  3 15:09:01 2026\n").as_deref(),
            Some("Mon Nov 3 15:09:01 2026")
        );
        assert_eq!(started_from_ps(""), None);
    }

    #[test]
    fn this_process_lives_and_one_with_its_id_but_another_start_does_not() {
        let this = Identity::of(std::process::id()).expect("this process");
        assert!(this.lives());
        let reused = Identity { started: "another time".to_owned(), ..this };
        assert!(!reused.lives());
        reused.kill().expect("must not kill who has the id now");
    }

    #[test]
    fn a_killed_child_is_gone_before_it_is_reaped() {
        use std::os::unix::process::CommandExt;
        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().expect("sleep");
        let identity = Identity::of(child.id()).expect("a running child");
        identity.kill().expect("kill");
        assert!(!identity.lives());
        child.wait().expect("reap");
    }
}
