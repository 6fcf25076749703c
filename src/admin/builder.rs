//! The admin server of a single processor, as its [`Builder`] starts it.

use std::net::SocketAddr;

use super::server::Listener;
use super::token::Token;
use super::{Admin, AdminServer};
use crate::builder::Builder;
use crate::error::Result;
use crate::topic_processor::TopicProcessor;

/// What the builder was told.
#[derive(Clone, Default)]
pub(crate) struct AdminSettings {
    /// Nothing is served without one.
    address: Option<String>,
    admin: Admin,
}

impl AdminSettings {
    #[cfg(feature = "config")]
    pub(crate) fn set_address(&mut self, address: String) {
        self.address = Some(address);
    }

    #[cfg(feature = "config")]
    pub(crate) fn set_allow_remote(&mut self, allowed: bool) {
        self.admin.allow_remote = allowed;
    }

    #[cfg(feature = "config")]
    pub(crate) fn set_token(&mut self, token: String) {
        self.admin.token = Some(Token::new(token));
    }

    /// What is wrong with the settings, as far as that is known without listening.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.address.is_some() {
            return self.admin.token.as_ref().and_then(Token::fault);
        }
        let what = match (&self.admin.token, self.admin.allow_remote) {
            (Some(_), _) => "has a token",
            (None, true) => "may be reached from other machines",
            (None, false) => return None,
        };
        Some(format!("the admin server {what}, and has no address to listen at (`admin`)"))
    }

    /// Before `build` connects to anybody: a wrong address is known at once.
    pub(crate) async fn listen(self) -> Result<Option<(Listener, Admin)>> {
        let Self { address, admin } = self;
        let Some(address) = address else { return Ok(None) };
        Ok(Some((admin.listen(&address).await?, admin)))
    }

    pub(crate) fn serve(
        listening: Option<(Listener, Admin)>,
        mut processor: TopicProcessor,
    ) -> Result<TopicProcessor> {
        let Some((listener, admin)) = listening else { return Ok(processor) };
        let router = admin.processor(processor.handle()).router()?;
        processor.admin = Some(listener.serve(router));
        Ok(processor)
    }
}

impl TopicProcessor {
    /// The address that the server of [`Builder::admin`] listens at; `None` if nothing is served.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminServer::local_addr)
    }
}

impl Builder {
    /// Serves status, health and a live page of this processor at this address, `127.0.0.1:9400` say, from `build`
    /// until `run` has ended; see [`admin`](crate::admin). Default: nothing is served.
    ///
    /// `/metrics` shows the metrics of the recorder that [`metrics`](Builder::metrics) was given, if it is a
    /// `metrics::Prometheus`.
    ///
    /// `build` fails if the address cannot be listened at, or can be reached from other machines
    /// ([`Admin::allow_remote`]). For several processors in a process, use [`Admin::serve`].
    ///
    /// ```
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Count;
    /// # impl Processor for Count {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # use kasper::{TopicProcessor, testkit::EmbeddedBroker};
    /// # let broker = EmbeddedBroker::start()?;
    /// # broker.create_topic("orders", 1)?;
    /// # let builder = TopicProcessor::builder("count-orders", ["orders"]).brokers(broker.brokers());
    /// // With port 0, the system chooses a free port.
    /// let processor = builder.admin("127.0.0.1:0").build(|_| Count).await?;
    /// let address = processor.admin_addr().unwrap();
    /// assert!(address.ip().is_loopback() && address.port() != 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn admin(mut self, address: impl Into<String>) -> Self {
        self.admin.address = Some(address.into());
        self
    }

    /// Like [`admin`](Builder::admin), with the settings of an [`Admin`]: control, access from other machines, another
    /// text for `/metrics`.
    ///
    /// ```
    /// # #[cfg(feature = "prometheus")] {
    /// use kasper::{TopicProcessor, admin::Admin, metrics};
    ///
    /// let builder = TopicProcessor::builder("count-orders", ["orders"])
    ///     .metrics(metrics::prometheus()?)
    ///     .admin_with("0.0.0.0:9400", Admin::new().allow_remote());
    /// # }
    /// # Ok::<(), kasper::Error>(())
    /// ```
    pub fn admin_with(mut self, address: impl Into<String>, admin: Admin) -> Self {
        self.admin = AdminSettings { address: Some(address.into()), admin };
        self
    }
}
