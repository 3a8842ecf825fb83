//! A door with TLS in front of a server, and one that only listens; both write down every byte that
//! a client sent.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::disallowed_methods, reason = "the other end of a socket")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

macro_rules! pem {
    ($name:literal) => {
        include_bytes!(concat!("../fixtures/tls/", $name))
    };
}

pub(crate) const CA: &[u8] = pem!("ca.pem");
pub(crate) const GOOD: &[u8] = pem!("good.pem");
pub(crate) const EXPIRED: &[u8] = pem!("expired.pem");
pub(crate) const NOT_YET_VALID: &[u8] = pem!("not-yet-valid.pem");
pub(crate) const WRONG_NAME: &[u8] = pem!("wrong-name.pem");
pub(crate) const UNKNOWN_CA: &[u8] = pem!("unknown-ca.pem");

/// A door. It is open as long as the runtime lives.
pub(crate) struct Front {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Front {
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What each connection brought, as it came over the wire.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().clone()
    }
}

/// TLS with this certificate in front of a server.
pub(crate) async fn front(certificate: &[u8], behind: SocketAddr) -> Front {
    let chain = vec![CertificateDer::from_pem_slice(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pem!("leaf.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = inner.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = inner.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let Ok(mut server) = TcpStream::connect(behind).await else { return };
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    pass_on(address).await
}

/// Passes every byte on, and writes down those of the client.
pub(crate) async fn pass_on(behind: SocketAddr) -> Front {
    let outer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = outer.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((client, _)) = outer.accept().await {
            let place = {
                let mut all = all.lock().unwrap();
                all.push(Vec::new());
                all.len() - 1
            };
            let all = Arc::clone(&all);
            let Ok(server) = TcpStream::connect(behind).await else { continue };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let mut buffer = [0; 16 * 1024];
                while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
                    all.lock().unwrap()[place].extend_from_slice(&buffer[..n]);
                    if to_server.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        }
    });
    Front { address, heard }
}

/// None of what a request is made of is in these bytes.
#[track_caller]
pub(crate) fn assert_nothing_told(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    for word in ["post ", "imbachat", "authorization", "basic ", "user-agent"] {
        assert!(!text.contains(word), "{word:?} was told in plain text");
    }
}
