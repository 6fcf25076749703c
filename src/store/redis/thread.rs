//! The thread that a connection's tasks run on, with a runtime of its own, so that they can be ended.
//!
//! The driver spawns a task that owns the socket; for a cluster, one for each server and one above them. It ends them
//! some time after the last clone of the connection is dropped, and nothing tells when. That is too late for a
//! connection that is given up: another call still holds a clone, or a busy worker of the application's runtime has
//! the task in its queue, a new connection is made, a newer write is acknowledged on it, and then the network delivers
//! the write that was given up. With a runtime of its own, all tasks and sockets of a connection are gone when the
//! runtime is.

use std::io;
use std::thread::Builder;

use tokio::runtime::{self, Handle};
use tokio::sync::{oneshot, watch};

/// Runs tasks until [`end`](Thread::end), or until it is dropped.
pub(super) struct Thread {
    runtime: Handle,
    end: watch::Sender<bool>,
    ended: watch::Receiver<()>,
}

/// The end of a [`Thread`]. Holds nothing that keeps it.
pub(super) struct Ended(watch::Receiver<()>);

impl Thread {
    /// # Errors
    /// The system has no thread to give.
    pub(super) async fn start() -> io::Result<Self> {
        let (end, mut to_end) = watch::channel(false);
        let (ending, ended) = watch::channel(());
        let (tell, told) = oneshot::channel();
        // The thread makes the runtime: one that is dropped on an asynchronous thread panics.
        Builder::new().name("kasper-redis".to_owned()).spawn(move || {
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error))),
            };
            if tell.send(Ok(runtime.handle().clone())).is_ok() {
                runtime.block_on(async {
                    // An error means that nobody has the other end any more.
                    let _ = to_end.wait_for(|end| *end).await;
                });
            }
            // Drops the tasks. A name that is being resolved is not waited for.
            runtime.shutdown_background();
            drop(ending);
        })?;
        let runtime = told.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        Ok(Self { runtime, end, ended })
    }

    /// Runs this here, so that the tasks it spawns are here, too. `None` if the thread has ended before.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.runtime.spawn(future).await.ok()
    }

    /// Ends all tasks, soon: [`Ended::wait`] tells when.
    pub(super) fn end(&self) {
        self.end.send_replace(true);
    }

    pub(super) fn ended(&self) -> Ended {
        Ended(self.ended.clone())
    }
}

impl Ended {
    /// Returns when the tasks are dropped and their sockets are closed.
    ///
    /// # Cancel safety
    /// May be dropped, and called again.
    pub(super) async fn wait(&mut self) {
        // Nothing is ever sent: it returns when the other end is gone.
        let _ = self.0.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn when_it_has_ended_its_tasks_are_dropped() {
        for drops_it in [false, true] {
            let thread = Thread::start().await.unwrap();
            let (held, mut dropped) = oneshot::channel::<()>();
            let spawned = thread.run(async move {
                tokio::spawn(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                });
            });
            spawned.await.unwrap();
            assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            let mut ended = thread.ended();
            if drops_it {
                drop(thread);
                ended.wait().await;
            } else {
                thread.end();
                ended.wait().await;
                assert!(thread.run(async {}).await.is_none());
            }
            assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
    }
}
