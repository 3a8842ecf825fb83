//! The address of the API: checked once, so that nobody has to look at it again. It never holds
//! credentials, and never points at the addresses from which clouds hand out theirs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use url::{Host, Url};

/// Where the API lives: scheme, host, port, and a path if it is not at the root.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl(Url);

/// Why a text is no base URL. None of them repeats the text: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseUrlError {
    /// Not a URL at all.
    #[error("not a URL: {0}; write it as https://api.imbachat.com")]
    Malformed(String),
    /// Neither https nor http.
    #[error("the scheme {0:?} is not supported; use https")]
    Scheme(String),
    /// Plain http to another machine.
    #[error(
        "plain http would send the secret key unencrypted to {0}; use https, or set \
         allow_insecure_http = true"
    )]
    Insecure(String),
    /// A user name or password in the URL.
    #[error(
        "a URL with a user name or password is not accepted; put the secret in secret_key_file"
    )]
    Userinfo,
    /// Something after `?`.
    #[error("a base URL has no query (the part after '?')")]
    Query,
    /// Something after `#`.
    #[error("a base URL has no fragment (the part after '#')")]
    Fragment,
    /// No host.
    #[error("the URL names no host")]
    NoHost,
    /// A link-local or metadata address.
    #[error("{0} is a link-local or metadata address, where no chat server lives")]
    LinkLocal(String),
}

impl BaseUrl {
    /// Reads and checks an address. Plain http is accepted to loopback, and elsewhere only with
    /// `allow_insecure_http`.
    ///
    /// # Errors
    ///
    /// One of [`BaseUrlError`] per reason.
    pub fn parse(text: &str, allow_insecure_http: bool) -> Result<Self, BaseUrlError> {
        let mut url = Url::parse(text.trim()).map_err(|why| match why {
            url::ParseError::EmptyHost => BaseUrlError::NoHost,
            other => BaseUrlError::Malformed(other.to_string()),
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BaseUrlError::Scheme(crate::text::escape_foreign(url.scheme(), 30)));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlError::Userinfo);
        }
        if url.query().is_some() {
            return Err(BaseUrlError::Query);
        }
        if url.fragment().is_some() {
            return Err(BaseUrlError::Fragment);
        }
        let host = url.host().ok_or(BaseUrlError::NoHost)?;
        if is_link_local(&host) {
            return Err(BaseUrlError::LinkLocal(host.to_string()));
        }
        if url.scheme() == "http" && !is_loopback_host(&host) && !allow_insecure_http {
            return Err(BaseUrlError::Insecure(host.to_string()));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// `https://host[:port]`, without a path.
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// The host as written in the URL.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The port, given or usual for the scheme.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// Whether it is https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it points at this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.0.host().is_some_and(|host| is_loopback_host(&host))
    }

    /// Plain http to another machine: worth a warning at every start.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        !self.is_https() && !self.is_loopback()
    }

    /// Whether an address lies on this server: the same host, and the same port or, where both
    /// schemes have their usual ports, whichever of them. Behind a proxy that ends TLS, PHP names
    /// `http` where it is reached by `https`.
    pub(crate) fn is_home_of(&self, address: &Url) -> bool {
        // Of a port that is usual for its scheme, `port` says nothing.
        let both_usual = address.port().is_none() && self.0.port().is_none();
        matches!(address.scheme(), "http" | "https")
            && address.host() == self.0.host()
            && (both_usual || address.port_or_known_default() == Some(self.port()))
    }

    /// The address of a path below this one; the path starts with `/`.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin(), self.0.path().trim_end_matches('/'))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.join(""))
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.join(""))
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;
    /// As [`BaseUrl::parse`] without `allow_insecure_http`.
    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        Self::parse(text, false)
    }
}

/// The origin of an absolute URL; `None` for a relative or a strange one.
pub(crate) fn origin_of(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    let origin = url.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

fn ip(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(*ip), IpAddr::V4)),
        Host::Domain(_) => None,
    }
}

