//! Bodies that are streamed to the manager: their deadline counts anew with each piece.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Method, body::Frame, header};
use tokio::time::sleep;

use super::{Client, ClientError, connect};

/// What was to be uploaded could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub io::Error);

impl Client {
    /// Streams `content` to `path`.
    pub(super) async fn upload<S>(&self, path: &str, length: Option<u64>, content: S) -> Result<(), ClientError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let moved = Arc::new(AtomicU64::new(0));
        let counter = moved.clone();
        let frames = content.map(move |piece| {
            counter.fetch_add(1, Ordering::Relaxed);
            piece.map(Frame::data).map_err(Unreadable)
        });
        let mut head = self.head(Method::PUT, path, &[]);
        if let Some(length) = length {
            head = head.header(header::CONTENT_LENGTH, length);
        }
        let body = StreamBody::new(frames).boxed_unsync();
        let request = head.body(body).map_err(|error| self.broken(error.to_string()))?;
        let answer = async {
            let mut sender = connect::connect(&self.target).await.map_err(|error| self.unreachable(error))?;
            let response = sender.send_request(request).await.map_err(|error| self.cut_off(&error))?;
            self.sound(response).await.map(drop)
        };
        let stalled = async {
            let mut before = u64::MAX;
            while before != moved.load(Ordering::Relaxed) {
                before = moved.load(Ordering::Relaxed);
                sleep(self.deadline).await;
            }
        };
        tokio::select! {
            answer = answer => answer,
            () = stalled => Err(self.late()),
        }
    }
}
