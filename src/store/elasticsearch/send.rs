//! Sends a request to one of the servers, and to another where that is right.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};

use super::call::{Answer, Call, Request};
use super::client::{ElasticsearchClient, Inner};
use super::fault::{Failure, Fault};
use super::node::Node;
use crate::error::{Error, ErrorKind, Result};

impl ElasticsearchClient {
    pub(super) fn call(&self, operation: &'static str) -> Call {
        Call::begin(operation, self.inner.config.timeout)
    }

    /// Sends a request until there is an answer, or an error that none of the servers may do better at.
    ///
    /// A server that can't be reached, also because connecting took too long, is one to try the next instead of. So is one whose connection
    /// broke: it is gone, and what it had begun is finished, or not, in that moment. But a *write* that
    /// gets no answer in time is an error: the server may be hung and make the change later, over the
    /// next one of the same key. Whoever makes the call again does so knowing.
    pub(super) async fn send(&self, call: Call, request: &Request) -> Result<Answer<'_>, Failure> {
        let mut waits = Call::waits();
        let mut unreached = 0;
        let mut refused = None;
        loop {
            let node = self.inner.pick();
            let named = |error: Error| {
                error.with("operation", call.operation).with("server", &node.address)
            };
            match self.attempt(call, node, request).await {
                Ok(body) => return Ok(Answer { body, server: &node.address }),
                Err(Attempt::TooLate(error)) => {
                    return Err(refused.unwrap_or_else(|| named(error).into()));
                }
                Err(Attempt::Refused(fault)) => {
                    let error = named(fault.error);
                    let failure = Failure { error, refusal: Some(fault.refusal) };
                    if !fault.verdict.again || !call.wait(&mut waits).await {
                        return Err(failure);
                    }
                    tracing::debug!(target: "kasper", error = ?failure.error, "trying again");
                    refused = Some(failure);
                }
                Err(Attempt::NoAnswer(error)) => {
                    node.set_down();
                    unreached += 1;
                    let error = named(error);
                    // Why there was another attempt says more than that its time was short. Of a write
                    // it has to be said that nobody knows what became of it.
                    if request.reads && call.is_cut_short(&error) {
                        return Err(refused.unwrap_or(error.into()));
                    }
                    let harmless = request.reads || error.kind() != ErrorKind::Timeout;
                    let another = unreached < self.inner.nodes.len() && harmless;
                    if !another || call.remaining().is_none() {
                        return Err(error.into());
                    }
                    tracing::debug!(target: "kasper", ?error, "trying another server");
                }
            }
        }
    }

    async fn attempt(&self, call: Call, node: &Node, request: &Request) -> Result<Bytes, Attempt> {
        let Some(remaining) = call.remaining() else {
            let error = Error::new(ErrorKind::Timeout, "the time for the call is over").retryable();
            return Err(Attempt::TooLate(error));
        };
        let http = self.http_request(node, request).map_err(Attempt::NoAnswer)?;
        let time = remaining.min(self.inner.config.request_timeout);
        let answer = self.inner.transport.send(http, time).await;
        let (status, body) = answer.map_err(Attempt::NoAnswer)?;
        node.set_up();
        if status.is_success() {
            self.accept(request.body.len());
            return Ok(body);
        }
        let mut fault = Fault::of_answer(status.as_u16(), &body);
        fault.error = fault.error.with("status", status.as_u16());
        Err(Attempt::Refused(fault))
    }

    fn http_request(&self, node: &Node, request: &Request) -> Result<hyper::Request<Bytes>> {
        let mut builder = hyper::Request::builder()
            .method(request.method.clone())
            .uri(format!("{}{}", node.address, request.path))
            .header(CONTENT_TYPE, request.content_type);
        if let Some(authorization) = &self.inner.authorization {
            builder = builder.header(AUTHORIZATION, authorization.clone());
        }
        builder.body(request.body.clone()).map_err(|error| {
            Error::new(ErrorKind::Config, "the request cannot be made").with_source(error)
        })
    }
}

/// How an attempt failed.
enum Attempt {
    /// The server has answered with an error.
    Refused(Fault),
    /// There is no answer.
    NoAnswer(Error),
    /// The call's time was over before it.
    TooLate(Error),
}