fn is_loopback_host(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        _ => ip(host).is_some_and(|ip| ip.is_loopback()),
    }
}

/// 169.254.0.0/16 and fe80::/10, where clouds answer with credentials, and their other addresses.
fn is_link_local(host: &Host<&str>) -> bool {
    const AWS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    match ip(host) {
        Some(IpAddr::V4(ip)) => ip.is_link_local() || ip == ALIBABA || ip.is_unspecified(),
        Some(IpAddr::V6(ip)) => {
            ip.segments()[0] & 0xffc0 == 0xfe80 || ip == AWS_V6 || ip.is_unspecified()
        }
        None => matches!(host, Host::Domain(name)
            if name.trim_end_matches('.').eq_ignore_ascii_case("metadata.google.internal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> BaseUrlError {
        BaseUrl::parse(text, false).unwrap_err()
    }

    #[test]
    fn https_is_taken_anywhere_and_http_at_home() {
        for text in [
            "https://api.imbachat.com",
            "https://chat.example:8443/",
            "http://127.0.0.1:9628",
            "http://localhost:80",
            "http://[::1]:1234",
        ] {
            assert!(BaseUrl::parse(text, false).is_ok(), "{text}");
        }
        assert_eq!(
            error("http://api.imbachat.com"),
            BaseUrlError::Insecure("api.imbachat.com".into())
        );
        let insecure = BaseUrl::parse("http://api.imbachat.com", true).unwrap();
        assert!(insecure.is_insecure());
    }

    #[test]
    fn every_refusal_has_its_reason_and_none_repeats_a_password() {
        assert_eq!(error("https://627:hunter2@api.imbachat.com"), BaseUrlError::Userinfo);
        assert_eq!(error("https://api.imbachat.com/?token=hunter2"), BaseUrlError::Query);
        assert_eq!(error("https://api.imbachat.com/#x"), BaseUrlError::Fragment);
        assert_eq!(error("ftp://api.imbachat.com"), BaseUrlError::Scheme("ftp".into()));
        assert_eq!(error("file:///etc/passwd"), BaseUrlError::Scheme("file".into()));
        assert_eq!(error("https://"), BaseUrlError::NoHost);
        assert!(matches!(error("api.imbachat.com"), BaseUrlError::Malformed(_)));
        for text in ["https://627:hunter2@api.imbachat.com", "https://x:hunter2@[bad"] {
            assert!(!error(text).to_string().contains("hunter2"));
        }
    }

    #[test]
    fn metadata_services_are_no_chat_servers_in_any_spelling() {
        for text in [
            "https://169.254.169.254",
            "http://169.254.169.254",
            "https://0xa9fea9fe/",
            "https://2852039166",
            "https://[fe80::1]",
            "https://[febf::1]",
            "https://[::ffff:169.254.169.254]",
            "https://[fd00:ec2::254]",
            "https://metadata.google.internal.",
        ] {
            assert!(matches!(error(text), BaseUrlError::LinkLocal(_)), "{text}");
            assert!(BaseUrl::parse(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_prefix_stays_and_a_trailing_slash_does_not() {
        let join =
            |text: &str| BaseUrl::parse(text, false).unwrap().join("/imbachat/v2/1/send_msg");
        assert_eq!(join("https://x.example"), "https://x.example/imbachat/v2/1/send_msg");
        assert_eq!(
            join("https://x.example/chat/"),
            "https://x.example/chat/imbachat/v2/1/send_msg"
        );
        assert_eq!(join("https://x.example:443"), "https://x.example/imbachat/v2/1/send_msg");
    }

    #[test]
    fn an_origin_drops_path_query_and_userinfo() {
        let origin = |text| origin_of(text);
        assert_eq!(
            origin("https://u:p@evil.example:8443/x?y=z").unwrap(),
            "https://evil.example:8443"
        );
        assert_eq!(origin("/relative"), None);
        assert_eq!(origin("javascript:alert(1)"), None);
    }
}
