//! Why a command failed.

use std::error::Error;

/// Why a command failed: one line, or one line for each problem.
pub type Failure = Box<dyn Error + Send + Sync>;
