//! `[http]`: where the probes, the status and the metrics are served. Beyond this machine
//! nothing is served without a token.

use std::net::SocketAddr;

use secrecy::SecretString;

use super::code::Code;
use super::keys::{Key, Shape};
use super::secrets;
use super::source::Place;
use super::value::{Table, quoted};
use super::walk::{Fault, Part, Walk};

/// `[http]`.
#[derive(Debug, Clone)]
pub struct Http {
    /// Where; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// What a request has to bring as bearer token.
    pub token: Option<SecretString>,
    /// Names of this host that are accepted besides the loopback names.
    pub allowed_hosts: Vec<String>,
}

pub(crate) static KEYS: &[Key] = &[
    Key::new(
        "listen",
        Shape::Listen,
        "where; \"off\" to disable; other than loopback needs token_file",
    )
    .or("127.0.0.1:9627"),
    Key::new("token_file", Shape::Path, "a file with the bearer token that requests must bring")
        .example("\"http_token\""),
    Key::new(
        "allow_group_readable",
        Shape::Flag,
        "accept a token file that group or others can read",
    )
    .or("false"),
    Key::new(
        "allowed_hosts",
        Shape::List(&Shape::Text),
        "names of this host that are accepted besides the loopback names",
    )
    .or("[]"),
];

/// 128 bits in hexadecimal or base64 have at least this many characters.
const STRONG: usize = 22;

pub(crate) fn read(walk: &mut Walk<'_>, root: &Table) -> Http {
    let part = walk.section(root, "http");
    let listen = listen(walk, &part);
    let lenient = walk.get::<bool>(&part, "allow_group_readable") || secrets::lenient(root);
    let file = walk.path(&part, "token_file");
    let token = file.as_ref().and_then(|(path, place)| {
        let called = part.called("token_file", place);
        secrets::token(walk, &called, path, place, lenient)
    });
    let beyond_this_machine =
        listen.as_ref().is_some_and(|(address, _)| !address.ip().to_canonical().is_loopback());
    if let (Some((_, length)), Some((path, place))) = (&token, &file) {
        walk.secrets.insert("http.token".into(), path.display().to_string());
        if *length < STRONG {
            let message = format!("the token in {} has only {length} characters", path.display());
            let hint = "make one with `openssl rand -hex 32`";
            // There it is all that keeps others out.
            match beyond_this_machine {
                true => walk.error(Fault::new(Code::SecretRefused, place, message).hint(hint)),
                false => walk.warn(Fault::new(Code::WeakToken, place, message).hint(hint)),
            }
        }
    }
    if let (true, Some((address, place))) = (beyond_this_machine, &listen) {
        beyond(walk, &part, *address, place, file.is_some());
    }
    Http {
        listen: listen.map(|(address, _)| address),
        token: token.map(|(token, _)| token),
        allowed_hosts: hosts(walk, &part),
    }
}

fn listen(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<(SocketAddr, Place)> {
    let (text, place) = walk.located::<String>(part, "listen")?;
    let address = match text.trim() {
        "off" => return None,
        text => {
            text.strip_prefix("localhost:").map_or(text.to_owned(), |p| format!("127.0.0.1:{p}"))
        }
    };
    if let Ok(address) = address.parse() {
        return Some((address, place));
    }
    let called = part.called("listen", &place);
    let message = format!("{called}: {} is no IP address with a port", quoted(&text));
    let hint = "write it as \"127.0.0.1:9627\" or \"[::1]:9627\", or \"off\"";
    walk.error(Fault::new(Code::BadListen, &place, message).hint(hint));
    None
}

fn beyond(walk: &mut Walk<'_>, part: &Part<'_>, address: SocketAddr, place: &Place, token: bool) {
    let called = part.called("listen", place);
    if !token {
        let message = format!(
            "{called}: {address} can be reached from other machines, and no token is asked for"
        );
        let hint = "set token_file, or listen on 127.0.0.1";
        return walk.error(Fault::new(Code::BadListen, place, message).hint(hint));
    }
    let message =
        format!("{called}: {address} serves plain HTTP to other machines, the token included");
    let hint = "put a proxy with TLS in front, and listen on 127.0.0.1";
    walk.warn(Fault::new(Code::OpenHttp, place, message).hint(hint));
}

fn hosts(walk: &mut Walk<'_>, part: &Part<'_>) -> Vec<String> {
    let mut hosts = Vec::new();
    for (host, place) in walk.list::<String>(part, "allowed_hosts").unwrap_or_default() {
        let usable = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if host.is_empty() || !host.chars().all(usable) {
            let called = part.called("allowed_hosts", &place);
            let message = format!("{called}: {} is no host name", quoted(&host));
            let hint = "a name or an address as in the Host header, without http://";
            walk.error(Fault::new(Code::BadValue, &place, message).hint(hint));
        } else {
            hosts.push(host.to_lowercase());
        }
    }
    hosts
}
