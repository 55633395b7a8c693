//! One connection of a client: its requests, their faults, the answers of the API server.

use super::{
    Upstream,
    fault::{Ending, Fault, Seen},
    state::State,
};
use futures_util::stream::unfold;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{future::pending, io, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Mutex, mpsc},
    time::sleep,
};

const DRIPS_PER_SECOND: usize = 10;

/// Ends the client's connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the connection ends as a fault")]
    Fault,
    #[error("connect: {0}")]
    Connect(#[from] io::Error),
    #[error("upstream: {0}")]
    Upstream(#[from] hyper::Error),
}

type AnswerBody = Either<Full<Bytes>, Pin<Box<dyn Body<Data = Bytes, Error = Ended> + Send>>>;
type Server = Mutex<Option<SendRequest<Full<Bytes>>>>;

/// Serves the requests of one client; one connection to the API server is behind it.
pub(super) async fn serve<S>(stream: S, upstream: Arc<Upstream>, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server = Arc::new(Server::default());
    let service = service_fn(move |request| {
        let (server, upstream, state) = (server.clone(), upstream.clone(), state.clone());
        async move { answer(request, &server, &upstream, state).await }
    });
    // an error here is the end of a connection, on purpose or by the client
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

async fn answer(
    request: Request<Incoming>,
    server: &Server,
    upstream: &Upstream,
    state: Arc<State>,
) -> Result<Response<AnswerBody>, Ended> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let seen = Seen::new(&head, &body);
    let fault = state.arrived(&seen);
    state.moving().await;
    match &fault {
        Some(Fault::Answer {
            status,
            headers,
            body,
        }) => {
            seen.set_status(*status);
            seen.add_received(body.len());
            let mut answer = Response::builder().status(*status);
            for (name, value) in headers {
                answer = answer.header(*name, value);
            }
            let body = Either::Left(Full::from(body.clone()));
            return Ok(answer.body(body).expect("an answer"));
        }
        Some(Fault::Stall) => pending().await,
        Some(Fault::Drop) => return Err(Ended::Fault),
        _ => (),
    }
    let request = Request::from_parts(head, Full::from(body));
    let (mut head, body) = send(request, server, upstream).await?.into_parts();
    seen.set_status(head.status.as_u16());
    if fault.is_some() {
        // the body may become shorter
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut passing = Passing {
            sender,
            seen,
            state,
            left: usize::MAX,
        };
        if let Err(ended) = passing.pass(body, fault).await {
            passing.sender.send(Err(ended)).await.ok();
        }
    });
    let stream = unfold(receiver, async |mut receiver| {
        let frame = receiver.recv().await?;
        Some((frame, receiver))
    });
    Ok(Response::from_parts(
        head,
        Either::Right(Box::pin(StreamBody::new(stream))),
    ))
}

/// Sends a request on the connection to the API server, or on a new one.
async fn send(
    request: Request<Full<Bytes>>,
    server: &Server,
    upstream: &Upstream,
) -> Result<Response<Incoming>, Ended> {
    let mut server = server.lock().await;
    let usable = match server.as_mut() {
        Some(sender) => sender.ready().await.is_ok(),
        None => false,
    };
    if !usable {
        let stream = upstream.connect().await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // its errors reach the requests
        tokio::spawn(async move { connection.await.ok() });
        *server = Some(sender);
    }
    let sender = server.as_mut().ok_or(Ended::Fault)?;
    Ok(sender.send_request(request).await?)
}

/// An answer's body on its way to the client.
struct Passing {
    sender: mpsc::Sender<Result<Frame<Bytes>, Ended>>,
    seen: Seen,
    state: Arc<State>,
    /// Bytes until the body ends.
    left: usize,
}

impl Passing {
    async fn pass(&mut self, mut body: Incoming, fault: Option<Fault>) -> Result<(), Ended> {
        let mut ending = None;
        match fault {
            Some(Fault::CutAfter(bytes)) => (self.left, ending) = (bytes, Some(Ending::Cut)),
            Some(Fault::EndAfter(bytes)) => (self.left, ending) = (bytes, Some(Ending::End)),
            _ => (),
        }
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = self.sender.closed() => return Ok(()),
            };
            let Some(frame) = frame else { return Ok(()) };
            let Ok(mut data) = frame?.into_data() else {
                continue;
            };
            self.state.moving().await;
            if let Some(now) = self.state.take_ending() {
                (self.left, ending) = (data.len() / 2, Some(now));
            }
            data.truncate(self.left);
            self.left -= data.len();
            match fault {
                Some(Fault::Drip { bytes_per_second }) => self.drip(data, bytes_per_second).await,
                _ => self.forward(data).await,
            }
            if self.left == 0 {
                return match ending {
                    Some(Ending::Cut) => Err(Ended::Fault),
                    _ => Ok(()),
                };
            }
        }
    }

    async fn forward(&self, data: Bytes) {
        self.seen.add_received(data.len());
        // the client may have gone
        self.sender.send(Ok(Frame::data(data))).await.ok();
    }

    async fn drip(&self, mut data: Bytes, bytes_per_second: usize) {
        let pause = Duration::from_secs(1) / DRIPS_PER_SECOND as u32;
        while !data.is_empty() && !self.sender.is_closed() {
            let part = data.split_to(data.len().min(bytes_per_second / DRIPS_PER_SECOND));
            self.forward(part).await;
            sleep(pause).await;
        }
    }
}
