//! The factory makes something that is no processor.

use kasper::testkit::ProcessorTester;

struct Enrich;

fn main() {
    ProcessorTester::new(["orders"], |_partition| Enrich);
}
