//! A limit on TLS handshakes at once, which cost processor time before anything is known of the client. At the limit
//! the oldest handshake makes room, unless it has only just begun.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Handshakes at once.
const MAX_HANDSHAKES: usize = 256;
/// A handshake is not evicted before this age.
const MIN_AGE: Duration = Duration::from_millis(100);

/// The handshakes of a server, oldest first.
#[derive(Default)]
pub struct HandshakeLimit(Mutex<Running>);

#[derive(Default)]
struct Running {
    next: u64,
    handshakes: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// A running handshake, until this is dropped.
pub struct Handshake {
    number: u64,
    /// Cancelled when it has to make room.
    pub evicted: CancellationToken,
    limit: Arc<HandshakeLimit>,
}

impl HandshakeLimit {
    /// A handshake more, in place of the oldest if need be; None if that is too young.
    pub fn begin(self: &Arc<Self>) -> Option<Handshake> {
        let mut running = self.0.lock();
        if running.handshakes.len() >= MAX_HANDSHAKES {
            let oldest = running.handshakes.first_entry().filter(|oldest| oldest.get().0.elapsed() >= MIN_AGE)?;
            oldest.remove().1.cancel();
        }
        running.next += 1;
        let (number, evicted) = (running.next, CancellationToken::new());
        running.handshakes.insert(number, (Instant::now(), evicted.clone()));
        Some(Handshake { number, evicted, limit: Arc::clone(self) })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.limit.0.lock().handshakes.remove(&self.number);
    }
}
