//! An HTTP/2 client and an HTTP/2 origin, both of the h2 crate with every frame in the test's hands.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// Runs a test's client with a limit of time.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(super::world::PATIENCE, test).await.expect("in time") })
}

/// A connection by prior knowledge.
pub async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    send
}

/// Accepts a stream and gives every piece back as it comes.
pub async fn echo_pieces(mut recv: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut send = respond.send_response(head, false)?;
    while let Some(piece) = recv.data().await {
        let piece = piece?;
        recv.flow_control().release_capacity(piece.len())?;
        if !piece.is_empty() {
            send.reserve_capacity(piece.len());
            send.send_data(piece, false)?;
        }
    }
    send.send_data(Bytes::new(), true)
}

/// An answer read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

pub fn get(path: &str) -> Request<()> {
    Request::builder().uri(format!("http://titan.test{path}")).body(()).unwrap()
}

pub fn post(path: &str) -> Request<()> {
    Request::builder().method("POST").uri(format!("http://titan.test{path}")).body(()).unwrap()
}

/// Sends a request with a body and trailers, reads the answer.
pub async fn ask(send: &SendRequest<Bytes>, request: Request<()>, body: &[u8], trailers: Option<HeaderMap>) -> Result<Answer, h2::Error> {
    let mut send = send.clone().ready().await?;
    let empty = body.is_empty() && trailers.is_none();
    let (response, mut stream) = send.send_request(request, empty)?;
    let upload = async { if !empty { send_all(&mut stream, body, trailers).await } else { Ok(()) } };
    let download = async { read(response.await?).await };
    let (uploaded, answer) = tokio::join!(upload, download);
    if answer.is_err() {
        uploaded?;
    }
    answer
}

/// Sends as the window allows.
pub async fn send_all(stream: &mut SendStream<Bytes>, mut body: &[u8], trailers: Option<HeaderMap>) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(h2::Reason::CANCEL.into()),
        };
        let n = room.min(body.len());
        stream.send_data(Bytes::copy_from_slice(&body[..n]), n == body.len() && trailers.is_none())?;
        body = &body[n..];
    }
    match trailers {
        Some(trailers) => stream.send_trailers(trailers),
        None => Ok(()),
    }
}

pub async fn read(answer: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut recv) = answer.into_parts();
    let (body, trailers) = drain(&mut recv).await?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, trailers })
}

pub async fn drain(recv: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = recv.data().await {
        let chunk = chunk?;
        body.extend_from_slice(&chunk);
        recv.flow_control().release_capacity(chunk.len())?;
    }
    Ok((body, recv.trailers().await?))
}

/// An origin that speaks HTTP/2 by prior knowledge; `serve` gets each stream in a task of its own.
pub struct H2Origin {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub streams: Arc<AtomicUsize>,
}

impl H2Origin {
    pub fn new<F, Fut>(max_streams: u32, serve: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), h2::Error>> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, streams) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, total, serve) = (connections.clone(), streams.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((socket, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let (serve, total) = (serve.clone(), total.clone());
                    tokio::spawn(async move {
                        let mut builder = h2::server::Builder::new();
                        builder.max_concurrent_streams(max_streams).enable_connect_protocol();
                        let Ok(mut connection) = builder.handshake(socket).await else { return };
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            total.fetch_add(1, Ordering::SeqCst);
                            tokio::spawn(serve(request, respond));
                        }
                    });
                }
            });
        });
        Self { address, connections, streams }
    }

    /// Answers with the request's body and trailers, and the head it saw in `x-seen`.
    pub fn echo() -> Self {
        Self::new(100, |request, mut respond| async move {
            let (head, mut recv) = request.into_parts();
            let seen = format!("{} {} {:?}", head.method, head.uri, head.headers);
            let response = Response::builder().header("x-seen", seen.replace(['\r', '\n'], " ")).body(()).unwrap();
            let mut send = respond.send_response(response, false)?;
            let (body, trailers) = drain(&mut recv).await?;
            match trailers {
                None if body.is_empty() => send.send_data(Bytes::new(), true),
                trailers => send_all(&mut send, &body, trailers).await,
            }
        })
    }

    /// Answers at once, as a gRPC server does whose streams are open in both directions, and gives every piece back as it comes.
    pub fn echo_open() -> Self {
        Self::new(1000, |request, respond| echo_pieces(request.into_body(), respond))
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}
