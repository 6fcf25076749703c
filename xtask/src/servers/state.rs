//! The state file of a started server: what a later command needs to find it, and to tell it from a
//! process that happens to have its id.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::Server;
use super::home::{Home, remove_dir};
use crate::process::Identity;

/// Environment variables that tell tests where a server is, and what else they need of it.
pub(crate) type Variables = Vec<(String, String)>;

/// The file in a run's directory where [`Server::prepare`] leaves variables besides the address.
pub(crate) const VARIABLES: &str = "variables";

/// What is known of a server that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) server: String,
    pub(crate) version: String,
    pub(crate) port: u16,
    pub(crate) process: Identity,
    /// The test run or benchmark it belongs to, which stops it. `None`: it runs until `servers
    /// stop`.
    pub(crate) owner: Option<Identity>,
    pub(crate) run_dir: PathBuf,
    pub(crate) log: PathBuf,
}

impl State {
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The server's variable with its address, unless [`Server::prepare`] left another value for it,
    /// and those that it left besides.
    pub(crate) fn variables(&self, server: &dyn Server) -> Variables {
        let text = fs::read_to_string(self.run_dir.join(VARIABLES)).unwrap_or_default();
        let mut variables: Variables = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if variables.iter().all(|(name, _)| name != server.variable()) {
            variables.insert(0, (server.variable().to_owned(), self.address()));
        }
        variables
    }

    /// Whether it belongs to nobody, or to someone who ended without stopping it.
    pub(crate) fn is_ownerless(&self) -> bool {
        self.owner.as_ref().is_none_or(|owner| !owner.lives())
    }

    /// Every state file of a server. One that cannot be read is an error that names it.
    pub(crate) fn load_all(home: &Home, server: &dyn Server) -> Result<Vec<Self>> {
        let mut states = Vec::new();
        let entries = fs::read_dir(home.root())
            .with_context(|| format!("cannot list {}", home.root().display()))?;
        for entry in entries {
            let path =
                entry.with_context(|| format!("cannot list {}", home.root().display()))?.path();
            if !is_state_of(&path, server.name()) {
                continue;
            }
            match fs::read_to_string(&path) {
                Ok(text) => states.push(
                    Self::parse(&text)
                        .with_context(|| format!("{} is broken, delete it", path.display()))?,
                ),
                // Its owner stopped it since the directory was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", path.display()));
                }
            }
        }
        states.sort_by_key(|state| (state.owner.is_some(), state.port));
        Ok(states)
    }

    /// Writes the state file, in one piece.
    pub(crate) fn save(&self, home: &Home) -> Result<()> {
        let path = self.path(home);
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, self.to_text())
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Kills the server if it runs, and removes its data and the state file.
    pub(crate) fn stop(&self, home: &Home) -> Result<()> {
        self.process.kill()?;
        remove_dir(&self.run_dir)?;
        match fs::remove_file(self.path(home)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path(home).display()))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, home: &Home) -> PathBuf {
        home.root().join(match &self.owner {
            None => format!("{}.state", self.server),
            Some(owner) => format!("{}.{}.state", self.server, owner.pid),
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key}={value}");
        };
        line("server", &self.server);
        line("version", &self.version);
        line("port", &self.port.to_string());
        line("pid", &self.process.pid.to_string());
        line("started", &self.process.started);
        if let Some(owner) = &self.owner {
            line("owner-pid", &owner.pid.to_string());
            line("owner-started", &owner.started);
        }
        line("run-dir", &self.run_dir.to_string_lossy());
        line("log", &self.log.to_string_lossy());
        text
    }

    fn parse(text: &str) -> Result<Self> {
        let optional =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let field = |key: &str| optional(key).ok_or_else(|| anyhow!("no line {key}=…"));
        let identity = |pid: &str, started: &str| -> Result<Identity> {
            let pid = field(pid)?.parse().with_context(|| format!("{pid} is not a number"))?;
            Ok(Identity { pid, started: field(started)?.to_owned() })
        };
        Ok(Self {
            server: field("server")?.to_owned(),
            version: field("version")?.to_owned(),
            port: field("port")?.parse().context("port is not a port")?,
            process: identity("pid", "started")?,
            owner: match optional("owner-pid") {
                Some(_) => Some(identity("owner-pid", "owner-started")?),
                None => None,
            },
            run_dir: field("run-dir")?.into(),
            log: field("log")?.into(),
        })
    }
}

fn is_state_of(path: &Path, server: &str) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.strip_suffix(".state").is_some_and(|stem| {
        stem == server
            || stem.strip_prefix(server).and_then(|rest| rest.strip_prefix('.')).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            server: "kafka".to_owned(),
            version: "4.4.0".to_owned(),
            port: 40123,
            process: Identity { pid: 77, started: "Mon Nov 23 15:09:01 2026".to_owned() },
            owner: None,
            run_dir: "/tmp/a b/run".into(),
            log: "/tmp/a b/run/log".into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let shared = state();
        assert_eq!(State::parse(&shared.to_text()).expect("shared"), shared);
        let owned = State { owner: Some(Identity { pid: 5, started: "9".to_owned() }), ..state() };
        assert_eq!(State::parse(&owned.to_text()).expect("owned"), owned);
    }

    #[test]
    fn a_broken_file_names_the_line() {
        let text = state().to_text();
        let without_port = text.replace("port=", "sport=");
        assert_eq!(State::parse(&without_port).expect_err("no port").to_string(), "no line port=…");
        let bad_pid = text.replace("pid=77", "pid=x");
        assert_eq!(State::parse(&bad_pid).expect_err("bad pid").to_string(), "pid is not a number");
        assert!(State::parse("").is_err());
    }

    #[test]
    fn state_files_are_told_by_name() {
        let is = |name: &str| is_state_of(Path::new(name), "kafka");
        assert!(is("/x/kafka.state") && is("/x/kafka.123.state"));
        assert!(
            !is("/x/kafka.unfinished") && !is("/x/kafka-connect.state") && !is("/x/redis.state")
        );
    }

    #[test]
    fn a_dead_owner_leaves_it_ownerless() {
        let this = Identity::of(std::process::id()).expect("this process");
        let dead = Identity { started: "another time".to_owned(), ..this };
        assert!(state().is_ownerless());
        assert!(State { owner: Some(dead), ..state() }.is_ownerless());
        assert!(!State { owner: Some(this), ..state() }.is_ownerless());
    }

    #[test]
    fn stopping_a_stale_state_kills_nobody_and_removes_its_files() {
        let root = std::env::temp_dir().join(format!("kasper-xtask-state-{}", std::process::id()));
        let home = Home::at(&root).expect("home");
        let this = Identity::of(std::process::id()).expect("this process");
        // The id has been given to another process since: this one.
        let stale = State {
            process: Identity { started: "another time".to_owned(), ..this },
            run_dir: home.root().join("run/kafka-1"),
            ..state()
        };
        fs::create_dir_all(&stale.run_dir).expect("run dir");
        stale.save(&home).expect("save");
        assert!(!stale.process.lives());
        stale.stop(&home).expect("stop");
        stale.stop(&home).expect("stop again");
        assert!(!stale.run_dir.exists() && !stale.path(&home).exists());
        remove_dir(&root).expect("clean up");
    }
}
