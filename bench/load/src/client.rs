//! One client connection: plain or TLS transport, and the answer that is being read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{websocket, wire};

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// TCP or TLS is being set up.
    Opening,
    /// Free for a request.
    Idle,
    /// A request was sent; `since` is when it was due.
    Busy { since: Instant },
}

/// What reading found out.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing whole yet.
    Nothing,
    /// Set up, ready for its first request.
    Opened,
    /// An answer ended.
    Answered { status: u16, keep: bool },
    /// The connection ended or what came is no answer.
    Failed(&'static str),
}

/// A connection of the generator.
pub struct Client {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    pub state: State,
    /// The connection carries WebSocket messages now.
    pub upgraded: bool,
    /// Part of a head.
    head: Vec<u8>,
    answer: Option<wire::Answer>,
    /// Request bytes not yet taken by the socket: offset into the shared request.
    unsent: Option<usize>,
    connected: bool,
}

impl Client {
    pub fn connect(
        target: SocketAddr,
        tls: Option<&(Arc<rustls::ClientConfig>, ServerName<'static>)>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(target)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        stream.set_nodelay(true)?;
        let tls = match tls {
            Some((config, name)) => Some(Box::new(ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?)),
            None => None,
        };
        let (state, head) = (State::Opening, Vec::new());
        Ok(Self { stream, tls, state, upgraded: false, head, answer: None, unsent: None, connected: false })
    }

    /// Sends the request; `since` is when it was due.
    pub fn send(&mut self, request: &[u8], since: Instant) -> io::Result<()> {
        self.state = State::Busy { since };
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(request)?;
                flush(tls, &mut self.stream)
            }
            None => {
                self.unsent = Some(0);
                self.resume(request)
            }
        }
    }

    fn resume(&mut self, request: &[u8]) -> io::Result<()> {
        while let Some(at) = self.unsent {
            match self.stream.write(&request[at..]) {
                Ok(count) => self.unsent = (at + count < request.len()).then_some(at + count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The socket is writable: finishes what was begun.
    pub fn writable(&mut self, request: &[u8]) -> Progress {
        if !self.connected {
            if let Ok(Some(_)) | Err(_) = self.stream.take_error() {
                return Progress::Failed("connect");
            }
            if self.stream.peer_addr().is_err() {
                return Progress::Nothing;
            }
            self.connected = true;
            if self.tls.is_none() {
                self.state = State::Idle;
                return Progress::Opened;
            }
        }
        let written = match &mut self.tls {
            Some(tls) => flush(tls, &mut self.stream),
            None => self.resume(request),
        };
        if written.is_err() { Progress::Failed("write") } else { Progress::Nothing }
    }

    /// Reads until the socket would block or an answer has ended. `scratch` belongs to the caller: an idle connection has no buffer.
    pub fn readable(&mut self, scratch: &mut [u8], bytes: &mut u64) -> Progress {
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return self.ended(),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Nothing,
                Err(_) => return self.lost("reset"),
            };
            let drained = count < scratch.len();
            let progress = if self.tls.is_some() {
                self.decrypt(&scratch[..count], bytes)
            } else {
                *bytes += count as u64;
                self.take(&scratch[..count])
            };
            if progress != Progress::Nothing || drained {
                return progress;
            }
        }
    }

    fn decrypt(&mut self, mut input: &[u8], bytes: &mut u64) -> Progress {
        let mut plain = [0; 16 << 10];
        let mut result = Progress::Nothing;
        while !input.is_empty() {
            let Some(tls) = &mut self.tls else { return result };
            let handshaking = tls.is_handshaking();
            let state = match tls.read_tls(&mut input).map_err(|_| ()).and_then(|_| tls.process_new_packets().map_err(|_| ())) {
                Ok(state) => state,
                Err(()) => return Progress::Failed("tls"),
            };
            if tls.wants_write() && flush(tls, &mut self.stream).is_err() {
                return Progress::Failed("write");
            }
            if handshaking && !tls.is_handshaking() {
                self.state = State::Idle;
                result = Progress::Opened;
            }
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let Some(tls) = &mut self.tls else { return result };
                let Ok(count) = tls.reader().read(&mut plain) else { break };
                left -= count;
                *bytes += count as u64;
                match self.take(&plain[..count]) {
                    Progress::Nothing => {}
                    progress => result = progress,
                }
            }
            if state.peer_has_closed() {
                return if result == Progress::Nothing { self.ended() } else { result };
            }
        }
        result
    }

    fn take(&mut self, mut data: &[u8]) -> Progress {
        if self.state == State::Idle || self.state == State::Opening {
            return Progress::Failed("unasked");
        }
        if self.answer.is_none() {
            let joined;
            let bytes: &[u8] = if self.head.is_empty() {
                data
            } else {
                self.head.extend_from_slice(data);
                joined = std::mem::take(&mut self.head);
                &joined
            };
            let found = if self.upgraded {
                websocket::echo_head(bytes).map(|found| {
                    found.map(|(end, length)| (end, wire::Answer { status: 200, body: wire::Body::Length(length), keep: true }))
                })
            } else {
                wire::head_end(bytes, 0).map(|end| wire::answer(&bytes[..end]).map(|answer| (end, answer)).ok_or(())).transpose()
            };
            let (end, answer) = match found {
                Ok(Some(found)) => found,
                Ok(None) => {
                    self.head = bytes.to_vec();
                    return Progress::Nothing;
                }
                Err(()) => return Progress::Failed("malformed"),
            };
            self.answer = Some(answer);
            data = &data[data.len() - (bytes.len() - end).min(data.len())..];
        }
        let Some(answer) = &mut self.answer else { return Progress::Nothing };
        match answer.body.take(data) {
            None => return Progress::Failed("malformed"),
            Some((count, true)) if count < data.len() => return Progress::Failed("too long"),
            Some((_, false)) => return Progress::Nothing,
            Some((_, true)) => {}
        }
        self.state = State::Idle;
        match self.answer.take() {
            Some(answer) => Progress::Answered { status: answer.status, keep: answer.keep },
            None => Progress::Nothing,
        }
    }

    fn ended(&self) -> Progress {
        self.lost("closed")
    }

    fn lost(&self, busy: &'static str) -> Progress {
        match self.state {
            State::Opening => Progress::Failed("connect"),
            State::Idle => Progress::Failed("idle"),
            State::Busy { .. } if self.answer.is_some() || !self.head.is_empty() => Progress::Failed("truncated"),
            State::Busy { .. } => Progress::Failed(busy),
        }
    }
}

fn flush(tls: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(stream) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Client configuration that accepts any certificate: the gateways under test make their own.
pub fn tls_config() -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
