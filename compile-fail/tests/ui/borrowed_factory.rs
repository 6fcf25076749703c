//! A factory lives as long as the topic processor: it owns what it captures.

use kasper::store::MapStore;
use kasper::testkit::ProcessorTester;
use kasper::{Batch, BoxError, Context, Processor};

struct Enrich(MapStore);

impl Processor for Enrich {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        Ok(())
    }
}

fn main() {
    let store = MapStore::new();
    ProcessorTester::new(["orders"], |_partition| Enrich(store.clone()));
}
