//! A server of the cluster: its address, and whether it can be reached.

use std::time::Duration;

use reqwest::Url;
use tokio::time::Instant;

use crate::lock::Mutex;
use crate::store::url::without_login;

/// How long a server that could not be reached is left out.
pub(super) const DOWN: Duration = Duration::from_secs(10);

pub(super) struct Node {
    /// Without a `/` at the end.
    pub(super) address: String,
    down_until: Mutex<Option<Instant>>,
}

impl Node {
    /// # Errors
    /// What is wrong with the address, without a password in it.
    pub(super) fn new(address: &str, has_tls: bool) -> Result<Self, String> {
        let shown = without_login(address);
        let not_one = || format!("`{shown}` is not the address of a server");
        let url = Url::parse(address).map_err(|_| not_one())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!(
                "the address of `{shown}` holds credentials: use `user` and `password`"
            ));
        }
        match url.scheme() {
            "http" => {}
            "https" if has_tls => {}
            "https" => {
                return Err(format!(
                    "`{shown}` needs the feature `elasticsearch-tls` of the crate kasper"
                ));
            }
            _ => return Err(format!("`{shown}` does not begin with `http://` or `https://`")),
        }
        if url.host_str().is_none() || url.query().is_some() || url.fragment().is_some() {
            return Err(not_one());
        }
        let address = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { address, down_until: Mutex::new(None) })
    }

    pub(super) fn is_up(&self) -> bool {
        let until = *self.down_until.lock();
        until.is_none_or(|until| until <= Instant::now())
    }

    pub(super) fn set_down(&self) {
        *self.down_until.lock() = Some(Instant::now() + DOWN);
    }

    pub(super) fn set_up(&self) {
        *self.down_until.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_names_its_feature() {
        let Err(fault) = Node::new("https://a", false) else { panic!("it does without") };
        assert!(fault.contains("elasticsearch-tls"));
        assert!(Node::new("https://a", true).is_ok());
    }
}
