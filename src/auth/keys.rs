//! The keys that are trusted: read from a file or fetched from a URL, kept, and renewed at a bounded
//! rate.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    denial::Denial,
    fetch::{self, FetchError},
    jwks::{JwksError, KeySet},
};
use crate::config::{Auth, Location};

/// How often a file is looked at: that costs nothing.
const FILE_INTERVAL: Duration = Duration::from_secs(5);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be read.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// The URL can't be fetched.
    #[error("{0}")]
    Fetch(#[from] FetchError),
    /// What is there is no key set.
    #[error("{0}")]
    Jwks(#[from] JwksError),
}

/// The keys that are trusted now, and where new ones come from.
pub struct Keys {
    from: Location,
    refresh: Duration,
    refetch_pause: Duration,
    max_age: Duration,
    kept: RwLock<Option<Kept>>,
    /// When keys were last fetched, or tried to be. Locked while they are: one at a time.
    turn: Mutex<Option<Instant>>,
}

struct Kept {
    set: Arc<KeySet>,
    since: Instant,
}

impl Keys {
    /// No keys yet; [`Keys::renew`] gets them.
    pub fn new(settings: &Auth) -> Self {
        let is_file = settings.jwks.file().is_some();
        Self {
            from: settings.jwks.clone(),
            refresh: if is_file { settings.jwks_refresh.min(FILE_INTERVAL) } else { settings.jwks_refresh },
            refetch_pause: settings.jwks_refetch_pause,
            max_age: settings.jwks_max_age,
            kept: RwLock::new(None),
            turn: Mutex::new(None),
        }
    }

    /// The keys, unless there never were any or they are too old to be trusted: a key that was
    /// withdrawn meanwhile would still be among them.
    pub fn now(&self) -> Result<Arc<KeySet>, Denial> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept.as_ref().filter(|kept| kept.since.elapsed() <= self.max_age);
        fresh.map(|kept| Arc::clone(&kept.set)).ok_or(Denial::KeysUnavailable)
    }

    /// Gets the keys anew. The old stay where that fails.
    pub async fn renew(&self) -> Result<(), KeysError> {
        let mut turn = self.turn.lock().await;
        self.fetch(&mut turn).await
    }

    /// Gets the keys anew for a token that names one that is not among `known`, unless that was tried a
    /// moment ago: whoever invents names must not make us ask each time. Returns those that are kept
    /// then.
    pub async fn renew_for_unknown(&self, known: &Arc<KeySet>) -> Result<Arc<KeySet>, Denial> {
        let mut turn = self.turn.lock().await;
        let is_due = turn.is_none_or(|last| last.elapsed() >= self.refetch_pause);
        // Others may have got them while this one waited for its turn.
        if is_due && Arc::ptr_eq(&self.now()?, known) {
            let _ = self.fetch(&mut turn).await.inspect_err(log);
        }
        self.now()
    }

    /// Renews them again and again, until `stop`.
    pub async fn keep_fresh(&self, stop: CancellationToken) {
        let mut pause = self.refresh;
        while stop.run_until_cancelled(sleep(pause)).await.is_some() {
            let renewed = stop.run_until_cancelled(self.renew()).await;
            pause = match renewed {
                Some(Err(error)) => {
                    log(&error);
                    self.refresh.min(self.refetch_pause)
                }
                _ => self.refresh,
            };
        }
    }

    async fn fetch(&self, turn: &mut Option<Instant>) -> Result<(), KeysError> {
        *turn = Some(Instant::now());
        let since = Instant::now();
        let text = match self.from.url() {
            Some(url) => fetch::get(url).await?.to_vec(),
            None => read(self.from.clone()).await?,
        };
        let set = KeySet::parse(&text)?;
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let set = match kept.take() {
            Some(old) => set.after(&old.set),
            None => set,
        };
        *kept = Some(Kept { set: Arc::new(set), since });
        Ok(())
    }
}

/// Reads a file without keeping a worker of the runtime waiting for the disk.
async fn read(from: Location) -> std::io::Result<Vec<u8>> {
    let read = move || std::fs::read(from.file().unwrap_or_else(|| std::path::Path::new("")));
    tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
}

fn log(error: &KeysError) {
    tracing::warn!(%error, "auth.jwks: the keys could not be renewed; the old stay in use for auth.jwks_max_age");
}
