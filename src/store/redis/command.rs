//! What is sent to a server in one go.

use redis::{Cmd, Pipeline, RedisError};

/// What is sent in one go.
pub(super) enum Request<'a> {
    One(Cmd),
    /// The answer is an array, with an entry for each.
    Many(Commands<'a>),
}

/// So many commands, made when they are sent: the driver wants to own them, and they may be sent twice.
pub(super) struct Commands<'a> {
    count: usize,
    make: Box<dyn Fn(usize) -> Cmd + Send + Sync + 'a>,
}

impl<'a> Commands<'a> {
    pub(super) fn new(count: usize, make: impl Fn(usize) -> Cmd + Send + Sync + 'a) -> Self {
        Self { count, make: Box::new(make) }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn make(&self, index: usize) -> Cmd {
        (self.make)(index)
    }

    pub(super) fn pipeline(&self) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(self.count);
        (0..self.count).for_each(|index| {
            pipeline.add_command(self.make(index));
        });
        pipeline
    }
}

/// What the driver said, and which command of a pipeline is at fault.
pub(super) type Failed = (RedisError, Option<usize>);
