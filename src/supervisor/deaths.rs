//! How often the daemon has died.

/// So many deaths within so many seconds are too many.
const TOO_MANY: usize = 3;
const WITHIN: i64 = 10;

/// The latest deaths.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// In seconds, the latest first.
    latest: [Option<i64>; TOO_MANY],
    count: u64,
}

impl Deaths {
    /// Notes a death. True if it was one too many.
    pub(super) fn is_last(&mut self, now: i64) -> bool {
        self.count += 1;
        self.latest.rotate_right(1);
        if let Some(first) = self.latest.first_mut() {
            *first = Some(now);
        }
        self.latest.last().copied().flatten().is_some_and(|earliest| now - earliest < WITHIN)
    }

    /// How many there were in all.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_within_ten_seconds_are_too_many() {
        let last = |times: &[i64]| {
            let mut deaths = Deaths::default();
            times.iter().map(|time| deaths.is_last(*time)).collect::<Vec<_>>()
        };
        assert_eq!(last(&[0, 0, 0]), [false, false, true]);
        assert_eq!(last(&[5, 7, 14]), [false, false, true]);
        assert_eq!(last(&[5, 7, 15, 16, 25, 25]), [false, false, false, true, false, true]);
    }
}
