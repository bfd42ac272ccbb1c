//! Which server version the upstreams announce: read from a greeting, for the gateway's own greetings.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::base::address::Address;
use crate::log;
use crate::upstream::Addresses;
use crate::wire::mysql::handshake::Greeting;

/// How long one endpoint may take to greet.
const PATIENCE: Duration = Duration::from_millis(300);
/// Pauses between rounds double from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// A greeting that is longer is none.
const GREETING_MAX: usize = 4096;
/// Characters of a version that are believed.
const VERSION_MAX: usize = 60;

/// Asks the endpoints until one of them has told its version.
pub(super) async fn learn(mut addresses: watch::Receiver<Arc<Addresses>>) -> Arc<str> {
    let mut pause = FIRST_PAUSE;
    loop {
        let known = Arc::clone(&addresses.borrow_and_update());
        for address in known.by_endpoint.iter().flatten() {
            if let Ok(Some(version)) = timeout(PATIENCE, ask(address)).await {
                log!(
                    Info,
                    "server_version_learned",
                    version = version,
                    from = address
                );
                return version.into();
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

async fn ask(address: &Address) -> Option<String> {
    match address {
        Address::Tcp(address) => read_version(TcpStream::connect(address).await.ok()?).await,
        Address::Unix(path) => read_version(UnixStream::connect(path).await.ok()?).await,
    }
}

async fn read_version(mut stream: impl AsyncRead + Unpin) -> Option<String> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.ok()?;
    let [a, b, c, _sequence] = header;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, 0])).ok()?;
    if length > GREETING_MAX {
        return None;
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    version_of(&payload)
}

/// The version in a greeting; `None` for an error packet, garbage, or a version not fit for clients.
fn version_of(payload: &[u8]) -> Option<String> {
    let greeting = Greeting::decode(payload).ok()?;
    let version = std::str::from_utf8(greeting.version).ok()?;
    let plain = |byte: u8| byte.is_ascii_graphic();
    let fit = version.starts_with(|c: char| c.is_ascii_digit())
        && version.len() <= VERSION_MAX
        && version.bytes().all(plain);
    fit.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn greeting(version: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        let greeting = Greeting {
            version,
            connection_id: 1,
            nonce: [b'n'; 20],
            caps: 0xffff_f7ff,
            mariadb_caps: 0,
            collation: 45,
            status: 2,
            plugin: b"mysql_native_password",
        };
        greeting.encode(&mut payload);
        payload
    }

    #[test]
    fn only_a_plain_version_is_believed() {
        let check = |payload: &[u8], expect: Option<&str>| {
            assert_eq!(version_of(payload).as_deref(), expect, "{payload:?}");
        };
        check(&greeting(b"8.4.3"), Some("8.4.3"));
        check(
            &greeting(b"5.5.5-10.11.6-MariaDB-0+deb12u1"),
            Some("5.5.5-10.11.6-MariaDB-0+deb12u1"),
        );
        check(&greeting(b""), None);
        check(&greeting(b"evil"), None);
        check(&greeting(b"8.4\n.3"), None);
        check(&greeting(&[b'8'; VERSION_MAX + 1]), None);
        check(b"\xff\x10\x04Too many connections", None);
        check(b"", None);
    }

    #[test]
    fn a_dead_and_a_silent_endpoint_are_passed_over() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let by_endpoint = [&dead, &silent, &good]
                .map(|listener| vec![listener.local_addr().unwrap().into()])
                .into();
            drop(dead);
            tokio::spawn(async move {
                let (mut client, _) = good.accept().await.unwrap();
                let payload = greeting(b"10.11.6-MariaDB");
                let length = u8::try_from(payload.len()).unwrap();
                client.write_all(&[length, 0, 0, 0]).await.unwrap();
                client.write_all(&payload).await.unwrap();
            });
            let addresses = Arc::new(Addresses {
                generation: 1,
                by_endpoint,
            });
            let (_keep, addresses) = watch::channel(addresses);
            let version = timeout(Duration::from_secs(20), learn(addresses)).await;
            assert_eq!(&*version.unwrap(), "10.11.6-MariaDB");
            drop(silent);
        });
    }
}
