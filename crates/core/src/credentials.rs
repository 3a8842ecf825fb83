//! The secret key and what is made from it: the Basic header and the user JWT. A key is never
//! printed, and its memory is wiped when it is dropped; what is made from it lives as long as the
//! request that carries it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::id::{SiteUserId, WidgetId};
use crate::time::Timestamp;

/// The widget's secret key. Whoever has it can speak as any user.
#[derive(Clone)]
pub struct SecretKey(SecretString);

/// Why a text is no secret key. None of them repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretKeyError {
    /// Nothing was given.
    #[error("the secret key is empty")]
    Empty,
    /// Only blanks were given.
    #[error("the secret key is only whitespace")]
    Blank,
    /// The words of an example.
    #[error(
        "the secret key is still the placeholder of an example; copy the real one from the ImbaChat dashboard"
    )]
    Placeholder,
    /// More than one line was given.
    #[error("the secret key has more than one line; the file should hold nothing else")]
    SeveralLines,
}

/// What stands in examples where the key belongs.
const PLACEHOLDERS: &[&str] = &[
    "secret_key",
    "secret-key",
    "secret key",
    "secretkey",
    "imba_id:secret_key",
    "your-secret-key",
    "your_secret_key",
    "your secret key",
    "<secret key>",
    "<secret_key>",
    "changeme",
    "change-me",
    "change_me",
    "replace-me",
    "replace_me",
    "todo",
    "xxx",
    "***",
    "...",
    "…",
];

impl SecretKey {
    /// Takes a key as it stands in a file: one trailing line end is not part of it.
    ///
    /// # Errors
    ///
    /// One of [`SecretKeyError`].
    pub fn parse(text: &str) -> Result<Self, SecretKeyError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(SecretKeyError::Empty);
        }
        if text.trim().is_empty() {
            return Err(SecretKeyError::Blank);
        }
        if text.contains(['\n', '\r']) {
            return Err(SecretKeyError::SeveralLines);
        }
        let lower = text.trim().to_lowercase();
        if PLACEHOLDERS.contains(&lower.as_str()) {
            return Err(SecretKeyError::Placeholder);
        }
        Ok(Self(SecretString::from(text)))
    }

    /// Whether it is the same key; for telling that one was changed, without showing either.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }

    /// Whether this text gives the key away: as it is, or in base64 (at any offset, plain or for
    /// URLs), percent-encoded, in hex, or escaped as in JSON. For tests of whole programs and for
    /// refusing to repeat an answer that does it.
    #[must_use]
    pub fn leaks_into(&self, text: &str) -> bool {
        let key = self.0.expose_secret();
        if text.contains(key) {
            return true;
        }
        let lower = text.to_ascii_lowercase();
        let hex: String = key.bytes().map(|b| format!("{b:02x}")).collect();
        // A few characters of base64 or hex prove nothing.
        if key.len() >= 4 && lower.contains(&hex) {
            return true;
        }
        let escaped = key.escape_debug().to_string();
        let json = serde_json::to_string(key).unwrap_or_default();
        if text.contains(&escaped) || text.contains(json.trim_matches('"')) {
            return true;
        }
        if percent_forms(key).iter().any(|form| lower.contains(form)) {
            return true;
        }
        (0..3).any(|offset| {
            let fragment = base64_fragment(key.as_bytes(), offset);
            let for_urls = fragment.replace('+', "-").replace('/', "_");
            fragment.len() >= 6 && (text.contains(&fragment) || text.contains(&for_urls))
        })
    }

    fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// The characters of base64 that depend on the key alone when `offset` bytes modulo 3 stand before it.
fn base64_fragment(key: &[u8], offset: usize) -> String {
    let skip = (3 - offset) % 3;
    let whole = key.get(skip..).unwrap_or_default();
    let whole = whole.get(..whole.len() / 3 * 3).unwrap_or_default();
    STANDARD_NO_PAD.encode(whole)
}

/// Percent-encoded with and without the unreserved characters, in lower case.
fn percent_forms(key: &str) -> [String; 2] {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let some = key.bytes().map(|b| match b {
        b if unreserved(b) => char::from(b).to_ascii_lowercase().to_string(),
        b => format!("%{b:02x}"),
    });
    let all = key.bytes().map(|b| format!("%{b:02x}"));
    // A key of plain letters is its own percent-encoding: only the case would differ.
    let some: String = some.collect();
    let all: String = all.collect();
    if some.contains('%') { [some, all] } else { [all.clone(), all] }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A widget and its key: everything that ImbaChat asks for.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The widget, which is the login.
    pub widget: WidgetId,
    /// Its key, which is the password.
    pub secret: SecretKey,
}

impl Credentials {
    /// These two together.
    #[must_use]
    pub fn new(widget: WidgetId, secret: SecretKey) -> Self {
        Self { widget, secret }
    }

