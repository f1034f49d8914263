//! The proxy's own HTTP/1.1, for all that is plain. What is not is handed to hyper with the bytes that were read.

use std::{net::SocketAddr, rc::Rc};

use bytes::Bytes;

use super::{
    Open, Worker,
    client::{self, Transport},
};

/// Serves one connection until it ends.
pub(super) async fn serve<T: Transport>(worker: Rc<Worker>, open: Open, stream: T, peer: SocketAddr) {
    client::serve(worker, open, stream, Bytes::new(), peer).await;
}
