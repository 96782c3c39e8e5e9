//! From whoever holds a connection to the line receiver on it.

use std::cell::Cell;
use std::rc::Rc;

use torsade_reactor::Transport;

use super::receiver::{LineReceiver, LineTransport, Lines};

/// From the transport that connecting gives, a `Transport<Lines<H>>`, to that of the line receiver:
/// for a [`ClientService`](torsade_reactor::ClientService), or who calls
/// [`connect_tcp`](torsade_reactor::Reactor::connect_tcp).
///
/// Also where there is TLS between the two, as in `Tls::client(.., Lines::new(..))`.
///
/// # Examples
///
/// ```
/// use torsade_deferred::Deferred;
/// use torsade_protocols::lines::{LineReceiver, LineTransport, Lines, ToLines};
/// use torsade_reactor::{ClientService, Transport};
///
/// #[derive(Default)]
/// struct News {
///     topics: Vec<String>,
/// }
///
/// impl LineReceiver for News {
///     fn line_received(&mut self, _transport: &LineTransport<Self>, line: &[u8]) {
///         println!("{}", line.escape_ascii());
///     }
/// }
///
/// /// Asks for one more topic as soon as there is a connection.
/// fn subscribe(service: &ClientService<Lines<News>>, topic: String) -> Deferred<()> {
///     service.when_connected().map(move |transport| {
///         transport.send_line(format!("SUBSCRIBE {topic}"));
///         transport.call_lines(move |news, _transport| news.topics.push(topic));
///     })
/// }
/// # let _ = subscribe;
/// ```
pub trait ToLines {
    /// Who receives the lines.
    type Receiver: LineReceiver;

    /// Calls `visit` with the line receiver and its transport: at once if it is free, right after its
    /// current method if it is not; as [`Transport::call`] does. After the end of the connection,
    /// `visit` is dropped.
    fn call_lines(
        &self,
        visit: impl FnOnce(&mut Self::Receiver, &LineTransport<Self::Receiver>) + 'static,
    );

    /// The line receiver's own transport. `None` before `connection_made` and after the end; and
    /// inside of the receiver's methods, which are given it.
    fn lines(&self) -> Option<LineTransport<Self::Receiver>>;

    /// Sends `line`, and the delimiter behind it; see
    /// [`LineStream::send_line`](super::LineStream::send_line). After the end of the connection,
    /// nothing.
    fn send_line(&self, line: impl AsRef<[u8]>) {
        match self.lines() {
            Some(transport) => transport.send_line(line),
            None => {
                let line = line.as_ref().to_vec();
                self.call_lines(move |_, transport| transport.send_line(line));
            }
        }
    }
}

impl<H: LineReceiver> ToLines for Transport<Lines<H>> {
    type Receiver = H;

    fn call_lines(&self, visit: impl FnOnce(&mut H, &LineTransport<H>) + 'static) {
        self.call(|lines, _| {
            if let Some(transport) = lines.transport() {
                transport.call(visit);
            }
        });
    }

    fn lines(&self) -> Option<LineTransport<H>> {
        find(self, |lines| lines.transport().cloned())
    }
}

/// What a look at the protocol finds, if it is free.
fn find<P: 'static, T: 'static>(
    transport: &Transport<P>,
    look: impl FnOnce(&P) -> Option<T> + 'static,
) -> Option<T> {
    let place = Rc::new(Cell::new(None));
    let found = Rc::clone(&place);
    // If it is busy, it is looked at in vain, later.
    transport.call(move |protocol, _| found.set(look(protocol)));
    place.take()
}

#[cfg(feature = "tls")]
macro_rules! through {
    ($($wrapper:ident)*) => {$(
        impl<P: torsade_reactor::Protocol> ToLines for Transport<crate::tls::$wrapper<P>>
        where
            Transport<P>: ToLines,
        {
            type Receiver = <Transport<P> as ToLines>::Receiver;

            fn call_lines(
                &self,
                visit: impl FnOnce(&mut Self::Receiver, &LineTransport<Self::Receiver>) + 'static,
            ) {
                self.call(|wrapper, _| {
                    if let Some(transport) = wrapper.transport() {
                        transport.call_lines(visit);
                    }
                });
            }

            fn lines(&self) -> Option<LineTransport<Self::Receiver>> {
                find(self, |wrapper| wrapper.transport().cloned())?.lines()
            }
        }
    )*};
}

#[cfg(feature = "tls")]
through!(Tls StartTls);
