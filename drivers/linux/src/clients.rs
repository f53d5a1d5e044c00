//! Connections to shims, kept open for their hints.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use driver_api::{Deadline, Mark, StepError, StepFailure};
use shim_proto::message::{Answer, Ask, Failure, FailureKind, Report, ReportAsk};

use crate::error::{failure, retry, words};
use crate::shim_client::{ConnectError, ShimClient};
use crate::wake::Wakes;

/// Most connections kept open; more are made anew each time.
const CLIENTS_MAX: usize = 16_384;

/// Idle connections. One in use is not in here, so two callers never share one.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    idle: Mutex<BTreeMap<Mark, ShimClient>>,
}

/// What came of asking a shim how everything is.
#[derive(Debug)]
pub(crate) enum Told {
    /// It said.
    Report(Box<Report>),
    /// Nobody listens.
    Absent,
    /// It could not be asked.
    Unknown(driver_api::Gap),
}

impl Clients {
    /// Takes a kept connection for a request; what comes on it until it is kept again is no
    /// hint.
    fn take(&self, mark: &Mark, wakes: &Wakes) -> Option<ShimClient> {
        let client = self.remove(mark)?;
        wakes.hush(&client);
        Some(client)
    }

    fn remove(&self, mark: &Mark) -> Option<ShimClient> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.remove(mark)
    }

    fn keep(&self, mark: &Mark, client: ShimClient, wakes: &Wakes) {
        wakes.listen(mark, &client);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < CLIENTS_MAX {
            idle.insert(mark.clone(), client);
        }
    }

    /// Closes the connection of a life.
    pub(crate) fn forget(&self, mark: &Mark) {
        drop(self.remove(mark));
    }

    /// Asks a shim how everything is. A kept connection that fails is tried anew once: the
    /// shim behind it may have been replaced.
    pub(crate) fn report(
        &self,
        mark: &Mark,
        directory: &Path,
        deadline: Deadline,
        wakes: &Wakes,
    ) -> Told {
        if let Some(mut client) = self.take(mark, wakes)
            && let Ok(Answer::Report(report)) =
                client.ask(Ask::Report(ReportAsk {}), deadline.at_ms)
        {
            self.keep(mark, client, wakes);
            return Told::Report(Box::new(report));
        }
        let unknown = |what: String, why: String| Told::Unknown(driver_api::Gap { what, why });
        let what = format!("ask the shim of {}", mark.leaf());
        let mut client = match ShimClient::connect(directory, mark, deadline.at_ms) {
            Ok(client) => client,
            Err(ConnectError::Absent) => return Told::Absent,
            Err(ConnectError::Unknown { what, why }) => return unknown(what, why),
        };
        match client.ask(Ask::Report(ReportAsk {}), deadline.at_ms) {
            Ok(Answer::Report(report)) => {
                self.keep(mark, client, wakes);
                Told::Report(Box::new(report))
            }
            Ok(Answer::Failure(failure)) => unknown(what, cause(&failure)),
            Ok(_) => unknown(what, "it answered something else".to_owned()),
            Err(err) => unknown(what, words(&err)),
        }
    }

    /// Asks a shim to do something.
    ///
    /// # Errors
    /// As the shim says; `Retry` when it could not be asked. Whether it did it is then not
    /// known, and shows in what is observed.
    pub(crate) fn order(
        &self,
        mark: &Mark,
        directory: &Path,
        ask: Ask,
        deadline: Deadline,
        wakes: &Wakes,
    ) -> Result<(), StepError> {
        let what = || format!("ask the shim of {}", mark.leaf());
        let mut client = match self.take(mark, wakes) {
            Some(client) => client,
            None => ShimClient::connect(directory, mark, deadline.at_ms)
                .map_err(|err| retry(what(), words(&err)))?,
        };
        let answer = client
            .ask(ask, deadline.at_ms)
            .map_err(|err| retry(what(), words(&err)))?;
        self.keep(mark, client, wakes);
        match answer {
            Answer::Done(_) => Ok(()),
            Answer::Failure(failure) => Err(refused(&failure)),
            _ => Err(retry(what(), "it answered something else")),
        }
    }
}

/// Returns a shim's refusal as a step's failure.
pub(crate) fn refused(refusal: &Failure) -> StepError {
    let errno = (refusal.errno != 0).then_some(refusal.errno);
    let told = StepFailure {
        errno,
        ..failure(refusal.what.clone(), cause(refusal))
    };
    match refusal.kind() {
        FailureKind::Retry => StepError::Retry(told),
        FailureKind::Stale => StepError::Stale(format!("{}: {}", told.what, told.cause)),
        FailureKind::Terminal => StepError::Terminal(told),
        FailureKind::Unknown => StepError::Terminal(StepFailure {
            hint: Some("the container's shim is of an older release: recreate it".to_owned()),
            ..told
        }),
    }
}

fn cause(failure: &Failure) -> String {
    if !failure.cause.is_empty() {
        return failure.cause.clone();
    }
    if failure.errno != 0 {
        return std::io::Error::from_raw_os_error(failure.errno).to_string();
    }
    "it did not say why".to_owned()
}
