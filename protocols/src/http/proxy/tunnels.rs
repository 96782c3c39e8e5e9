//! Connections on which HTTP is over: what comes from either side goes out at the other.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use torsade_deferred::{Deferred, Failure};
use torsade_reactor::{Carried, tunnel_with_timeout};

use super::super::body::Body;
use super::super::error::StatusError;
use super::super::forwarding::remove_hop_by_hop;
use super::super::response::Response;
use super::super::upgrade::Upgraded;
use super::super::values::members;

/// Wires the two to each other, with what each has sent already.
pub(super) fn join(client: Upgraded, server: Upgraded, idle: Duration) -> Deferred<Carried> {
    let (client, from_client) = client.into_parts();
    let (server, from_server) = server.into_parts();
    if !from_server.is_empty() {
        client.write(&from_server);
    }
    if !from_client.is_empty() {
        server.write(&from_client);
    }
    tunnel_with_timeout(client, server, idle)
}

/// The response to a client whose server has switched to `protocol`: it has to switch, too.
pub(super) fn switched(
    response: Response,
    server: Upgraded,
    protocol: &str,
    idle: Duration,
) -> Result<Response, Failure> {
    let is_that = members(response.headers(), &UPGRADE).all(|it| it.eq_ignore_ascii_case(protocol));
    let Some(value) = response.headers().get(UPGRADE).filter(|_| is_that).cloned() else {
        // Nobody asked for that one.
        drop(server);
        let status = http::StatusCode::BAD_GATEWAY;
        let problem = "the server behind this one speaks another protocol than was asked for";
        return Err(StatusError::because(status, problem).into());
    };
    let (mut parts, _) = response.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    parts.headers.insert(UPGRADE, value);
    let option = HeaderValue::from_static("upgrade");
    parts.headers.insert(CONNECTION, option);
    let body = Body::upgrade(move |client| {
        // Nobody waits for its end, and it cannot fail.
        drop(join(client, server, idle));
    });
    Ok(Response::from_parts(parts, body))
}

/// Counts what is open, up to a limit.
#[derive(Debug)]
pub(super) struct Places {
    open: Rc<Cell<usize>>,
    pub(super) limit: usize,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            open: Rc::default(),
            limit,
        }
    }

    /// A place, until it is dropped; `None` if all are taken.
    pub(super) fn take(&self) -> Option<Place> {
        let open = self.open.get();
        (open < self.limit).then(|| {
            self.open.set(open + 1);
            Place(Rc::clone(&self.open))
        })
    }

    pub(super) fn open(&self) -> usize {
        self.open.get()
    }
}

pub(super) struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
