//! Why a command failed, and its exit code.

use std::{error::Error, fmt, io};

/// Why a command failed: one line, or one line for each problem.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The exit codes, for the help.
pub const EXIT_CODES: &str = "\
Exit codes:
  0         done
  1         failed, or it is not known whether it was done
  2         wrong usage
  3         refused by the rules, such as an event that is sold out or does not exist
  130, 143  a server that a second SIGINT or SIGTERM ended at once";

/// What a command ends with, where that is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The reader of the output has gone, as `head` does once it has enough.
    NoReader,
    /// It failed.
    Failed,
    /// The rules refused it.
    Refused,
    /// This signal ended it before it was done.
    Signal(u8),
}

impl Exit {
    /// What a failed command ends with.
    pub fn of(failure: &Failure) -> Self {
        if let Some(exit) = failure.downcast_ref::<Ended>() {
            return exit.exit;
        }
        let is_broken_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        if failure.downcast_ref::<io::Error>().is_some_and(is_broken_pipe) { Self::NoReader } else { Self::Failed }
    }

    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::NoReader => 0,
            Self::Failed => 1,
            Self::Refused => 3,
            Self::Signal(number) => 128 + number,
        }
    }
}

/// A failure with an exit of its own.
#[derive(Debug)]
pub struct Ended {
    /// The exit.
    pub exit: Exit,
    /// The line to print; empty if it is printed already.
    pub line: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl Error for Ended {}
