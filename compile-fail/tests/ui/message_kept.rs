//! A message cannot be kept after `process` has returned.

use kasper::{Batch, BoxError, Context, Message, Processor};

struct Keep {
    last: Option<Message<'static>>,
}

impl Processor for Keep {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        self.last = batch.iter().last();
        Ok(())
    }
}

fn main() {}
