//! The servers of one test run or benchmark: those the user gave, those that run already, and those
//! started for it.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::instance::Instance;
use super::{Purpose, Server, all};

/// Every server's address, and the ones to stop at the end, which dropping this does.
#[derive(Debug, Default)]
pub(crate) struct Session {
    addresses: Vec<(&'static str, String)>,
    started: Vec<Instance>,
}

impl Session {
    /// Makes every server available, starting those that are not.
    pub(crate) fn open(purpose: Purpose) -> Result<Self> {
        let mut session = Self::default();
        for server in all() {
            let address = session.find_or_start(server, purpose)?;
            session.addresses.push((server.variable(), address));
        }
        Ok(session)
    }

    fn find_or_start(&mut self, server: &dyn Server, purpose: Purpose) -> Result<String> {
        let variable = server.variable();
        if let Some(addresses) = address_from_env(variable)? {
            any_answers(server, &addresses).with_context(|| format!("{variable}={addresses}"))?;
            println!("{variable}={addresses} (as set)");
            return Ok(addresses);
        }
        // A benchmark wants a server of its own: with its heap, and without what tests left in it.
        if purpose == Purpose::Test
            && let Some(address) = Instance::shared_address(server)?
        {
            println!("{variable}={address} (runs already, is left running)");
            return Ok(address);
        }
        let instance = Instance::start_owned(server, purpose)?;
        let address = instance.address();
        println!("{variable}={address} (stopped at the end)");
        self.started.push(instance);
        Ok(address)
    }

    /// Tells a command where the servers are.
    pub(crate) fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.addresses.iter().map(|(variable, address)| (variable, address)))
    }

    /// Keeps the logs of the started servers, and says where.
    pub(crate) fn save_logs(&self) {
        for place in self.started.iter().filter_map(Instance::save_log) {
            println!("the server's log is kept in {place}");
        }
    }
}

/// What the user set, if anything.
fn address_from_env(variable: &str) -> Result<Option<String>> {
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
    use crate::servers::Launch;
    use crate::tools::Tool;

    /// Answers at one address only.
    struct Fake;

    impl Server for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }
        fn version(&self) -> &'static str {
            "1"
        }
        fn variable(&self) -> &'static str {
            "KASPER_XTASK_NO_SUCH_VARIABLE"
        }
        fn tools(&self) -> &'static [Tool] {
            &[]
        }
        fn fetch_tools(&self) -> &'static [Tool] {
            &[]
        }
        fn ports(&self) -> usize {
            1
        }
        fn fetch(&self, _: &Path) -> Result<()> {
            Ok(())
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
        assert_eq!(address_from_env(Fake.variable()).expect("unset"), None);
    }

    #[test]
    fn commands_are_told_the_addresses() {
        let session =
            Session { addresses: vec![("KASPER_X", "h:1".to_owned())], started: Vec::new() };
        let mut command = Command::new("true");
        session.tell(&mut command);
        let told: Vec<_> = command.get_envs().collect();
        assert_eq!(told, [("KASPER_X".as_ref(), Some("h:1".as_ref()))]);
    }
}
