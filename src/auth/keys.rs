//! The trusted keys: read from a file or fetched from a URL, and refreshed at a bounded rate.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
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

/// How often a file is checked, which is cheap.
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
    /// It is not a key set.
    #[error("{0}")]
    Jwks(#[from] JwksError),
}

/// The trusted keys, and their source.
pub struct Keys {
    source: Location,
    refresh: Duration,
    refetch_pause: Duration,
    max_age: Duration,
    current: RwLock<Option<Fetched>>,
    /// When the keys were last fetched or a fetch last failed. Locked during a fetch.
    last_fetch: Mutex<Option<Instant>>,
}

struct Fetched {
    set: Arc<KeySet>,
    since: Instant,
}

impl Keys {
    /// No keys yet; [`Keys::refresh`] fetches them.
    pub fn new(settings: &Auth) -> Self {
        let is_file = settings.jwks.file().is_some();
        Self {
            source: settings.jwks.clone(),
            refresh: if is_file { settings.jwks_refresh.min(FILE_INTERVAL) } else { settings.jwks_refresh },
            refetch_pause: settings.jwks_refetch_pause,
            max_age: settings.jwks_max_age,
            current: RwLock::new(None),
            last_fetch: Mutex::new(None),
        }
    }

    /// The keys. None if they were never fetched, or are too old to be trusted: a key that was revoked since may be
    /// among them.
    pub fn now(&self) -> Result<Arc<KeySet>, Denial> {
        let current = self.current.read();
        let fresh = current.as_ref().filter(|current| current.since.elapsed() <= self.max_age);
        fresh.map(|current| Arc::clone(&current.set)).ok_or(Denial::KeysUnavailable)
    }

    /// Fetches the keys. The old ones stay in use if that fails.
    pub async fn refresh(&self) -> Result<(), KeysError> {
        let mut last_fetch = self.last_fetch.lock().await;
        self.fetch(&mut last_fetch).await
    }

    /// Fetches the keys for a token whose key is missing in `known`, unless the last fetch is recent: invented key
    /// ids must not cause a fetch each. Returns the current keys.
    pub async fn refresh_for_unknown(&self, known: &Arc<KeySet>) -> Result<Arc<KeySet>, Denial> {
        let mut last_fetch = self.last_fetch.lock().await;
        let is_due = last_fetch.is_none_or(|last| last.elapsed() >= self.refetch_pause);
        // Another call may have fetched them while this one waited for the lock.
        if is_due && Arc::ptr_eq(&self.now()?, known) {
            let _ = self.fetch(&mut last_fetch).await.inspect_err(log);
        }
        self.now()
    }

    /// Refreshes the keys periodically, until `stop`.
    pub async fn keep_fresh(&self, stop: CancellationToken) {
        let mut pause = self.refresh;
        while stop.run_until_cancelled(sleep(pause)).await.is_some() {
            pause = match stop.run_until_cancelled(self.refresh()).await {
                Some(Err(error)) => {
                    log(&error);
                    self.refresh.min(self.refetch_pause)
                }
                _ => self.refresh,
            };
        }
    }

    async fn fetch(&self, last_fetch: &mut Option<Instant>) -> Result<(), KeysError> {
        *last_fetch = Some(Instant::now());
        let since = Instant::now();
        let text = match self.source.url() {
            Some(url) => fetch::get(url).await?.to_vec(),
            None => read(self.source.clone()).await?,
        };
        let set = KeySet::parse(&text)?;
        let mut current = self.current.write();
        let set = match current.take() {
            Some(old) => set.after(&old.set),
            None => set,
        };
        *current = Some(Fetched { set: Arc::new(set), since });
        Ok(())
    }
}

/// Reads a file without blocking a worker of the runtime.
async fn read(source: Location) -> std::io::Result<Vec<u8>> {
    let read = move || std::fs::read(source.file().unwrap_or_else(|| std::path::Path::new("")));
    tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
}

fn log(error: &KeysError) {
    tracing::warn!(%error, "auth.jwks: cannot refresh the keys; the old ones stay in use for auth.jwks_max_age");
}
