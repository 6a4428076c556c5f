//! How a program ends: with an exit status, or with a failure in words.

use core::fmt::{Display, Write};

/// What `main` of a program may return; see `entry!`.
pub trait Termination {
    /// Logs what is to be said, and returns the exit status: 0 for success.
    fn status(self) -> u8;
}

impl Termination for u8 {
    fn status(self) -> u8 {
        self
    }
}

impl Termination for Result<(), Failure> {
    fn status(self) -> u8 {
        match self {
            Ok(()) => 0,
            Err(Failure(text)) => {
                error!("{}", text.as_str());
                1
            }
        }
    }
}

/// What went wrong, in words: made of any error by `?`. What does not fit is cut.
#[derive(Debug)]
pub struct Failure(heapless::String<112>);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = heapless::String::new();
        // What does not fit is cut.
        let _ = write!(text, "{error}");
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_the_words_of_an_error_and_ends_with_one() {
        fn fails() -> Result<(), Failure> {
            u8::try_from(300)?;
            Ok(())
        }
        let failure = fails().unwrap_err();
        assert_eq!(failure.0, "out of range integral type conversion attempted");
        assert_eq!(Err(failure).status(), 1);
        assert_eq!(Ok(()).status(), 0);
        assert_eq!(7.status(), 7);
    }
}
