//! A limit on the connections of one listener: in all, and from one address. That of gRPC is by the file descriptors of
//! the process; the others have few, among those that it leaves.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use parking_lot::Mutex;

/// File descriptors that are kept for everything else: the database, the broker, files, other listeners.
const OTHER_FILES: u64 = 256;

/// The open connections of a listener.
pub struct ConnectionLimit {
    max: usize,
    /// 0: no limit.
    max_per_address: u32,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, u32>,
}

/// A connection that counts until this is dropped.
pub struct Slot {
    address: IpAddr,
    limit: Arc<ConnectionLimit>,
}

impl ConnectionLimit {
    /// As many connections as the system gives file descriptors for, and `max_per_address` from one address.
    pub fn by_file_descriptors(max_per_address: u32) -> Arc<Self> {
        Self::new(file_descriptors(), max_per_address)
    }

    /// `max` connections, and `max_per_address` from one address.
    pub fn new(max: usize, max_per_address: u32) -> Arc<Self> {
        Arc::new(Self { max, max_per_address, open: Mutex::default() })
    }

    /// A slot for a connection, or the reason for the metrics why there is none.
    pub fn try_open(self: &Arc<Self>, address: IpAddr) -> Result<Slot, &'static str> {
        let mut open = self.open.lock();
        if open.total >= self.max {
            return Err("too_many");
        }
        let of_address = open.by_address.entry(address).or_default();
        if self.max_per_address > 0 && *of_address >= self.max_per_address {
            return Err("too_many_of_address");
        }
        *of_address += 1;
        open.total += 1;
        Ok(Slot { address, limit: Arc::clone(self) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.limit.open.lock();
        open.total -= 1;
        if let Some(of_address) = open.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// The file descriptors that connections may take, after raising the limit as far as the system allows.
fn file_descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit.saturating_sub(OTHER_FILES).max(limit / 2)).unwrap_or(usize::MAX)
}
