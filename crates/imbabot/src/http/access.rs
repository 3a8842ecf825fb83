//! Who may read: hosts that are ours, and whoever brings the token. A page of somebody else's cannot
//! read what is served here through a browser, and nobody can guess the token by trying. The terse
//! probes are for everybody.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use imbabot_scheduler::Clock;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::refuse;

/// So many wrong tokens from one address within [`WINDOW`], and it is not listened to.
const GUESSES: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// So many addresses are remembered; the one that has been quiet for longest is forgotten first.
const ADDRESSES: usize = 1_024;
/// What anybody may ask, by any name: they tell as good as nothing.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// Who may ask.
#[derive(Clone)]
pub(crate) struct Access {
    token: Option<SecretString>,
    allowed_hosts: Arc<[String]>,
    guesses: Arc<Guesses>,
}

/// From where a connection comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Access {
    pub(crate) fn new(
        token: Option<SecretString>,
        allowed_hosts: &[String],
        clock: Arc<dyn Clock>,
    ) -> Self {
        let guesses = Arc::new(Guesses { clock, failures: Mutex::default() });
        Self { token, allowed_hosts: allowed_hosts.into(), guesses }
    }

    /// Lets a request pass, or says with which status and words it is refused.
    fn judge(&self, request: &Request) -> Result<(), (StatusCode, &'static str)> {
        let headers = request.headers();
        if headers.get_all(header::HOST).iter().count() > 1 {
            return Err((StatusCode::BAD_REQUEST, "more than one Host"));
        }
        if PROBES.contains(&request.uri().path()) {
            return Ok(());
        }
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
        let knows = match &self.token {
            Some(token) => self.guesses.knows(token, bearer(headers), peer)?,
            None => false,
        };
        if knows {
            return Ok(());
        }
        if !is_ours(authority(request.uri(), headers), &self.allowed_hosts) {
            return Err((StatusCode::MISDIRECTED_REQUEST, "this host is not served here"));
        }
        match self.token {
            Some(_) => Err((StatusCode::UNAUTHORIZED, "a bearer token is needed")),
            None => Ok(()),
        }
    }
}

/// Refuses whoever may not read.
pub(super) async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.judge(&request) {
        Ok(()) => next.run(request).await,
        Err((status, why)) => refuse(status, why),
    }
}

/// Wrong tokens of the last minute, by address.
struct Guesses {
    clock: Arc<dyn Clock>,
    failures: Mutex<HashMap<IpAddr, Vec<Duration>>>,
}

impl Guesses {
    /// Whether this is the token. After too many that were not, no token of that address is looked
    /// at: the right one would tell a guesser that it is right.
    fn knows(
        &self,
        token: &SecretString,
        given: Option<&str>,
        peer: Option<IpAddr>,
    ) -> Result<bool, (StatusCode, &'static str)> {
        let Some(given) = given else { return Ok(false) };
        let address = network(peer.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        let now = self.clock.elapsed();
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failures) = all.get_mut(&address) {
            failures.retain(|at| now.saturating_sub(*at) < WINDOW);
            if failures.len() >= GUESSES {
                return Err((StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens"));
            }
        }
        if same(token.expose_secret(), given) {
            return Ok(true);
        }
        if all.len() >= ADDRESSES && !all.contains_key(&address) {
            let quiet = all.iter().min_by_key(|(_, failures)| failures.last().copied());
            let quiet = quiet.map(|(address, _)| *address);
            quiet.map(|address| all.remove(&address));
        }
        let failures = all.entry(address).or_default();
        failures.push(now);
        if failures.len() == GUESSES {
            tracing::warn!(
                code = "IMB-H-TOKEN", %address,
                "many wrong tokens: none of this address is looked at for a minute"
            );
        }
        Ok(false)
    }
}

/// Whoever has one IPv6 address has 2⁶⁴ of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?;
    // What is no text is no token, and still a try.
    let (scheme, token) = value.to_str().unwrap_or("Bearer ?").split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Compares without telling by time how much was right.
fn same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a.as_bytes()), Sha256::digest(b.as_bytes()));
    a.iter().zip(b.iter()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Whom a request means: the target counts before the header, as HTTP says.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

fn is_ours(authority: &str, allowed: &[String]) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    let is = |name: &String| {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.eq_ignore_ascii_case(host) || name.eq_ignore_ascii_case(authority)
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
        || allowed.iter().any(is)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    #[test]
    fn only_loopback_names_and_those_that_are_allowed_are_ours() {
        let allowed = ["bots.example".to_owned(), "[2001:db8::1]:80".to_owned()];
        for ours in [
            "localhost",
            "LOCALHOST:9627",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:9627",
            "[::ffff:127.0.0.1]:1",
            "bots.example",
            "Bots.Example:8443",
            "[2001:db8::1]:80",
        ] {
            assert!(is_ours(ours, &allowed), "{ours}");
        }
        for foreign in [
            "",
            "localhost.evil.example",
            "evil.example",
            "bots.example.evil",
            "localhost@evil",
            "localhost:evil",
            "localhost:80@evil.example",
            "127.0.0.1.evil.example",
            "[::1]evil",
            "[::1",
            "0.0.0.0",
            "192.168.0.1:9627",
            "[2001:db8::1]:81",
            "127.0.0.1:99999",
        ] {
            assert!(!is_ours(foreign, &allowed), "{foreign}");
        }
    }

    #[test]
    fn addresses_that_one_host_may_take_as_it_likes_are_one() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn x17_more_addresses_than_are_remembered_take_no_memory() {
        let clock: Arc<dyn Clock> = Arc::new(imbabot_scheduler::SystemClock::new());
        let guesses = Guesses { clock, failures: Mutex::default() };
        let token = SecretString::from("the right one");
        for n in 0..5_000_u32 {
            let address = IpAddr::V4(n.into());
            assert_eq!(guesses.knows(&token, Some("wrong"), Some(address)), Ok(false));
        }
        assert_eq!(guesses.failures.lock().unwrap().len(), ADDRESSES);
        let last = IpAddr::V4(4_999.into());
        for _ in 1..GUESSES {
            assert_eq!(guesses.knows(&token, Some("wrong"), Some(last)), Ok(false));
        }
        assert!(guesses.knows(&token, Some("the right one"), Some(last)).is_err());
        assert_eq!(guesses.knows(&token, Some("the right one"), None), Ok(true), "of another");
    }
}
