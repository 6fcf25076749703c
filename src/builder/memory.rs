//! How much memory a topic processor may take for messages where the user has not chosen it: a share for each partition number, and less
//! for each if there are many.

use super::options::Options;

/// Fetched ahead for a partition number: a large batch, and as much again while it is processed. With 14 MiB for each of four,
/// passing on messages of 1 KiB took a fifth more CPU, since what is processed has left the processor's caches by then.
const BUFFERED: usize = 8 << 20;

/// Fetched ahead for all partition numbers, at least and at most.
const ALL_BUFFERED: (usize, usize) = (16 << 20, 64 << 20);

/// In flight for a partition number, at least and at most.
const IN_FLIGHT: (usize, usize) = (256 << 10, 2 << 20);

/// In flight for all partition numbers, if that leaves each the least.
const ALL_IN_FLIGHT: usize = 32 << 20;

/// What may be fetched ahead, by all of so many partition numbers.
pub(super) fn buffered(options: &Options, numbers: usize) -> usize {
    let (least, most) = ALL_BUFFERED;
    options.max_buffered_bytes.unwrap_or(numbers.saturating_mul(BUFFERED).clamp(least, most))
}

/// What may be in flight, for each of so many partition numbers.
pub(super) fn in_flight(options: &Options, numbers: usize) -> usize {
    let (least, most) = IN_FLIGHT;
    options.max_in_flight_bytes.unwrap_or((ALL_IN_FLIGHT / numbers.max(1)).clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_not_chosen_depends_on_the_number_of_partitions() {
        let mut options = Options::new("job".into(), vec!["in".into()]);
        let of =
            |options: &Options, numbers| (buffered(options, numbers), in_flight(options, numbers));
        assert_eq!(of(&options, 1), (16 << 20, 2 << 20));
        assert_eq!(of(&options, 4), (32 << 20, 2 << 20));
        assert_eq!(of(&options, 32), (64 << 20, 1 << 20));
        assert_eq!(of(&options, 1000), (64 << 20, 256 << 10));
        options.max_buffered_bytes = Some(1 << 30);
        options.max_in_flight_bytes = Some(1);
        assert_eq!(of(&options, 1000), (1 << 30, 1));
    }
}
