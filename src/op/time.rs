//! Points in time. The domain has no clock: [`Now`] is an argument of every call.
//!
//! *Spans* (how long a message is kept, a lease lasts, somebody waits) are differences of [`Moment`]s, which nobody can set.
//! Points in time that people see are [`Timestamp`]s and [`FileTime`]s, by the wall clock, which root and NTP set.

/// A point in time by the wall clock: nanoseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

/// A point in time by a clock that is never set: nanoseconds since the machine was started, suspended or not. What happened
/// before has a negative one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Moment(pub i64);

/// A time of a file: any that a timespec can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileTime {
    /// Since 1970-01-01 UTC.
    pub seconds: i64,
    /// Beyond the seconds, less than a second.
    pub nanos: u32,
}

/// The time of a call, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// By the wall clock.
    pub wall: Timestamp,
    /// By the clock that is never set.
    pub moment: Moment,
}

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

impl Timestamp {
    /// Whole seconds and the nanoseconds beyond them.
    pub fn split(self) -> (u64, u32) {
        (self.0 / SECOND, (self.0 % SECOND) as u32)
    }
}

impl Moment {
    /// No moment is earlier.
    pub const FIRST: Moment = Moment(i64::MIN);
    /// No moment is later.
    pub const LAST: Moment = Moment(i64::MAX);

    /// So many nanoseconds later.
    #[must_use]
    pub fn after(self, nanos: u64) -> Moment {
        Moment(self.0.saturating_add_unsigned(nanos))
    }

    /// So many nanoseconds earlier.
    #[must_use]
    pub fn before(self, nanos: u64) -> Moment {
        Moment(self.0.saturating_sub_unsigned(nanos))
    }

    /// Nanoseconds since an earlier moment; 0 if it is later.
    pub fn since(self, earlier: Moment) -> u64 {
        u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0)
    }
}

impl Now {
    /// When both clocks show so many nanoseconds.
    pub fn same(nanos: u64) -> Now {
        Now { wall: Timestamp(nanos), moment: Moment(0).after(nanos) }
    }

    /// As the time of a file.
    pub fn time(self) -> FileTime {
        self.wall.into()
    }

    /// When it is, or was, this time by the wall clock as it is set now.
    pub fn moment_of(self, time: Timestamp) -> Moment {
        let later = i128::from(time.0) - i128::from(self.wall.0);
        let moment = i128::from(self.moment.0) + later;
        Moment(moment.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    /// What the wall clock shows, or would have shown, at this moment as it is set now.
    pub fn wall_at(self, moment: Moment) -> Timestamp {
        let later = i128::from(moment.0) - i128::from(self.moment.0);
        let wall = i128::from(self.wall.0) + later;
        Timestamp(wall.clamp(0, u64::MAX.into()) as u64)
    }
}

impl From<Timestamp> for FileTime {
    fn from(time: Timestamp) -> FileTime {
        let (seconds, nanos) = time.split();
        // 2^64 nanoseconds are less than 2^63 seconds.
        FileTime { seconds: seconds as i64, nanos }
    }
}

impl FileTime {
    /// From seconds since 1970 and nanoseconds, of which there are never as many as a second has.
    pub fn new(seconds: i64, nanos: u32) -> FileTime {
        FileTime { seconds, nanos: nanos.min(SECOND as u32 - 1) }
    }

    /// As a time of the wall clock, if it can be one: from 1970 to 2554.
    pub fn to_timestamp(self) -> Option<Timestamp> {
        let seconds = u64::try_from(self.seconds).ok()?;
        seconds.checked_mul(SECOND)?.checked_add(u64::from(self.nanos)).map(Timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_are_converted_into_each_other_and_back() {
        let now = Now { wall: Timestamp(1_000), moment: Moment(10) };
        for (wall, moment) in [(1_000, 10), (1_500, 510), (400, -590), (0, -990)] {
            assert_eq!(now.moment_of(Timestamp(wall)), Moment(moment));
            assert_eq!(now.wall_at(Moment(moment)), Timestamp(wall));
        }
        assert_eq!(now.wall_at(Moment(-991)), Timestamp(0), "no clock shows a time before 1970");
        assert_eq!(
            (now.wall_at(Moment::FIRST), now.moment_of(Timestamp(u64::MAX))),
            (Timestamp(0), Moment::LAST)
        );
    }

    #[test]
    fn spans_are_counted_across_the_start_of_the_machine_and_never_negative() {
        let (before, after) = (Moment(-5), Moment(7));
        assert_eq!((after.since(before), before.since(after), after.since(after)), (12, 0, 0));
        assert_eq!((before.after(12), after.before(12)), (after, before));
        assert_eq!(Moment::LAST.since(Moment::FIRST), u64::MAX);
        assert_eq!((Moment::LAST.after(1), Moment::FIRST.before(1)), (Moment::LAST, Moment::FIRST));
        assert_eq!(Moment(0).after(u64::MAX), Moment::LAST);
    }

    #[test]
    fn a_time_of_a_file_is_one_of_the_wall_clock_if_that_can_show_it() {
        let time = |seconds, nanos| FileTime { seconds, nanos };
        assert_eq!(FileTime::from(Timestamp(1_500_000_000)), time(1, 500_000_000));
        assert_eq!(FileTime::from(Timestamp(u64::MAX)).to_timestamp(), Some(Timestamp(u64::MAX)));
        for far in
            [time(-1, 999_999_999), time(i64::MIN, 0), time(18_446_744_074, 0), time(i64::MAX, 999_999_999)]
        {
            assert_eq!(far.to_timestamp(), None);
        }
    }
}
