//! Origin shaped like a gRPC server: HTTP/2 by prior knowledge, any POST is answered with the message that it brought and
//! `grpc-status: 0` in trailers.

use std::io::Write;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::args::Args;

/// Streams of one connection: more than any gateway here has in flight, so that one that multiplexes needs one connection.
const STREAMS: u32 = 1_000;

pub fn run(args: Args) -> Result<(), String> {
    let address = args.listen.ok_or("--listen is needed")?;
    let say = |error: std::io::Error| error.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(say)?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind(address).await.map_err(say)?;
        let port = listener.local_addr().map_err(say)?.port();
        writeln!(std::io::stdout(), "{}", serde_json::json!({ "port": port })).map_err(say)?;
        loop {
            let (stream, _) = listener.accept().await.map_err(say)?;
            stream.set_nodelay(true).map_err(say)?;
            tokio::task::spawn_local(serve(stream));
        }
    })
}

/// One connection, until its end or failure.
async fn serve(stream: TcpStream) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(STREAMS).initial_window_size(1 << 20).initial_connection_window_size(16 << 20);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(answer(request, respond));
    }
}

/// One call. A stream that was reset has nobody to tell.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Option<()> {
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        body.flow_control().release_capacity(data.len()).ok()?;
        message.extend_from_slice(&data);
    }
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(head, false).ok()?;
    // Short messages: they fit the window that every client gives.
    stream.send_data(message.into(), false).ok()?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("grpc-message", HeaderValue::from_static(""));
    stream.send_trailers(trailers).ok()
}
