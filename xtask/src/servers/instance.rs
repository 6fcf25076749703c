//! Running servers: started, waited for, listed, stopped.

use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::home::{Home, Lock, remove_dir};
use super::state::{State, Variables};
use super::{Launch, Server};
use crate::process::Identity;
use crate::{interrupt, tools};

/// How long a server may take until it answers. Far more than any takes: a busy machine is slow,
/// not broken.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Ports are free when they are chosen; another process may take one before the server does.
const START_ATTEMPTS: u32 = 3;

/// Whom a server is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Anyone: it runs until `servers stop`.
    Shared,
    /// Tests run by this process.
    Test,
    /// A benchmark run by this process: with a heap of its own size.
    Bench { heap_mb: u32 },
}

impl Purpose {
    fn heap_mb(self) -> u32 {
        match self {
            Self::Bench { heap_mb } => heap_mb,
            Self::Shared | Self::Test => 512,
        }
    }
}

/// A running server, stopped when dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    home: Home,
    state: State,
    keep: bool,
}

impl Instance {
    /// Starts a server that this process stops.
    pub(crate) fn start_owned(server: &dyn Server, purpose: Purpose) -> Result<Self> {
        let home = Home::open()?;
        let lock = home.lock()?;
        sweep(&home, &lock, server)?;
        start(&home, &lock, server, purpose)
    }

    /// Where the server is that `servers start` started, if it runs and answers.
    pub(crate) fn shared(server: &dyn Server) -> Result<Option<Variables>> {
        let home = Home::open()?;
        let shared =
            State::load_all(&home, server)?.into_iter().find(|state| state.owner.is_none());
        Ok(shared
            .filter(|state| state.version == server.product().version() && state.process.lives())
            .filter(|state| server.answers(&state.address()).is_ok())
            .map(|state| state.variables(server)))
    }

    pub(crate) fn variables(&self, server: &dyn Server) -> Variables {
        self.state.variables(server)
    }

    /// Its version, if it is one of these.
    pub(crate) fn version_of(&self, server: &dyn Server) -> Option<&str> {
        (self.state.server == server.name()).then_some(self.state.version.as_str())
    }

    /// Keeps the server's log where [`State::stop`] does not remove it, and returns the place.
    pub(crate) fn save_log(&self) -> Option<String> {
        let place = self.home.failure_log(&self.state.server);
        fs::copy(&self.state.log, &place).ok()?;
        Some(place.display().to_string())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = self.state.stop(&self.home) {
            eprintln!("xtask: cannot stop {}: {error:#}", self.state.server);
        }
    }
}

/// Starts the server that runs until it is stopped, unless it runs already.
pub(crate) fn start_shared(home: &Home, lock: &Lock, server: &dyn Server) -> Result<()> {
    sweep(home, lock, server)?;
    let running = State::load_all(home, server)?.into_iter().find(|state| state.owner.is_none());
    if let Some(state) = running {
        if server.answers(&state.address()).is_ok() {
            println!("{} {} runs already", state.server, state.version);
            print_variables(&state.variables(server));
            return Ok(());
        }
        println!(
            "{} (process {}) runs but does not answer, starting it anew",
            state.server, state.process.pid
        );
        state.stop(home)?;
    }
    let mut instance = start(home, lock, server, Purpose::Shared)?;
    instance.keep = true;
    print_variables(&instance.variables(server));
    Ok(())
}

/// Stops every instance of a server except those of test runs that are still going on.
pub(crate) fn stop_all(home: &Home, _lock: &Lock, server: &dyn Server) -> Result<()> {
    let states = State::load_all(home, server)?;
    if states.is_empty() {
        println!("{} was not running", server.name());
    }
    for state in states {
        if let Some(owner) = state.owner.as_ref().filter(|owner| owner.lives()) {
            println!(
                "{} at {} is left to the run it belongs to (process {})",
                state.server,
                state.address(),
                owner.pid
            );
            continue;
        }
        let lived = state.process.lives();
        state.stop(home)?;
        let how = if lived { "stopped" } else { "was gone already" };
        println!("{} at {} {how}, data removed", state.server, state.address());
    }
    Ok(())
}

/// A line for every instance of a server.
pub(crate) fn print_status(home: &Home, server: &dyn Server) -> Result<()> {
    let states = State::load_all(home, server)?;
    if states.is_empty() {
        println!("{} {}  not running", server.name(), server.product().version());
    }
    for state in states {
        let what = match (state.process.lives(), &state.owner) {
            (false, _) => "gone without being stopped",
            (true, _) if server.answers(&state.address()).is_err() => "does not answer",
            (true, None) => "running",
            (true, Some(owner)) if owner.lives() => "running, for a test run",
            (true, Some(_)) => "running, left over by a test run",
        };
        let (name, version, address, pid) =
            (&state.server, &state.version, state.address(), state.process.pid);
        println!(
            "{name} {version}  {what}  {}={address}  process {pid}  log {}",
            server.variable(),
            state.log.display()
        );
    }
    Ok(())
}

/// Removes what is left of servers that died, and those whose test run died without stopping them.
fn sweep(home: &Home, _lock: &Lock, server: &dyn Server) -> Result<()> {
    let mut used = Vec::new();
    for state in State::load_all(home, server)? {
        let orphaned = state.owner.is_some() && state.is_ownerless();
        if orphaned || !state.process.lives() {
            println!("removing what is left of {} (process {})", state.server, state.process.pid);
            state.stop(home)?;
        } else {
            used.push(state.run_dir);
        }
    }
    // Whoever starts a server holds the lock until its state file is there: the others are of
    // commands that died.
    for run_dir in home.run_dirs(server)? {
        if !used.contains(&run_dir) {
            remove_dir(&run_dir)?;
        }
    }
    Ok(())
}

