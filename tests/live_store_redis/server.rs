//! A Redis server of a test's own, which may be killed, filled up, and started again.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kasper::store::RedisConfig;

/// Ends with the test.
pub(crate) struct OwnServer {
    port: u16,
    directory: PathBuf,
    options: Vec<String>,
    process: Child,
}

impl OwnServer {
    /// Runs `redis-server` with these options, in which `PORT` is a free one and `OWN-PORT` the one that it is
    /// known by, and waits until it takes connections.
    pub(crate) async fn start(options: &[&str]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("kasper-redis-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        // Somebody else may take a port between its choice and its use.
        for _ in 0..10 {
            std::fs::create_dir_all(&directory).unwrap();
            let port = free_port();
            let with_port = |option: &&str| match *option {
                "PORT" => free_port().to_string(),
                "OWN-PORT" => port.to_string(),
                option => option.to_owned(),
            };
            let options: Vec<String> = options.iter().map(with_port).collect();
            let process = run(port, &directory, &options);
            let mut server = Self { port, directory: directory.clone(), options, process };
            if server.answers().await {
                return server;
            }
        }
        panic!("redis-server ends at once with {options:?}");
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig::new(self.address(), "p")
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Lets it hang, with its connections open, until it may go on.
    pub(crate) fn hang(&self, hangs: bool) {
        let signal = if hangs { "-STOP" } else { "-CONT" };
        let mut kill = Command::new("kill");
        assert!(kill.args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }

    /// On the same port, with more options.
    pub(crate) async fn start_again(&mut self, more: &[&str]) {
        self.options.extend(more.iter().map(|&option| option.to_owned()));
        for _ in 0..10 {
            self.process = run(self.port, &self.directory, &self.options);
            if self.answers().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("redis-server ends at once with {:?}", self.options);
    }

    /// Runs a command, given as words, as an administrator would.
    pub(crate) async fn command(&self, words: &str) {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.exec_async(&mut raw(&self.address()).await).await.unwrap();
    }

    fn is_of_a_cluster(&self, for_client: &[&str]) -> bool {
        let mut ask = Command::new("redis-cli");
        ask.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(for_client);
        let answer = ask.args(["cluster", "info"]).output().unwrap();
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8_lossy(&answer.stdout).contains("cluster_state:ok")
    }

    /// Waits until it takes connections; `false` if it has ended.
    async fn answers(&mut self) -> bool {
        while tokio::net::TcpStream::connect(self.address()).await.is_err() {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }
}

/// A cluster of three servers of a test's own. On a busy machine nobody is missed who is only slow.
pub(crate) async fn own_cluster() -> [OwnServer; 3] {
    own_cluster_with(&["--cluster-node-timeout", "60000"], &[]).await
}

/// As [`own_cluster`], but who is killed is missed soon.
pub(crate) async fn own_cluster_to_kill() -> [OwnServer; 3] {
    own_cluster_with(&["--cluster-node-timeout", "1000"], &[]).await
}

/// With more options for the servers, and for the client that puts them together.
pub(crate) async fn own_cluster_with(for_servers: &[&str], for_client: &[&str]) -> [OwnServer; 3] {
    let mut servers = Vec::new();
    for _ in 0..3 {
        let options = ["--cluster-enabled", "yes", "--cluster-port", "PORT"];
        // The keys of those that are left stay available.
        let more: &[&str] = &["--cluster-require-full-coverage", "no"];
        servers.push(OwnServer::start(&[&options, more, for_servers].concat()).await);
    }
    let addresses = servers.iter().map(OwnServer::address);
    let mut create = Command::new("redis-cli");
    create.args(for_client).args(["--cluster", "create"]).args(addresses).arg("--cluster-yes");
    assert!(create.stdout(Stdio::null()).status().unwrap().success());
    // Each takes a while to be sure of it; until then it answers that the cluster is down.
    for server in &servers {
        while !server.is_of_a_cluster(for_client) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    servers.try_into().unwrap_or_else(|_| unreachable!())
}

/// A connection of the test's own, to see what is really there.
pub(crate) async fn raw(address: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn run(port: u16, directory: &PathBuf, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
        .args(options)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is missing (Debian: apt-get install redis-server)")
}
