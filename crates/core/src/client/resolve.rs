//! Looks host names up. The system's lookup blocks its thread for as long as name servers please,
//! half a minute and more: so each lookup has a thread of its own, one per name in the whole
//! process, and whoever needs the name meanwhile waits for that one. Nobody else's thread is ever
//! held up, and a process that ends does not wait.
//!
//! Answers are not cached: a name that moves is followed with the next connection. But for the one
//! that came too late for those who had asked: where the first name server is dead, every lookup
//! takes longer than a connection may, and without this no connection would ever come about.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::oneshot;

/// How long an answer is good that came too late.
const LATE: Duration = Duration::from_secs(10);

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;
/// Errors cannot be cloned, their words can.
type Answer = Result<Vec<IpAddr>, (io::ErrorKind, String)>;

/// Turns names into addresses. Clones share their lookups.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    lookup: Box<Lookup>,
    names: Mutex<HashMap<String, Known>>,
}

/// What is going on about a name, or was a moment ago.
enum Known {
    Asked(Vec<oneshot::Sender<Answer>>),
    Late(Instant, Vec<IpAddr>),
}

impl Resolver {
    /// The system's: `/etc/hosts`, the name servers, whatever the host is set up for.
    #[must_use]
    pub fn system() -> Self {
        static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| {
            Resolver::new(|name| {
                Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
            })
        });
        SYSTEM.clone()
    }

    /// Another one, which may take as long as it likes; for tests.
    #[must_use]
    pub fn new(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { lookup: Box::new(lookup), names: Mutex::default() }))
    }

    /// Asks, or waits for who asked already.
    fn ask(&self, name: &str) -> io::Result<oneshot::Receiver<Answer>> {
        let (tell, told) = oneshot::channel();
        let mut names = self.names();
        match names.get_mut(name) {
            Some(Known::Asked(waiting)) => {
                waiting.push(tell);
                return Ok(told);
            }
            Some(Known::Late(at, addresses)) if at.elapsed() < LATE => {
                let _ = tell.send(Ok(addresses.clone()));
                return Ok(told);
            }
            _ => {}
        }
        let (resolver, owned) = (self.clone(), name.to_owned());
        std::thread::Builder::new()
            .name("imbabot-dns".into())
            .spawn(move || resolver.look_up(&owned))?;
        names.insert(name.to_owned(), Known::Asked(vec![tell]));
        Ok(told)
    }

    fn look_up(&self, name: &str) {
        // Tells those who wait even if the lookup panics.
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.0.lookup)(name)));
        let answer = match end {
            Ok(Ok(addresses)) if addresses.is_empty() => {
                Err((io::ErrorKind::NotFound, "the name has no address".to_owned()))
            }
            Ok(answer) => answer.map_err(|error| (error.kind(), error.to_string())),
            Err(_) => Err((io::ErrorKind::Other, "the lookup failed".to_owned())),
        };
        let mut names = self.names();
        let Some(Known::Asked(waiting)) = names.remove(name) else { return };
        let mut heard = false;
        for tell in waiting {
            heard |= tell.send(answer.clone()).is_ok();
        }
        if let (false, Ok(addresses)) = (heard, answer) {
            #[expect(clippy::disallowed_methods, reason = "the age of an answer, in real time")]
            names.insert(name.to_owned(), Known::Late(Instant::now(), addresses));
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let asked = self.ask(name.as_str());
        Box::pin(async move {
            let answer = asked?.await.unwrap_or_else(|_| {
                Err((io::ErrorKind::Other, "the lookup ended without an answer".to_owned()))
            });
            match answer {
                Ok(addresses) => {
                    let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
                    Ok(Box::new(addresses) as Addrs)
                }
                Err((kind, words)) => Err(io::Error::new(kind, words).into()),
            }
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}
