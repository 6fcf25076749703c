//! `build` says the same as the tester.

use kasper::{Batch, BoxError, Context, Processor, TopicProcessor};

struct NotAProcessor;

struct Enrich;

impl Processor for Enrich {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        Ok(())
    }
}

fn main() {
    let builder = || TopicProcessor::builder("enrich-orders", ["profiles", "orders"]);
    let _future = builder().build(|_partition| NotAProcessor);
    let _future = builder().build(Enrich);
}