impl Inner {
    /// The next server in turn that is not down; if all are, the next one.
    fn pick(&self) -> &Node {
        let begin = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.nodes.len();
        let up = (0..count).map(|step| &self.nodes[(begin.wrapping_add(step)) % count]);
        up.into_iter().find(|node| node.is_up()).unwrap_or(&self.nodes[begin % count])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::super::call::JSON;
    use super::super::client::http_client;
    use super::super::config::ElasticsearchConfig;
    use super::*;

    fn config(node: impl Into<String>) -> ElasticsearchConfig {
        ElasticsearchConfig::new(node, "i")
    }

    /// The whole request is on its way, in the kernel, when it is given up: the server's window is closed.
    #[tokio::test]
    async fn a_write_that_was_given_up_is_not_delivered_later() {
        const BODY: usize = 200_000;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let config = config(address).timeout(Duration::from_millis(300));
        let client = ElasticsearchClient::new(&config).unwrap();
        let large_put = || Request { body: vec![b'x'; BODY].into(), ..put() };
        for is_dropped in [false, true] {
            let (call, request) = (client.call("put"), large_put());
            let (mut accepted, _) = if is_dropped {
                tokio::select! {
                    _ = client.send(call, &request) => panic!("nobody answers"),
                    accepted = async {
                        let accepted = listener.accept().await.unwrap();
                        // The request is on its way.
                        assert_eq!(accepted.0.peek(&mut [0]).await.unwrap(), 1);
                        accepted
                    } => accepted,
                }
            } else {
                let (sent, accepted) = tokio::join!(client.send(call, &request), listener.accept());
                let error = sent.unwrap_err().error;
                let (kind, retryable) = (error.kind(), error.is_retryable());
                assert_eq!((kind, retryable), (ErrorKind::Timeout, true), "{error:?}");
                accepted.unwrap()
            };
            let mut late = Vec::new();
            let end = accepted.read_to_end(&mut late).await.map_err(|error| error.kind());
            assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{} bytes came", late.len());
            assert!(late.len() < BODY, "all {} bytes came", late.len());
        }
    }

    fn put() -> Request {
        Request {
            method: Method::PUT,
            path: "/i/_doc/a".to_owned(),
            content_type: JSON,
            body: "1".into(),
            reads: false,
        }
    }

    /// Nothing of the write was sent to the first server: it drops the packets that ask for a connection.
    #[tokio::test]
    async fn a_write_goes_to_another_server_if_one_does_not_take_connections() {
        let limit = Duration::from_millis(200);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        let address = full.local_addr().unwrap();
        let mut backlog = Vec::new();
        while let Ok(connected) =
            tokio::time::timeout(limit, tokio::net::TcpStream::connect(address)).await
        {
            backlog.push(connected.unwrap());
        }
        for is_given in [false, true] {
            let second = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let config = config(format!("http://{address}"))
                .node(format!("http://{}", second.local_addr().unwrap()))
                .connect_timeout(limit);
            let config = match is_given {
                true => config.clone().http_client(http_client(&config).unwrap()),
                false => config,
            };
            let client = ElasticsearchClient::new(&config).unwrap();
            let answers = async {
                let (mut connection, _) = second.accept().await.unwrap();
                assert!(connection.read(&mut [0; 1000]).await.unwrap() > 0);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                connection.write_all(answer).await.unwrap();
                connection
            };
            let request = put();
            let (sent, _connection) =
                tokio::join!(client.send(client.call("put"), &request), answers);
            assert_eq!(sent.unwrap().server, client.inner.nodes[1].address);
            assert!(!client.inner.nodes[0].is_up());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn servers_take_turns_and_one_that_is_down_is_left_out_for_a_while() {
        let config = config("http://a").node("http://b/").node("http://c/es/");
        let client = ElasticsearchClient::new(&config).unwrap();
        let turn = || client.inner.pick().address.clone();
        assert_eq!(
            [turn(), turn(), turn(), turn()],
            ["http://a", "http://b", "http://c/es", "http://a"]
        );
        client.inner.nodes[1].set_down();
        assert_eq!([turn(), turn(), turn()], ["http://c/es", "http://c/es", "http://a"]);
        tokio::time::advance(super::super::node::DOWN).await;
        assert_eq!(turn(), "http://b");
        client.inner.nodes.iter().for_each(Node::set_down);
        assert_eq!(turn(), "http://c/es");
    }
}
