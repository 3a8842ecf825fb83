//! The `Authorization: Basic` header. Only reads it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Login and password.
pub(super) fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (login, password) = decoded.split_once(':')?;
    Some((login.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_hold_colons() {
        let header = format!("basic {}", STANDARD.encode("627:a:b"));
        assert_eq!(credentials(&header), Some(("627".to_owned(), "a:b".to_owned())));
    }

    #[test]
    fn anything_else_is_no_credentials() {
        for header in ["", "Basic", "Basic ???", "Bearer NjI3OmE=", "Basic NjI3"] {
            assert_eq!(credentials(header), None, "{header}");
        }
    }
}
