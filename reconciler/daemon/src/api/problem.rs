//! Answers that are no answer: what happened, and what to do.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::wire::Problem;
use crate::keeper::Denied;

/// An answer that is a [`Problem`].
#[derive(Debug)]
pub(super) struct Refused(
    pub(super) StatusCode,
    pub(super) &'static str,
    pub(super) String,
);

impl Refused {
    pub(super) fn busy() -> Self {
        let message = "the daemon gives no answer now; try again".to_owned();
        Self(StatusCode::SERVICE_UNAVAILABLE, "Busy", message)
    }

    pub(super) fn unavailable(why: &str) -> Self {
        Self(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            why.to_owned(),
        )
    }

    pub(super) fn bad(why: String) -> Self {
        Self(StatusCode::BAD_REQUEST, "BadRequest", why)
    }

    pub(super) fn unknown(name: &str) -> Self {
        let message = format!("there is no container {}", specs::diagnostic::plain(name));
        Self(StatusCode::NOT_FOUND, "UnknownName", message)
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown(why) => Self(StatusCode::NOT_FOUND, "UnknownName", why),
            Denied::Conflict(why) => Self(StatusCode::CONFLICT, "Conflict", why),
            Denied::Unavailable(why) => Self::unavailable(&why),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let problem = Problem {
            code: self.1.to_owned(),
            message: self.2,
        };
        (self.0, Json(problem)).into_response()
    }
}
