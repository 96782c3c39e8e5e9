//! What a client is told of what went wrong behind the proxy. Pure.

use http::StatusCode;
use torsade_deferred::{Failure, Interrupted};

use super::super::client::{ClientError, ClientErrorKind, Stage};
use super::super::error::StatusError;

/// What whoever looks after a proxy hears of what went wrong.
pub(super) type FailureHook = Box<dyn Fn(&Failure)>;

/// What went wrong, if a client said so.
pub(super) fn kind_of(failure: &Failure) -> Option<&ClientErrorKind> {
    match failure.downcast_ref::<ClientError>() {
        Some(error) => Some(error.kind()),
        None => failure.downcast_ref(),
    }
}

/// The failure that the client's server makes a response of: a [`StatusError`], which says nothing of what
/// is behind the proxy.
pub(super) fn told(failure: Failure) -> Failure {
    if failure.check::<StatusError>() {
        return failure;
    }
    let Some(kind) = kind_of(&failure) else {
        let problem = "the server behind this one gave no response";
        return StatusError::because(StatusCode::BAD_GATEWAY, problem).into();
    };
    let (status, problem) = match kind {
        ClientErrorKind::RequestBody(cause) => {
            let status = StatusError::status_of(cause);
            // Whatever ended it, it was no fault of the proxy's.
            let status = if status.is_client_error() {
                status
            } else {
                StatusCode::BAD_REQUEST
            };
            (status, "the body of the request did not come whole")
        }
        ClientErrorKind::Timeout { stage, .. } => match stage {
            Stage::Waiting => (StatusCode::SERVICE_UNAVAILABLE, "too many wait already"),
            _ => (
                StatusCode::GATEWAY_TIMEOUT,
                "the server behind this one took too long",
            ),
        },
        ClientErrorKind::Overloaded { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "too many wait already")
        }
        ClientErrorKind::Closed => (StatusCode::SERVICE_UNAVAILABLE, "this proxy is stopping"),
        ClientErrorKind::Forbidden { .. } => (
            StatusCode::FORBIDDEN,
            "this proxy does not pass requests on to there",
        ),
        ClientErrorKind::BadUrl(_) => (StatusCode::BAD_REQUEST, "the target cannot be asked"),
        ClientErrorKind::BadRequest(problem) => (StatusCode::BAD_REQUEST, *problem),
        ClientErrorKind::Connect(_) | ClientErrorKind::Proxy(_) | ClientErrorKind::Tls(_) => (
            StatusCode::BAD_GATEWAY,
            "the server behind this one cannot be reached",
        ),
        _ => (
            StatusCode::BAD_GATEWAY,
            "the server behind this one gave no response that can be passed on",
        ),
    };
    StatusError::because(status, problem).into()
}

/// Whether it speaks against the server: what a client did wrong, or the proxy, does not.
pub(super) fn is_servers_fault(kind: &ClientErrorKind) -> bool {
    match kind {
        ClientErrorKind::Connect(_)
        | ClientErrorKind::Tls(_)
        | ClientErrorKind::BadResponse(_)
        | ClientErrorKind::ConnectionLost { .. } => true,
        ClientErrorKind::Timeout { stage, .. } => *stage != Stage::Waiting,
        _ => false,
    }
}

/// Whether nothing of the request has left: it may be sent to another server, whatever its method.
pub(super) fn is_unsent(kind: &ClientErrorKind) -> bool {
    match kind {
        ClientErrorKind::Connect(_) | ClientErrorKind::Tls(_) | ClientErrorKind::Proxy(_) => true,
        ClientErrorKind::Timeout { stage, .. } => {
            matches!(stage, Stage::Connect | Stage::TlsHandshake)
        }
        _ => false,
    }
}

/// Whether whoever looks after the proxy should hear of it: not of what is the client's own doing, or was
/// decided on purpose.
pub(super) fn is_news(failure: &Failure) -> bool {
    let is_forbidden = matches!(kind_of(failure), Some(ClientErrorKind::Forbidden { .. }));
    !is_forbidden && !failure.check::<StatusError>() && !failure.check::<Interrupted>()
}
