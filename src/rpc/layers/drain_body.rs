//! Reads the rest of a request that was refused before its message was there. HTTP/2 resets the stream of a request
//! that is not read to its end; what then still arrives counts as the client's mistake, and enough such mistakes close
//! the connection, though the client made none.

use std::time::Duration;

use futures::FutureExt;
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;
use tonic::body::Body;

/// How long it is read.
const MAX_TIME: Duration = Duration::from_secs(1);
/// How many bytes of it.
const MAX_BYTES: usize = 64 * 1024;

/// Reads the rest of a request, in the background if need be.
pub fn drain(body: Body) {
    let mut body = Limited::new(body, MAX_BYTES);
    let mut rest = Box::pin(async move { while let Some(Ok(_)) = body.frame().await {} });
    // Most of the time it is here already, and needs no task.
    if (&mut rest).now_or_never().is_none() {
        tokio::spawn(timeout(MAX_TIME, rest));
    }
}
