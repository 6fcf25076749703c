//! What a processor holds across an `await` must be `Send`: partitions run on all threads.

use std::rc::Rc;

use kasper::{Batch, BoxError, Context, Processor};

struct Counts;

impl Processor for Counts {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let count = Rc::new(batch.len());
        context.flush().await?;
        drop(count);
        Ok(())
    }
}

fn main() {}