fn start(home: &Home, lock: &Lock, server: &dyn Server, purpose: Purpose) -> Result<Instance> {
    tools::require(&super::tools_of(home, server), server.otherwise())?;
    let files = home.files(server.product(), lock)?;
    let began = Instant::now();
    println!("starting {} {}", server.name(), server.product().version());
    for attempt in 1.. {
        let launch = Launch {
            files: files.clone(),
            run_dir: home.new_run_dir(server)?,
            ports: free_ports(server.first_port(), server.ports())?,
            heap_mb: purpose.heap_mb(),
        };
        match launch_one(home, server, &launch, purpose) {
            Ok(instance) => {
                println!("{} answers after {:.1} s", server.name(), began.elapsed().as_secs_f32());
                return Ok(instance);
            }
            Err(Failed::PortTaken) if attempt < START_ATTEMPTS => {
                println!("a port was taken by another process, trying others");
            }
            Err(Failed::PortTaken) => {
                bail!("{} found its ports taken {attempt} times", server.name())
            }
            Err(Failed::Other(error)) => {
                return Err(error.context(format!("cannot start {}", server.name())));
            }
        }
    }
    Err(anyhow!("no attempt to start {}", server.name()))
}

/// Why a launch failed.
enum Failed {
    PortTaken,
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Starts the process and waits until it answers. On failure nothing of it is left.
fn launch_one(
    home: &Home,
    server: &dyn Server,
    launch: &Launch,
    purpose: Purpose,
) -> Result<Instance, Failed> {
    let (mut child, state) = match spawn(server, launch, purpose) {
        Ok(started) => started,
        Err(error) => {
            remove_dir(&launch.run_dir)?;
            return Err(error.into());
        }
    };
    // From here on it is stopped on every way out but the good one, a panic too.
    let instance = Instance { home: home.clone(), state, keep: false };
    instance.state.save(home)?;
    wait_until_answers(server, &mut child, &instance.state)?;
    Ok(instance)
}

fn spawn(server: &dyn Server, launch: &Launch, purpose: Purpose) -> Result<(Child, State)> {
    let owner = match purpose {
        Purpose::Shared => None,
        Purpose::Test | Purpose::Bench { .. } => Some(
            Identity::of(std::process::id())
                .ok_or_else(|| anyhow!("this process cannot find itself"))?,
        ),
    };
    let mut command = server.prepare(launch)?;
    let log = launch.log();
    let output = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("cannot open {}", log.display()))?;
    let errors = output.try_clone().context("cannot share the log")?;
    let mut child = command
        .current_dir(&launch.run_dir)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        // A group of its own: neither Ctrl-C nor the end of this command's group reaches it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", crate::process::program(&command)))?;
    let identified = Identity::of(child.id())
        .ok_or_else(|| anyhow!("it ended at once:\n{}", last_lines(&log, 20)));
    let process = identified.inspect_err(|_| {
        let _ = child.wait();
    })?;
    let port = launch.ports.first().copied().unwrap_or_default();
    let state = State {
        server: server.name().to_owned(),
        version: server.product().version().to_owned(),
        port,
        process,
        owner,
        run_dir: launch.run_dir.clone(),
        log,
    };
    Ok((child, state))
}

fn wait_until_answers(server: &dyn Server, child: &mut Child, state: &State) -> Result<(), Failed> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        interrupt::check()?;
        if let Some(status) = child.try_wait().context("cannot ask after the server's process")? {
            if fs::read_to_string(&state.log).is_ok_and(|log| tells_of_taken_port(&log)) {
                return Err(Failed::PortTaken);
            }
            return Err(anyhow!("it ended with {status}:\n{}", last_lines(&state.log, 20)).into());
        }
        match server.answers(&state.address()) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                let log = last_lines(&state.log, 20);
                let seconds = START_TIMEOUT.as_secs();
                return Err(anyhow!("no good answer within {seconds} s ({error:#}):\n{log}").into());
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn tells_of_taken_port(log: &str) -> bool {
    log.contains("BindException") || log.contains("Address already in use")
}

/// Ports nobody listens on, the first of them one of these; 0 is any. All are held until the last is
/// found, so that they differ.
fn free_ports(first: RangeInclusive<u16>, count: usize) -> Result<Vec<u16>> {
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
    // Not all begin at the same port: several may look for one at the same time.
    let skip = std::process::id() as usize % first.len().max(1);
    let in_turn = first.clone().skip(skip).chain(first.take(skip));
    let found = in_turn.into_iter().find_map(|port| bind(port).ok());
    let mut listeners = vec![found.context("cannot find a free port")?];
    while listeners.len() < count {
        listeners.push(bind(0).context("cannot find a free port")?);
    }
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// The end of a file, for error messages.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn print_variables(variables: &Variables) {
    for (name, value) in variables {
        println!("{name}={value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let mut ports = free_ports(0..=0, 8).expect("ports");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 8);
    }

    #[test]
    fn the_first_port_is_of_the_range() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("port");
        let port = taken.local_addr().expect("address").port();
        free_ports(port..=port, 2).expect_err("taken");
        drop(taken);
        let ports = free_ports(port..=port, 2).expect("free");
        assert!(ports.len() == 2 && ports[0] == port, "{ports:?}");
    }

    #[test]
    fn a_taken_port_is_recognised() {
        assert!(tells_of_taken_port("Caused by: java.net.BindException: Address already in use"));
        assert!(!tells_of_taken_port("OutOfMemoryError"));
    }

    #[test]
    fn the_end_of_a_missing_file_is_empty() {
        assert_eq!(last_lines(Path::new("/no/such/file"), 3), "");
    }
}
