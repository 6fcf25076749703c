//! What is given is no factory: a processor instead of a closure that makes one, a closure without
//! an argument, a closure that may fail.

use kasper::testkit::ProcessorTester;
use kasper::{Batch, BoxError, Context, Processor};

struct Enrich;

impl Processor for Enrich {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        Ok(())
    }
}

fn main() {
    ProcessorTester::new(["orders"], Enrich);
    ProcessorTester::new(["orders"], || Enrich);
    ProcessorTester::new(["orders"], |_partition| Ok::<_, BoxError>(Enrich));
}