    /// The value of the `Authorization` header.
    #[must_use]
    pub fn basic_header(&self) -> SecretString {
        let pair = SecretString::from(format!("{}:{}", self.widget, self.secret.expose()));
        SecretString::from(format!("Basic {}", STANDARD.encode(pair.expose_secret())))
    }

    /// A token with which this user of the site speaks for themselves, as ImbaChat's own plugins
    /// make it: HS256 under the secret key, claims `exp` and `user_id`.
    #[must_use]
    pub fn jwt(&self, user: &SiteUserId, expires: Timestamp) -> SecretString {
        // A SiteUserId has no control characters and serialises without failing.
        let user = serde_json::to_string(user).unwrap_or_default();
        let claims = format!(r#"{{"exp":{},"user_id":{user}}}"#, expires.as_seconds());
        SecretString::from(hs256(self.secret.expose().as_bytes(), &claims))
    }
}

fn hs256(key: &[u8], claims: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SecretKey {
        SecretKey::parse(text).unwrap()
    }

    #[test]
    fn a_key_is_refused_when_it_is_nothing_or_an_example() {
        let error = |text| SecretKey::parse(text).unwrap_err();
        assert_eq!(error(""), SecretKeyError::Empty);
        assert_eq!(error("\n"), SecretKeyError::Empty);
        assert_eq!(error("  \t"), SecretKeyError::Blank);
        assert_eq!(error("a\nb"), SecretKeyError::SeveralLines);
        for text in ["secret_key", "imba_id:secret_key", "your-secret-key", "CHANGEME\n", "..."] {
            assert_eq!(error(text), SecretKeyError::Placeholder, "{text}");
        }
        assert!(SecretKey::parse("simulator-secret").is_ok());
    }

    #[test]
    fn one_line_end_is_not_part_of_the_key() {
        assert_eq!(key("abc\r\n").expose(), "abc");
        assert_eq!(key(" abc ").expose(), " abc ");
    }

    #[test]
    fn a_key_prints_as_stars() {
        let credentials = Credentials::new(WidgetId(627), key("Tr0ub4dor&3"));
        assert_eq!(format!("{} {:?}", credentials.secret, credentials.secret), "*** ***");
        assert!(!format!("{credentials:?}").contains("Tr0ub4dor"));
    }

    #[test]
    fn the_basic_header_is_widget_and_key() {
        let credentials = Credentials::new(WidgetId(627), key("open sesame"));
        // printf '627:open sesame' | base64
        assert_eq!(credentials.basic_header().expose_secret(), "Basic NjI3Om9wZW4gc2VzYW1l");
    }

    #[test]
    fn a_token_is_signed_as_the_plugins_sign_it() {
        // RFC 7515 gives no vector with this header, so: the example that jwt.io opened with
        // (key `secret`), to pin the signature, then our own claims.
        let header = r#"{"alg":"HS256","typ":"JWT"}"#;
        let claims = r#"{"sub":"1234567890","name":"John Doe","admin":true}"#;
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
        mac.update(signed.as_bytes());
        assert_eq!(
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()),
            "TJVA95OrM7E2cBab30RMHrHDcEfxjoYZgeFONFh7HgQ"
        );

        let credentials = Credentials::new(WidgetId(627), key("open sesame"));
        let token = credentials.jwt(&SiteUserId::from(1), Timestamp::from_seconds(1_600_000_000));
        let parts: Vec<&str> = token.expose_secret().split('.').collect();
        let decode = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(decode(parts[0]), r#"{"typ":"JWT","alg":"HS256"}"#);
        assert_eq!(decode(parts[1]), r#"{"exp":1600000000,"user_id":1}"#);
        let named = credentials.jwt(&"P11-A".parse().unwrap(), Timestamp::EPOCH);
        let claims = decode(named.expose_secret().split('.').nth(1).unwrap());
        assert_eq!(claims, r#"{"exp":0,"user_id":"P11-A"}"#);
    }

    #[test]
    fn hmac_sha256_agrees_with_rfc_4231() {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        let digest: String =
            mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(digest, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn a_leak_is_seen_in_every_disguise() {
        let key = key("Tr0ub4dor&3/+x");
        assert!(key.leaks_into("password is Tr0ub4dor&3/+x."));
        for prefix in ["", "6", "62", "627:"] {
            let pair = format!("{prefix}Tr0ub4dor&3/+x and more");
            assert!(key.leaks_into(&format!("x {} y", STANDARD.encode(&pair))), "{prefix}");
            assert!(key.leaks_into(&URL_SAFE_NO_PAD.encode(&pair)), "{prefix}");
        }
        assert!(key.leaks_into("?k=Tr0ub4dor%263%2F%2Bx"));
        let hex: String = "Tr0ub4dor&3/+x".bytes().map(|b| format!("{b:02X}")).collect();
        assert!(key.leaks_into(&hex));
        assert!(!key.leaks_into("Basic *** nothing here"));
    }
}
