//! How much memory a buffer keeps between two batches.
//!
//! Place in the data path: beside it. Buffers that are used again, batch after batch, would keep the memory of
//! the largest batch for as long as their lane lives, and there are several for each partition.

/// What is kept however little is needed: too little to be worth an allocation.
const SMALL_BYTES: usize = 64 << 10;

/// No buffer keeps more. Above the size of usual batches: giving back and allocating 4 MiB each time costs
/// some percent of the time that such a batch takes.
pub(crate) const KEPT_BYTES: usize = 4 << 20;

/// What a buffer needed lately, in elements: the most of the last batches, where each older batch counts an
/// eighth less. So a buffer whose batches become small keeps its memory for some ten of them, and batches that
/// are large and small by turns cost no allocation.
#[derive(Debug, Default)]
pub(crate) struct Need {
    lately: usize,
}

impl Need {
    /// Notes how many elements a batch needed.
    pub(crate) fn note(&mut self, elements: usize) {
        self.lately = elements.max(self.lately - self.lately.div_ceil(8));
    }

    /// Gives back memory of an empty buffer: what is more than four times the need, or over [`KEPT_BYTES`].
    pub(crate) fn trim<T>(&self, buffer: &mut Vec<T>) {
        let kept = KEPT_BYTES / size_of::<T>().max(1);
        let small = SMALL_BYTES / size_of::<T>().max(1);
        if buffer.capacity() > self.lately.saturating_mul(4).clamp(small, kept) {
            buffer.shrink_to(self.lately.saturating_mul(2).clamp(small, kept));
        }
    }

    /// Empties a buffer for the next batch.
    pub(crate) fn recycle<T>(&mut self, buffer: &mut Vec<T>) {
        self.note(buffer.len());
        buffer.clear();
        self.trim(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The capacities, in bytes, after batches of so many bytes.
    fn kept(batches: impl IntoIterator<Item = usize>) -> usize {
        let (mut need, mut buffer) = (Need::default(), Vec::<u8>::new());
        for bytes in batches {
            buffer.resize(bytes, 0);
            need.recycle(&mut buffer);
        }
        buffer.capacity()
    }

    #[test]
    fn a_batch_that_is_larger_than_the_bound_leaves_no_more_than_the_bound() {
        assert!(kept([100 << 20]) <= KEPT_BYTES);
        assert!(kept([1 << 20, 100 << 20]) <= KEPT_BYTES);
    }

    #[test]
    fn what_is_no_longer_needed_is_given_back() {
        let small = std::iter::repeat_n(1000, 100);
        assert!(kept([3 << 20].into_iter().chain(small)) <= SMALL_BYTES);
        assert!(kept([3 << 20].into_iter().chain(std::iter::repeat_n(0, 100))) <= SMALL_BYTES);
    }

    #[test]
    fn large_and_small_batches_by_turns_cost_no_allocation() {
        let (mut need, mut buffer) = (Need::default(), Vec::<u8>::with_capacity(1 << 20));
        for bytes in [1 << 20, 10, 200_000, 0, 10].into_iter().cycle().take(100) {
            assert_eq!(buffer.capacity(), 1 << 20);
            buffer.resize(bytes, 0);
            need.recycle(&mut buffer);
        }
    }
}
