//! A batch cannot be given to a task that may outlive the call.

use kasper::{Batch, BoxError, Context, Processor};

struct Spawn;

impl Processor for Spawn {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        tokio::spawn(async move { batch.len() });
        Ok(())
    }
}

fn main() {}
