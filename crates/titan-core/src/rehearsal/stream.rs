//! A client of a rehearsal that speaks HTTP/2: gRPC with its trailers, and WebSockets as extended CONNECT.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use serde::Deserialize;

/// A window that no answer of a test fills: nothing has to be given back.
const WINDOW: u32 = (1 << 31) - 1;
/// How often it is looked whether the server's settings have come.
const LOOK: Duration = Duration::from_millis(1);
/// How long the server may take to close a connection that has nothing more to say.
const FAREWELL: Duration = Duration::from_secs(5);

/// A request in the terms of HTTP/2. Characters of names and values are bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// `:method`.
    pub method: String,
    /// `:scheme`.
    pub scheme: String,
    /// `:authority`.
    pub authority: String,
    /// `:path`.
    pub path: String,
    /// `:protocol` of an extended CONNECT; the method is then `CONNECT`.
    pub protocol: Option<String>,
    /// Other fields, in their order.
    pub headers: Vec<(String, String)>,
}

impl Stream {
    fn request(&self) -> Result<Request<()>, String> {
        let uri = format!("{}://{}{}", self.scheme, self.authority, self.path);
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|_| format!("{:?} is no method", self.method))?;
        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().map_err(|error| format!("{uri:?} can't be sent over HTTP/2: {error}"))?;
        for (name, value) in &self.headers {
            let wrong = || format!("the header {name:?} can't be sent over HTTP/2");
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| wrong())?;
            let value: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
            let value = HeaderValue::from_bytes(&value.ok_or_else(wrong)?).map_err(|_| wrong())?;
            request.headers_mut().append(name, value);
        }
        if let Some(protocol) = &self.protocol {
            request.extensions_mut().insert(h2::ext::Protocol::from(protocol.as_str()));
        }
        Ok(request)
    }
}

/// Sends it and gives the answer as HTTP/1.1 would write it, its body in chunks. `noted` is waited for once an answer is there, before the
/// connection ends: an open tunnel would otherwise be one that its client left.
pub(super) fn converse(stream: TcpStream, head: &Stream, body: Bytes, limit: Duration, noted: impl FnOnce(u16)) -> Result<Vec<u8>, String> {
    let request = head.request()?;
    stream.set_nonblocking(true).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let (answer, connection) = runtime.block_on(async {
        let late = || format!("no whole answer came within {limit:?}");
        let stream = tokio::net::TcpStream::from_std(stream).map_err(|error| error.to_string())?;
        let mut builder = client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (client, connection) = builder.handshake::<_, Bytes>(stream).await.map_err(|error| told(&error))?;
        let connection = tokio::spawn(connection);
        let answer = tokio::time::timeout(limit, exchange(client, request, body, head.protocol.is_some())).await;
        Ok::<_, String>((answer.map_err(|_| late())??, connection))
    })?;
    let (status, bytes) = answer;
    noted(status);
    // The last handle is gone, so the connection says goodbye; what it leaves undone is nobody's concern.
    let _ = runtime.block_on(async { tokio::time::timeout(FAREWELL, connection).await });
    Ok(bytes)
}

async fn exchange(client: SendRequest<Bytes>, request: Request<()>, body: Bytes, tunnel: bool) -> Result<(u16, Vec<u8>), String> {
    let mut client = client.ready().await.map_err(|error| told(&error))?;
    while tunnel && !client.is_extended_connect_protocol_enabled() {
        tokio::time::sleep(LOOK).await;
    }
    let (answer, mut send) = client.send_request(request, body.is_empty() && !tunnel).map_err(|error| told(&error))?;
    if !body.is_empty() {
        // Windows are h2's business. An answer may be there although the rest was not wanted.
        let _ = send.send_data(body, true);
    }
    let (head, mut body) = answer.await.map_err(|error| told(&error))?.into_parts();
    let status = head.status.as_u16();
    let mut bytes = format!("HTTP/1.1 {status} \r\n").into_bytes();
    write_fields(&mut bytes, &head.headers);
    bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    if tunnel && head.status.is_success() {
        return Ok((status, bytes));
    }
    while let Some(piece) = body.data().await {
        // What was cut short has no last chunk.
        let Ok(piece) = piece else { return Ok((status, bytes)) };
        if !piece.is_empty() {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(&piece);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    let Ok(trailers) = body.trailers().await else { return Ok((status, bytes)) };
    bytes.extend_from_slice(b"0\r\n");
    write_fields(&mut bytes, &trailers.unwrap_or_default());
    bytes.extend_from_slice(b"\r\n");
    Ok((status, bytes))
}

fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn told(error: &h2::Error) -> String {
    match error.get_io().map(io::Error::kind) {
        Some(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
            "the connection was closed without an answer".into()
        }
        _ => format!("the stream failed: {error}"),
    }
}
