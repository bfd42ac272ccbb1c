//! Where the endpoints are: host names looked up off the cores, repeatedly, the last good answer kept.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::status::Status;
use crate::base::address::{Address, Destination};
use crate::log;
use crate::upstream::Addresses;

/// How often names are looked up again.
const REFRESH: Duration = Duration::from_secs(30);
/// How soon names that have never been resolved are tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long one look-up may take before it counts as failed.
const LOOKUP: Duration = Duration::from_secs(5);

/// The endpoints of one generation of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) generation: u64,
    pub(super) destinations: Arc<[Destination]>,
}

/// Last good answers by destination.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<Destination, Vec<Address>>);

impl Known {
    /// The addresses of `wanted` as far as they are known.
    pub(super) fn addresses(&self, wanted: &Wanted) -> Addresses {
        let of = |wanted: &Destination| self.0.get(wanted).cloned().unwrap_or_default();
        Addresses {
            generation: wanted.generation,
            by_endpoint: wanted.destinations.iter().map(of).collect(),
        }
    }

    /// Whether every destination of `wanted` has an address.
    fn is_complete(&self, wanted: &Wanted) -> bool {
        let mut destinations = wanted.destinations.iter();
        destinations.all(|destination| self.0.contains_key(destination))
    }

    /// Looks every host of `wanted` up, all at once, each for at most `patience`. A failed look-up
    /// leaves the last good answer.
    pub(super) async fn refresh(&mut self, wanted: &Wanted, patience: Duration, status: &Status) {
        let destinations = &wanted.destinations;
        self.0.retain(|known, _| destinations.contains(known));
        let mut lookups = tokio::task::JoinSet::new();
        for destination in destinations.iter() {
            let (name, port) = match known_at_once(destination) {
                Ok(address) => {
                    self.0.insert(destination.clone(), vec![address]);
                    continue;
                }
                Err((name, port)) => (name.to_owned(), port),
            };
            let destination = destination.clone();
            lookups.spawn(async move {
                let found = timeout(patience, look_up(&name, port)).await;
                let found = found.unwrap_or_else(|_| Err("no answer in time".into()));
                (destination, found)
            });
        }
        while let Some(ended) = lookups.join_next().await {
            match ended {
                Ok((destination, Ok(addresses))) => {
                    self.0.insert(destination, addresses);
                }
                Ok((destination, Err(error))) => {
                    status.resolve_failures.fetch_add(1, Ordering::Relaxed);
                    let kept = self.0.contains_key(&destination);
                    log!(
                        Warn,
                        "resolve_failed",
                        host = destination,
                        error = error,
                        kept = kept
                    );
                }
                // A look-up that panicked has logged itself.
                Err(_) => {}
            }
        }
    }
}

/// The address of what needs no look-up; else the name and port to look up.
fn known_at_once(destination: &Destination) -> Result<Address, (&str, u16)> {
    match destination {
        Destination::Unix(path) => Ok(Address::Unix(path.clone())),
        Destination::Host { name, port } => match name.parse::<IpAddr>() {
            Ok(literal) => Ok(SocketAddr::new(literal, *port).into()),
            Err(_) => Err((name, *port)),
        },
    }
}

async fn look_up(name: &str, port: u16) -> Result<Vec<Address>, String> {
    let found = tokio::net::lookup_host((name, port)).await;
    let addresses = found.map_err(|error| error.to_string())?;
    let addresses: Vec<_> = addresses.map(Address::from).collect();
    match addresses.is_empty() {
        true => Err("the name has no address".into()),
        false => Ok(addresses),
    }
}

/// Keeps the addresses of what is `wanted` up to date for ever; each change goes to `changed`.
pub(super) async fn keep_resolving(
    mut known: Known,
    mut wanted: watch::Receiver<Wanted>,
    changed: mpsc::Sender<Addresses>,
    status: Arc<Status>,
) {
    let mut told = known.addresses(&wanted.borrow_and_update());
    loop {
        let now = wanted.borrow_and_update().clone();
        let wait = if known.is_complete(&now) {
            REFRESH
        } else {
            RETRY
        };
        let asked = timeout(wait, wanted.changed()).await;
        if matches!(asked, Ok(Err(_))) {
            return;
        }
        let now = wanted.borrow_and_update().clone();
        known.refresh(&now, LOOKUP, &status).await;
        let addresses = known.addresses(&now);
        if addresses != told {
            told = addresses.clone();
            if changed.send(addresses).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn host(name: &str) -> Destination {
        Destination::Host {
            name: name.into(),
            port: 3306,
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn literals_and_local_names_resolve_and_a_bad_name_keeps_the_last_good_answer() {
        run(async {
            let status = Status::new(1, Instant::now(), 0);
            let mut known = Known::default();
            let bad = host("no such host");
            let old = Address::from(SocketAddr::from(([192, 0, 2, 7], 3306)));
            known.0.insert(bad.clone(), vec![old.clone()]);
            known.0.insert(host("forgotten"), vec![old.clone()]);
            let wanted = Wanted {
                generation: 4,
                destinations: [
                    host("::1"),
                    host("localhost"),
                    bad,
                    host("also bad"),
                    Destination::Unix("/run/x".into()),
                ]
                .into(),
            };
            known.refresh(&wanted, LOOKUP, &status).await;
            let addresses = known.addresses(&wanted);
            assert_eq!(addresses.generation, 4);
            assert_eq!(
                addresses.by_endpoint[0],
                ["[::1]:3306".parse::<Address>().unwrap()]
            );
            assert!(
                addresses.by_endpoint[1]
                    .iter()
                    .all(|a| a.tcp().is_some_and(|a| a.ip().is_loopback()))
            );
            assert!(!addresses.by_endpoint[1].is_empty());
            assert_eq!(addresses.by_endpoint[2], [old]);
            assert!(addresses.by_endpoint[3].is_empty());
            let path = Address::Unix("/run/x".into());
            assert_eq!(addresses.by_endpoint[4], [path]);
            assert_eq!(status.resolve_failures.load(Ordering::Relaxed), 2);
            assert!(!known.is_complete(&wanted));
            assert_eq!(known.0.len(), 4);
        });
    }

    #[test]
    fn new_hosts_are_resolved_at_once_and_told() {
        run(async {
            let status = Arc::new(Status::new(1, Instant::now(), 0));
            let (want, wanted) = watch::channel(Wanted::default());
            let (sender, mut changed) = mpsc::channel(1);
            tokio::spawn(keep_resolving(Known::default(), wanted, sender, status));
            let next = Wanted {
                generation: 2,
                destinations: [host("127.0.0.1")].into(),
            };
            want.send(next).unwrap();
            let addresses = timeout(Duration::from_secs(10), changed.recv()).await;
            let addresses = addresses.unwrap().unwrap();
            assert_eq!(addresses.generation, 2);
            assert_eq!(addresses.by_endpoint.len(), 1);
        });
    }
}
