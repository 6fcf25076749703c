//! From a budget of memory to librdkafka's limits of what it fetches ahead.

/// How much is fetched ahead. librdkafka stops to fetch into a partition number's queue when either limit of the
/// queue is reached, and a fetch that is on its way then still comes in.
///
/// librdkafka counts the values' bytes only. Keys, headers and its own 350 bytes for each message don't count, so
/// tombstones would never reach that limit; hence the number of messages is limited as well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FetchAhead {
    /// In the queue of a partition number: values.
    pub(crate) value_bytes: usize,
    /// In the queue of a partition number.
    pub(crate) messages: usize,
    /// In one fetch of a topic's partition, as sent over the network.
    pub(crate) fetch_bytes: usize,
    /// How long a broker waits with its answer while it has nothing new.
    pub(crate) wait_ms: usize,
}

/// What a message in a queue is thought to take with everything. Larger ones reach the limit of bytes first,
/// if it is the value that makes them large.
const MESSAGE_BYTES: usize = 1 << 10;

/// Small messages take far more memory than they take on the network: with a value of 20 bytes, or a key of 20
/// bytes and no value, some 30 bytes become 390. All partitions' fetches together are a twelfth of the
/// budget, so that they come to about the budget in memory, at most.
const FETCH_SHARE: usize = 12;

/// Many partitions get three times that, up to so many bytes: reading 256 partitions took a tenth less CPU 64 KiB at a time than
/// 42 KiB, and a third less than 21 KiB.
const SMALL_FETCH: usize = 64 << 10;

/// A broker answers one fetch at a time, for all partitions whose queues have room: one that waits for them holds up a
/// partition whose queue has become empty meanwhile. So waits are short (librdkafka's default is 500 ms).
const LEAST_WAIT_MS: usize = 50;

/// Each answer costs client and broker about a microsecond for each partition, also if there is nothing new, so with many
/// partitions waits are longer: one millisecond for each ten of them.
const PARTITIONS_PER_MS: usize = 10;

const MOST_WAIT_MS: usize = 200;

/// The most that librdkafka takes for a limit of a queue's bytes.
const MOST_QUEUED: usize = 2_097_151 << 10;

impl FetchAhead {
    /// The shares of a process that gets `numbers` partition numbers of `topics` topics.
    pub(crate) fn new(budget: usize, numbers: usize, topics: usize) -> Self {
        let value_bytes = (budget / 8 * 7 / numbers.max(1)).clamp(16 << 10, MOST_QUEUED);
        let partitions = numbers * topics;
        let share = budget / FETCH_SHARE / partitions.max(1);
        let fetch_bytes = share.max(SMALL_FETCH.min(3 * share));
        Self {
            value_bytes,
            messages: value_bytes / MESSAGE_BYTES,
            // 1 MiB is librdkafka's default. A batch of a producer that is larger is still fetched,
            // one at a time.
            fetch_bytes: fetch_bytes.clamp(8 << 10, 1 << 20),
            wait_ms: (partitions / PARTITIONS_PER_MS).clamp(LEAST_WAIT_MS, MOST_WAIT_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory that a stalled process takes for messages of so many bytes on the network, of which some
    /// are the value's: in all queues, and with a fetch for all partitions on its way.
    fn held(budget: usize, numbers: usize, topics: usize, wire: usize, value: usize) -> usize {
        let FetchAhead { value_bytes, messages, fetch_bytes, .. } =
            FetchAhead::new(budget, numbers, topics);
        let by_bytes = value_bytes.checked_div(value).unwrap_or(usize::MAX);
        let queued = messages.min(by_bytes) * numbers;
        let coming = fetch_bytes / wire * numbers * topics;
        (queued + coming) * (wire + 360)
    }

    #[test]
    fn what_is_fetched_ahead_is_bounded_for_any_shape_of_message() {
        for budget in [8 << 20, 64 << 20, 256 << 20, 1 << 30] {
            for (numbers, topics) in [(1, 1), (12, 1), (4, 3), (256, 1), (256, 2)] {
                // A value or a key of 20 bytes; 1 KiB; ten headers of 40 and of 100 bytes.
                for (wire, value) in [(30, 20), (30, 0), (1034, 1024), (430, 20), (1050, 20)] {
                    let held = held(budget, numbers, topics, wire, value);
                    let shape = (budget, numbers, topics, wire, value);
                    // With many partitions, small fetches are larger than their share. And each has a least.
                    let is_small = budget / (numbers * topics) < FETCH_SHARE * SMALL_FETCH;
                    let most = if is_small { 4 * budget } else { 2 * budget };
                    let least = numbers * topics * (110 << 10);
                    assert!(held <= most.max(2 * budget + least), "{held} of {shape:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_fetched_ahead_is_never_nothing() {
        let least = FetchAhead::new(64 << 10, 1000, 10);
        let expected =
            FetchAhead { value_bytes: 16 << 10, messages: 16, fetch_bytes: 8 << 10, wait_ms: 200 };
        assert_eq!(least, expected);
        let most = FetchAhead::new(usize::MAX, 1, 1);
        assert_eq!(most.fetch_bytes, 1 << 20);
    }

    #[test]
    fn brokers_wait_longer_only_with_many_partitions() {
        let wait = |numbers, topics| FetchAhead::new(64 << 20, numbers, topics).wait_ms;
        assert_eq!([wait(1, 1), wait(500, 1), wait(100, 10), wait(5000, 1)], [50, 50, 100, 200]);
    }
}
