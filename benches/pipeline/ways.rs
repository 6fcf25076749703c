//! Which ways the raw loops go: what `--sweep` tries, and the fastest that it found.

use crate::case::{Case, Who, Work};
use crate::common::raw::way::Way;
use crate::common::runs::Size;

/// Where a sweep begins.
pub(crate) fn first(work: Work) -> Way {
    let first = Way { ahead_kib: 65_536, ..Way::READ };
    if work == Work::Forward { first.forwarding() } else { first }
}

/// The fastest, as `--sweep` found it.
pub(crate) fn fastest(case: Case) -> Way {
    let pass_on = match case.size {
        Size::Small => Way::PASS_SMALL,
        Size::Large => Way::PASS_LARGE,
    };
    match (case.work, case.who) {
        (Work::Consume | Work::Drain, Who::RawPoll) => Way { batch: 1, ..Way::READ },
        (Work::Consume | Work::Drain, _) => Way::READ,
        // As many as the library may take of four partitions.
        (_, Who::RawOneInFlight) => {
            Way { batch: 40_000, in_flight: 1, ahead_kib: 65_536, ..pass_on }
        }
        (Work::Forward, _) => pass_on.forwarding(),
        _ => pass_on,
    }
}

/// What a sweep tries after it has found `way`: one thing is other than in `way`, and the best of them is
/// where the sweep goes on.
pub(crate) fn neighbours(way: Way, work: Work, dimension: usize) -> Option<Vec<Way>> {
    let passes_on = work.has_output();
    let ways = match dimension {
        0 if passes_on => {
            [4, 8, 16, 32, 64, 128].map(|in_flight| Way { in_flight, ..way }).to_vec()
        }
        0 => [1, 100, 1000, 10_000].map(|batch| Way { batch, ..way }).to_vec(),
        1 => [1024, 4096, 16_384, 65_536].map(|ahead_kib| Way { ahead_kib, ..way }).to_vec(),
        2 => [64, 256, 1024, 4096].map(|fetch_kib| Way { fetch_kib, ..way }).to_vec(),
        3 if passes_on => [250, 500, 1000, 2000, 4000].map(|batch| Way { batch, ..way }).to_vec(),
        4 if passes_on => [true, false].map(|copies| Way { copies, ..way }).to_vec(),
        5 if passes_on => [0, 1, 5, 10].map(|linger_ms| Way { linger_ms, ..way }).to_vec(),
        _ => return None,
    };
    Some(ways)
}
