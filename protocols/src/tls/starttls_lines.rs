//! STARTTLS for who speaks lines.

use rustls::pki_types::ServerName;
use torsade_reactor::Stream;

use super::config::{ClientConfig, ServerConfig};
use super::error::StartTlsError;
use super::stream::TlsStream;
use crate::lines::LineStream;

impl LineStream {
    /// Starts TLS as the server; the receiver goes on with the same transport, in lines, over
    /// TLS. The protocol must be wrapped: `StartTls::new(Lines::new(receiver))`.
    ///
    /// What was sent before goes out in the clear, what is sent from here on waits for the
    /// handshake. What has come behind the line at hand is taken for the beginning of the
    /// handshake, and never for lines: a command that somebody has smuggled in there ends the
    /// connection (CVE-2011-0411).
    ///
    /// # Errors
    ///
    /// The protocol is not wrapped, TLS has been started already, or the connection is being
    /// lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use torsade_protocols::lines::{LineReceiver, LineTransport, Lines};
    /// use torsade_protocols::tls::{self, ServerConfig, StartTls};
    ///
    /// struct Mail {
    ///     config: ServerConfig,
    /// }
    ///
    /// impl LineReceiver for Mail {
    ///     fn line_received(&mut self, transport: &LineTransport<Self>, line: &[u8]) {
    ///         match line {
    ///             b"STARTTLS" if tls::session(transport).is_none() => {
    ///                 transport.send_line("220 go ahead");
    ///                 if transport.start_tls_server(&self.config).is_err() {
    ///                     transport.lose_connection();
    ///                 }
    ///             }
    ///             _ => transport.send_line("500 what?"),
    ///         }
    ///     }
    /// }
    ///
    /// fn protocol(config: &ServerConfig) -> StartTls<Lines<Mail>> {
    ///     StartTls::new(Lines::new(Mail { config: config.clone() }))
    /// }
    /// ```
    pub fn start_tls_server(&self, config: &ServerConfig) -> Result<(), StartTlsError> {
        self.tls_below()?.start_server(config, &[])?;
        self.give_unused_below();
        Ok(())
    }

    /// Starts TLS as the client; see [`start_tls_server`](Self::start_tls_server). A server has
    /// nothing to say before the handshake: if something has come behind the line at hand, the
    /// handshake fails.
    ///
    /// # Errors
    ///
    /// As for [`start_tls_server`](Self::start_tls_server).
    pub fn start_tls_client(
        &self,
        config: &ClientConfig,
        name: ServerName<'static>,
    ) -> Result<(), StartTlsError> {
        self.tls_below()?.start_client(config, name, &[])?;
        self.give_unused_below();
        Ok(())
    }

    fn tls_below(&self) -> Result<&TlsStream, StartTlsError> {
        let stream: &dyn Stream = self;
        stream.find().ok_or(StartTlsError::NotPrepared)
    }

    fn give_unused_below(&self) {
        self.give_up_kept(|stream, unused| {
            if let Ok(tls) = stream.tls_below() {
                tls.take_back(unused);
            }
        });
    }
}
