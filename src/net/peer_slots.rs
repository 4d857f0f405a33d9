//! Slots for streams that cost no more than memory and that callers may leave open for as long as they like. No
//! connection and no address gets more than its part; when all slots are taken, the address with the most makes room
//! for one that has fewer.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The most slots.
#[derive(Clone, Copy, Debug)]
pub struct MaxSlots {
    /// In all.
    pub total: usize,
    /// Of one address.
    pub per_address: usize,
    /// Of one connection.
    pub per_connection: usize,
}

/// The slots of one kind of stream.
pub struct PeerSlots {
    max: MaxSlots,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// Oldest first.
    slots: BTreeMap<u64, Holder>,
}

#[derive(Clone)]
struct Holder {
    address: IpAddr,
    connection: u64,
    evicted: CancellationToken,
}

/// A slot, until this is dropped.
pub struct PeerSlot {
    number: u64,
    /// Cancelled when its stream has to make room.
    pub evicted: CancellationToken,
    slots: Arc<PeerSlots>,
}

impl PeerSlots {
    /// Slots up to `max`.
    pub fn new(max: MaxSlots) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    /// A slot for a connection of an address, in place of another's if need be; none: it has its part already.
    pub fn take(self: &Arc<Self>, address: IpAddr, connection: u64) -> Option<PeerSlot> {
        let mut taken = self.taken.lock();
        let of_address = taken.slots.values().filter(|holder| holder.address == address).count();
        let of_connection = taken.slots.values().filter(|holder| holder.connection == connection).count();
        if of_connection >= self.max.per_connection {
            return None;
        }
        if of_address >= self.max.per_address {
            taken.evict(of_connection, |holder| (holder.address == address).then_some(holder.connection))?;
        } else if taken.slots.len() >= self.max.total {
            taken.evict(of_address, |holder| Some(holder.address))?;
        }
        taken.next += 1;
        let (number, evicted) = (taken.next, CancellationToken::new());
        taken.slots.insert(number, Holder { address, connection, evicted: evicted.clone() });
        Some(PeerSlot { number, evicted, slots: Arc::clone(self) })
    }
}

impl Taken {
    /// Evicts the oldest stream of the peer with the most; none if no peer would keep more than one that now has `own`
    /// gets: streams must not take turns evicting each other. `peer_of` is none for those that stay anyway.
    fn evict<P: Copy + Eq + Hash>(&mut self, own: usize, peer_of: impl Fn(&Holder) -> Option<P>) -> Option<()> {
        let mut counts = HashMap::new();
        for peer in self.slots.values().filter_map(&peer_of) {
            *counts.entry(peer).or_insert(0) += 1;
        }
        let (fullest, _) = counts.into_iter().filter(|(_, count)| *count > own + 1).max_by_key(|(_, count)| *count)?;
        let (number, _) = self.slots.iter().find(|(_, holder)| peer_of(holder) == Some(fullest))?;
        let number = *number;
        self.slots.remove(&number)?.evicted.cancel();
        Some(())
    }
}

impl Drop for PeerSlot {
    fn drop(&mut self) {
        self.slots.taken.lock().slots.remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
