//! The servers of one test run or benchmark: those the user gave, those that run already, and those
//! started for it.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::instance::Instance;
use super::state::Variables;
use super::{Name, Purpose, Server};

/// Where the servers are, and the ones to stop at the end, which dropping this does.
#[derive(Debug, Default)]
pub(crate) struct Session {
    variables: Variables,
    started: Vec<Instance>,
}

impl Session {
    /// Makes a server available, starting it unless it is.
    pub(crate) fn open(purpose: Purpose, name: Name) -> Result<Self> {
        Self::open_all(purpose, &[name])
    }

    /// Makes several available.
    pub(crate) fn open_all(purpose: Purpose, names: &[Name]) -> Result<Self> {
        let mut session = Self::default();
        for name in names {
            let variables = session.find_or_start(name.server(), purpose)?;
            session.variables.extend(variables);
        }
        Ok(session)
    }

    fn find_or_start(&mut self, server: &dyn Server, purpose: Purpose) -> Result<Variables> {
        let variable = server.variable();
        if let Some(addresses) = from_env(variable)? {
            any_answers(server, &addresses).with_context(|| format!("{variable}={addresses}"))?;
            println!("{variable}={addresses} (as set)");
            return Ok(vec![(variable.to_owned(), addresses)]);
        }
        // A benchmark wants a server of its own: with its heap, and without what tests left in it.
        if purpose == Purpose::Test
            && let Some(variables) = Instance::shared(server)?
        {
            print(&variables, "runs already, is left running");
            return Ok(variables);
        }
        let instance = Instance::start_owned(server, purpose)?;
        let variables = instance.variables(server);
        print(&variables, "stopped at the end");
        self.started.push(instance);
        Ok(variables)
    }

    /// What a command is told with this variable: by the server, or by who runs this.
    pub(crate) fn value(&self, variable: &str) -> Option<String> {
        let told = self.variables.iter().find(|(name, _)| name == variable);
        told.map(|(_, value)| value.clone()).or_else(|| from_env(variable).ok().flatten())
    }

    /// The version of a server that was started for this.
    pub(crate) fn version(&self, name: Name) -> Option<&str> {
        self.started.iter().find_map(|instance| instance.version_of(name.server()))
    }

    /// Tells a command where the servers are.
    pub(crate) fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.variables.iter().map(|(variable, value)| (variable, value)))
    }

    /// Keeps the logs of the started servers, and says where.
    pub(crate) fn save_logs(&self) {
        for place in self.started.iter().filter_map(Instance::save_log) {
            println!("the server's log is kept in {place}");
        }
    }
}

fn print(variables: &Variables, how: &str) {
    for (name, value) in variables {
        println!("{name}={value} ({how})");
    }
}

/// What the user set, if anything.
pub(super) fn from_env(variable: &str) -> Result<Option<String>> {
    match env::var(variable) {
        Ok(address) if address.trim().is_empty() => Ok(None),
        Ok(address) => Ok(Some(address.trim().to_owned())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(error) => bail!("{variable}: {error}"),
    }
}

/// Whether one of the comma-separated addresses answers; the error is the last one's.
fn any_answers(server: &dyn Server, addresses: &str) -> Result<()> {
    let mut outcome = Err(anyhow::anyhow!("no address given"));
    for address in addresses.split(',').map(str::trim).filter(|address| !address.is_empty()) {
        outcome = server.answers(address);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::servers::{Launch, Product};
    use crate::tools::Tool;

    /// Answers at one address only.
    struct Fake;

    impl Product for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }
        fn version(&self) -> &'static str {
            "1"
        }
        fn tools(&self) -> &'static [Tool] {
            &[]
        }
        fn fetch_tools(&self) -> &'static [Tool] {
            &[]
        }
        fn fetch(&self, _: &Path) -> Result<()> {
            Ok(())
        }
    }

    impl Server for Fake {
        fn product(&self) -> &dyn Product {
            self
        }
        fn variable(&self) -> &'static str {
            "KASPER_XTASK_NO_SUCH_VARIABLE"
        }
        fn otherwise(&self) -> &'static str {
            ""
        }
        fn ports(&self) -> usize {
            1
        }
        fn prepare(&self, _: &Launch) -> Result<Command> {
            bail!("never started")
        }
        fn answers(&self, address: &str) -> Result<()> {
            match address {
                "good:1" => Ok(()),
                _ => bail!("{address} is silent"),
            }
        }
    }

    #[test]
    fn one_good_address_of_several_is_enough() {
        any_answers(&Fake, "bad:1, good:1,bad:2").expect("good");
        let error = any_answers(&Fake, "bad:1,bad:2").expect_err("all bad");
        assert_eq!(error.to_string(), "bad:2 is silent");
        assert_eq!(any_answers(&Fake, " , ").expect_err("empty").to_string(), "no address given");
    }

    #[test]
    fn an_unset_variable_is_no_address() {
        assert_eq!(from_env(Fake.variable()).expect("unset"), None);
        assert_eq!(Session::default().value(Fake.variable()), None);
    }

    #[test]
    fn commands_are_told_the_addresses() {
        let variables = vec![("KASPER_X".to_owned(), "h:1".to_owned())];
        let session = Session { variables, started: Vec::new() };
        assert_eq!(session.value("KASPER_X").as_deref(), Some("h:1"));
        let mut command = Command::new("true");
        session.tell(&mut command);
        let told: Vec<_> = command.get_envs().collect();
        assert_eq!(told, [("KASPER_X".as_ref(), Some("h:1".as_ref()))]);
    }
}
