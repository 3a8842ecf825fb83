//! JSON Web Tokens as the vendor's plugins sign them: HS256 with the Secret key, claims `exp` and
//! `user_id`. Only verifies; the simulator hands out no tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// The token's `user_id`, if its signature is good and its `exp` lies ahead.
pub(super) fn user_id(token: &str, secret: &str, server_time: i64) -> Option<String> {
    let (signed, signature) = token.trim().rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(signed.as_bytes());
    mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    if json(header)?.get("alg")? != "HS256" {
        return None;
    }
    let claims = json(claims)?;
    if claims.get("exp")?.as_i64()? <= server_time {
        return None;
    }
    match claims.get("user_id")? {
        Value::Number(id) => Some(id.to_string()),
        Value::String(id) => Some(id.clone()),
        _ => None,
    }
}

fn json(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
pub(crate) fn sign(header: &str, claims: &str, secret: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

    fn check(header: &str, claims: &str, secret: &str, expected: Option<&str>) {
        let token = sign(header, claims, secret);
        assert_eq!(user_id(&token, "key", 100).as_deref(), expected, "{header} {claims}");
    }

    #[test]
    fn a_good_token_names_its_user() {
        check(HEADER, r#"{"exp":101,"user_id":7}"#, "key", Some("7"));
        check(HEADER, r#"{"exp":101,"user_id":"P11-A"}"#, "key", Some("P11-A"));
    }

    #[test]
    fn an_expired_foreign_or_incomplete_token_is_refused() {
        check(HEADER, r#"{"exp":100,"user_id":7}"#, "key", None);
        check(HEADER, r#"{"exp":101,"user_id":7}"#, "other", None);
        check(HEADER, r#"{"user_id":7}"#, "key", None);
        check(HEADER, r#"{"exp":101}"#, "key", None);
        check(r#"{"typ":"JWT","alg":"none"}"#, r#"{"exp":101,"user_id":7}"#, "key", None);
        assert_eq!(user_id("a.b", "key", 0), None);
    }

    #[test]
    fn a_token_made_by_other_software_verifies() {
        // The example of RFC 7519's best-known debugger: key "your-256-bit-secret"; it has no
        // `exp`, so only its signature can be compared with ours.
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6\
                     IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_ad\
                     Qssw5c";
        let ours = sign(
            r#"{"alg":"HS256","typ":"JWT"}"#,
            r#"{"sub":"1234567890","name":"John Doe","iat":1516239022}"#,
            "your-256-bit-secret",
        );
        assert_eq!(ours, token);
    }
}
