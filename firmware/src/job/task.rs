//! What a job is to do with a stick, and the arguments that say so.

use super::{CHECK_BYTES, Capacity, Check};
use crate::arguments::Arguments;
use crate::volume::Stamp;

/// What a job does with a stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Reads everything and writes nothing.
    Read,
    /// Reads everything, then writes a file to each volume and verifies it.
    Check(Check),
    /// Overwrites the stick to see whether it is as large as it says.
    Capacity(Capacity),
}

/// Arguments that contradict each other or that cannot be understood; the text is for people.
pub type BadArguments = &'static str;

impl Task {
    /// Reads the program's arguments:
    ///
    /// | argument | |
    /// |---|---|
    /// | `read-only` | nothing is written |
    /// | `remove` | the file that was written and verified is removed again |
    /// | `bytes=N` | length of that file |
    /// | `seed=N` | what its contents follow from |
    /// | `capacity=quick`, `capacity=full` | the capacity test, which needs `destroy-contents` as well |
    ///
    /// `now` is the time since 2000 in microseconds, or less if there is no clock; the seed follows
    /// from it if there is none.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn from_arguments(arguments: Arguments<'_>, now: u64) -> Result<Self, BadArguments> {
        let number = |key, usual| match arguments.value(key) {
            Some(text) => text.parse().ok(),
            None => Some(usual),
        };
        let read_only = arguments.has("read-only");
        let seed = number("seed", now ^ 0x5749_4953_5449_434B).ok_or("seed=N takes a number")?;
        if let Some(mode) = arguments.value("capacity") {
            if read_only || !arguments.has("destroy-contents") {
                return Err(
                    "the capacity test overwrites the stick: nothing was done, because the argument destroy-contents is missing",
                );
            }
            let full = match mode {
                "quick" => false,
                "full" => true,
                _ => return Err("capacity is quick or full"),
            };
            return Ok(Self::Capacity(Capacity { seed, full }));
        }
        if read_only {
            return Ok(Self::Read);
        }
        let bytes = number("bytes", CHECK_BYTES.into())
            .and_then(|bytes| u32::try_from(bytes).ok())
            .filter(|bytes| *bytes != 0)
            .ok_or("bytes=N takes a number from 1 to 4294967295")?;
        Ok(Self::Check(Check {
            bytes,
            seed,
            keep: !arguments.has("remove"),
            stamp: stamp(now),
        }))
    }
}

/// Returns what new entries get at a time of the console's clock, in microseconds. The clock counts from the year 2000; one
/// that says that it is before the console was made was never set.
pub fn stamp(now: u64) -> Stamp {
    const SECONDS_1970_TO_2000: i64 = 946_684_800;
    const SECONDS_2000_TO_2006: u64 = 189_388_800;
    match now / 1_000_000 {
        seconds @ SECONDS_2000_TO_2006.. => {
            let seconds = i64::try_from(seconds).unwrap_or(0);
            Stamp::from_local_seconds(SECONDS_1970_TO_2000 + seconds)
        }
        _ => Stamp::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, BadArguments> {
        let line = std::format!("boot {line}").replace(' ', "\0");
        Task::from_arguments(Arguments::new(line.as_bytes()), 0)
    }

    #[test]
    fn a_check_is_the_rule_and_keeps_its_file() {
        let Task::Check(check) = parsed("").unwrap() else {
            panic!("another task");
        };
        assert_eq!((check.bytes, check.keep), (CHECK_BYTES, true));
        assert_eq!(check.stamp, Stamp::NONE);
    }

    #[test]
    fn its_details_can_be_chosen() {
        let Task::Check(check) = parsed("remove bytes=1000 seed=7").unwrap() else {
            panic!("another task");
        };
        assert_eq!((check.bytes, check.seed, check.keep), (1000, 7, false));
    }

    #[test]
    fn read_only_counts_more_than_anything() {
        assert_eq!(parsed("read-only bytes=5 remove"), Ok(Task::Read));
        assert!(parsed("read-only capacity=full destroy-contents").is_err());
    }

    #[test]
    fn the_capacity_test_takes_a_second_word() {
        assert!(parsed("capacity=quick").is_err());
        assert!(parsed("capacity=some destroy-contents").is_err());
        let task = Task::Capacity(Capacity {
            seed: 7,
            full: true,
        });
        assert_eq!(parsed("capacity=full destroy-contents seed=7"), Ok(task));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for line in ["bytes=0", "bytes=-1", "bytes=5000000000", "seed=x"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_clock_that_was_never_set_gives_no_time() {
        assert_eq!(stamp(1_000_000), Stamp::NONE);
        // 26 years and 7 leap days after the beginning of 2000.
        let new_year_2026 = (26 * 365 + 7) * 86_400 * 1_000_000;
        assert_eq!(
            stamp(new_year_2026),
            Stamp::from_local_seconds(1_767_225_600)
        );
    }
}
