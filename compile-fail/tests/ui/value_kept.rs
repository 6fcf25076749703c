//! Nor can a part of it.

use kasper::{Batch, BoxError, Context, Processor};

struct Keep {
    values: Vec<&'static [u8]>,
}

impl Processor for Keep {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        self.values.extend(batch.iter().filter_map(|message| message.value()));
        Ok(())
    }
}

fn main() {}
