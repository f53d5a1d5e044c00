use alloc::string::String;

/// How a step went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The effect was brought about.
    Done,
    /// There was nothing left to do.
    AlreadyDone,
    /// Long work was started; it will show in what is observed.
    Started,
}

/// What failed, in words for people. Never holds secrets, environments or file contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFailure {
    /// What was attempted, on what: `mount overlay on the root of web.3`.
    pub what: String,
    /// The cause in words.
    pub cause: String,
    /// `errno`, where a system call failed.
    pub errno: Option<i32>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How a step failed. Drivers classify, the core decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepError {
    /// It may work later.
    Retry(StepFailure),
    /// The world is not the one the step was planned against: observe and plan anew.
    Stale(String),
    /// It waits on a named thing.
    Blocked {
        /// What it waits on.
        on: String,
        /// What was attempted.
        failure: StepFailure,
    },
    /// Trying again without a change by a person is in vain.
    Terminal(StepFailure),
}

impl StepError {
    /// Returns the failure in words, where there is one.
    pub fn failure(&self) -> Option<&StepFailure> {
        match self {
            Self::Retry(failure) | Self::Terminal(failure) | Self::Blocked { failure, .. } => {
                Some(failure)
            }
            Self::Stale(_) => None,
        }
    }
}
