//! A listener as one shard sees it, and what is exact for the process about it.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::spec::ListenerSpec;
use crate::rt::clock;

/// A listener on one shard. Connections hold it, not the snapshot.
pub struct Port {
    spec: RefCell<Rc<ListenerSpec>>,
    /// Shared by the shards.
    pub open: Arc<Open>,
    /// No further connections; held ones close after their answer.
    pub closing: Cell<bool>,
    /// Since when ([`clock`] time).
    pub closing_since: Cell<u64>,
    /// Told when `closing` is set.
    pub stop: Notify,
}

/// Open connections of a listener, exact for the process.
#[derive(Debug, Default)]
pub struct Open {
    total: AtomicU64,
    by_address: Mutex<HashMap<u128, u32, foldhash::fast::RandomState>>,
}

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// `max_connections`.
    Listener(u64),
    /// `max_connections_per_ip`.
    Address(u64),
}

/// A connection's place. Given back when dropped.
pub struct Place {
    open: Arc<Open>,
    address: Option<u128>,
}

impl Port {
    /// A listener on this shard.
    pub fn new(spec: &ListenerSpec, open: Arc<Open>) -> Rc<Self> {
        Rc::new(Self {
            spec: RefCell::new(Rc::new(spec.clone())),
            open,
            closing: Cell::new(false),
            closing_since: Cell::new(0),
            stop: Notify::new(),
        })
    }

    /// Its limits now. A copy of this shard's own: cloning it touches no shared counter.
    pub fn spec(&self) -> Rc<ListenerSpec> {
        self.spec.borrow().clone()
    }

    /// New limits after a reload: for new connections, and for held ones from their next request on.
    pub fn update(&self, spec: &ListenerSpec) {
        *self.spec.borrow_mut() = Rc::new(spec.clone());
    }

    /// Ends accepting, on each of its sockets, once their accept queues are empty.
    pub fn close(&self) {
        self.closing.set(true);
        self.closing_since.set(clock::now());
        self.stop.notify_waiters();
    }
}

impl Open {
    /// Open connections.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// A place for a connection from `ip`.
    pub fn enter(self: &Arc<Self>, ip: IpAddr, spec: &ListenerSpec) -> Result<Place, Full> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= spec.max_connections {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Listener(spec.max_connections));
        }
        // From here on the total is given back by the place.
        let mut place = Place { open: self.clone(), address: None };
        if spec.max_connections_per_ip != 0 {
            let address = network(ip);
            let mut by_address = self.by_address.lock();
            let count = by_address.entry(address).or_insert(0);
            if u64::from(*count) >= spec.max_connections_per_ip {
                drop(by_address);
                return Err(Full::Address(spec.max_connections_per_ip));
            }
            *count += 1;
            place.address = Some(address);
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.total.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut by_address = self.open.by_address.lock();
            if let Some(count) = by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}

/// What counts as one client: an IPv4 address (mapped ones too), or an IPv6 /64.
fn network(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6) & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_v6_network_is_one_client_and_v4_is_its_mapped_form() {
        let of = |s: &str| network(s.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
