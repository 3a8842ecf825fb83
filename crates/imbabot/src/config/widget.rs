//! `[[widget]]`: a chat in which the bots speak, and how it is reached.

use std::collections::HashMap;
use std::path::PathBuf;

use imbabot_bot::{ForeignMarkup, WidgetName};
use imbabot_core::{BaseUrl, BaseUrlError, SecretKey, SiteUserId, WidgetId};

use super::code::Code;
use super::keys::{Key, Shape};
use super::read::words;
use super::secrets;
use super::source::Place;
use super::value::Table;
use super::walk::{Fault, Part, Walk};

/// A `[[widget]]`.
#[derive(Debug, Clone)]
pub struct Widget {
    /// What it is called here.
    pub name: WidgetName,
    /// ImbaChat's number of it, `imba_id`.
    pub id: WidgetId,
    /// Where its API is.
    pub base_url: BaseUrl,
    /// Its secret key.
    pub secret: SecretKey,
    /// The site's user as whom the bots speak.
    pub sender: SiteUserId,
    /// How the list of rooms is asked for.
    pub rooms_auth: RoomsAuth,
    /// What becomes of markup in names and other foreign text.
    pub foreign_markup: ForeignMarkup,
    /// A file with certificates of authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether plain http is accepted beyond this machine.
    pub allow_insecure_http: bool,
}

/// How the list of rooms is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomsAuth {
    /// With the widget's id and secret.
    Basic,
    /// With a token in the header `JWT`, as the sender.
    Jwt,
}

words!(RoomsAuth, RoomsAuth::Basic, { "basic" => RoomsAuth::Basic, "jwt" => RoomsAuth::Jwt });
words!(ForeignMarkup, ForeignMarkup::Neutralize, {
    "neutralize" => ForeignMarkup::Neutralize,
    "escape" => ForeignMarkup::Escape,
    "raw" => ForeignMarkup::Raw,
});

pub(crate) static KEYS: &[Key] = &[
    Key::new("name", Shape::Name, "unique; what it is called here; \"main\" when there is one")
        .example("\"main\""),
    Key::new(
        "id",
        Shape::Count(1, u64::MAX),
        "the number of the widget (imba_id), from the ImbaChat dashboard",
    )
    .required()
    .example("627"),
    Key::new(
        "base_url",
        Shape::Url,
        "where its API is; plain http only to this machine, or with allow_insecure_http",
    )
    .or("https://api.imbachat.com"),
    Key::new(
        "secret_key_file",
        Shape::Path,
        "a file (chmod 600) with the widget's \"Secret key\"; or the variable IMBABOT_SECRET_KEY",
    )
    .example("\"secret_key\""),
    Key::new(
        "sender",
        Shape::User,
        "the user as whom the bots speak, by the number that your site gives its users",
    )
    .required()
    .example("1"),
    Key::new(
        "rooms_auth",
        Shape::Choice(&["basic", "jwt"]),
        "how get_rooms is asked for: with id and secret, or with the JWT header, as the sender",
    )
    .or("basic"),
    Key::new(
        "foreign_markup",
        Shape::Choice(&["neutralize", "escape", "raw"]),
        "names and other foreign text in messages: < and > become ‹ and ›, or HTML, or stay",
    )
    .or("neutralize"),
    Key::new("ca_file", Shape::Path, "certificates (PEM) that are trusted besides the system's")
        .example("\"ca.pem\""),
    Key::new(
        "allow_insecure_http",
        Shape::Flag,
        "plain http beyond this machine: the secret key travels unencrypted",
    )
    .or("false"),
    Key::new(
        "allow_group_readable",
        Shape::Flag,
        "accept a secret file that group or others can read, for container mounts",
    )
    .or("false"),
];

const ID_HINT: &str = "it is the number of the widget (imba_id): it stands in the address of its \
                       dashboard, dashboard.imbachat.com/#/<id>/, and of its API, /imbachat/v2/<id>/";
const SENDER_HINT: &str = "it is the site's own number of the user as whom the bots speak (in \
                           WordPress: the user_id in the address of Users > Edit), not ImbaChat's";

pub(crate) fn read(walk: &mut Walk<'_>, root: &Table) -> Vec<Widget> {
    let lenient = secrets::lenient(root);
    let parts = walk.entries(root, "widget");
    if parts.is_empty() && !walk.partial && root.get("widget").is_none() {
        no_widget(walk);
    }
    let names = names(walk, &parts);
    let alone = parts.len() == 1;
    let mut widgets = Vec::with_capacity(parts.len());
    for (part, name) in parts.iter().zip(names) {
        widgets.extend(read_one(walk, part, name, alone, lenient));
    }
    warn_of_twins(walk, &parts);
    secrets::warn_of_unused(walk);
    widgets
}

fn no_widget(walk: &mut Walk<'_>) {
    let message = "no [[widget]] is configured";
    let hint = "add [[widget]] with id, sender and secret_key_file; config/minimal.toml shows how";
    let place = Place::File { source: 0, span: 0..0 };
    walk.error(Fault::new(Code::NoWidget, &place, message).hint(hint));
}

/// The names, each known to the walk from here on.
fn names(walk: &mut Walk<'_>, parts: &[Part<'_>]) -> Vec<Option<WidgetName>> {
    let mut names = Vec::with_capacity(parts.len());
    for part in parts {
        let given = match part.get("name") {
            None if parts.len() == 1 => "main".parse().ok().map(|name| (name, part.place.clone())),
            None => {
                let hint = "with several widgets each has a name of its own";
                walk.missing(part, "name", Some(hint));
                None
            }
            Some(_) => walk.name::<WidgetName>(part, "name"),
        };
        let Some((name, place)) = given else {
            names.push(None);
            continue;
        };
        match walk.widgets.get(name.as_str()).cloned() {
            Some(first) => {
                let message = format!("two widgets have the name {:?}", name.as_str());
                let fault = Fault::new(Code::Duplicate, &place, message);
                walk.error(fault.label("the second").also(&first, "the first"));
            }
            None => {
                walk.widgets.insert(name.to_string(), place);
            }
        }
        names.push(Some(name));
    }
    names
}

fn read_one(
    walk: &mut Walk<'_>,
    part: &Part<'_>,
    name: Option<WidgetName>,
    alone: bool,
    lenient: bool,
) -> Option<Widget> {
    let id = required(walk, part, "id", ID_HINT);
    let sender = required(walk, part, "sender", SENDER_HINT);
    let allow_insecure_http = walk.get(part, "allow_insecure_http");
    let base_url = base_url(walk, part, allow_insecure_http);
    let lenient = walk.get::<bool>(part, "allow_group_readable") || lenient;
    let called = name.as_ref().map_or("main", WidgetName::as_str);
    let secret = secrets::of_widget(walk, part, called, alone, lenient);
    let rooms_auth = walk.get(part, "rooms_auth");
    let foreign_markup = walk.get(part, "foreign_markup");
    let ca_file = ca_file(walk, part);
    Some(Widget {
        name: name?,
        id: WidgetId(id?),
        base_url: base_url?,
        secret: secret?,
        sender: sender?,
        rooms_auth,
        foreign_markup,
        ca_file,
        allow_insecure_http,
    })
}

/// A required key, with a hint of its own where it is missing.
fn required<T: super::read::Readable>(
    walk: &mut Walk<'_>,
    part: &Part<'_>,
    key: &str,
    hint: &str,
) -> Option<T> {
    if part.get(key).is_none() {
        walk.missing(part, key, Some(hint));
        return None;
    }
    walk.optional(part, key)
}

fn base_url(walk: &mut Walk<'_>, part: &Part<'_>, insecure: bool) -> Option<BaseUrl> {
    let (text, place) = walk.located::<String>(part, "base_url")?;
    let called = part.called("base_url", &place);
    match BaseUrl::parse(&text, insecure) {
        Ok(url) => {
            if url.is_insecure() {
                let message =
                    format!("{called}: the secret key travels unencrypted to {}", url.host());
                let hint = "use https";
                walk.warn(Fault::new(Code::InsecureHttp, &place, message).hint(hint));
            }
            Some(url)
        }
        Err(why) => {
            let text = why.to_string();
            let (message, hint) = text.split_once("; ").unwrap_or((&text, ""));
            let hint = match (&why, hint) {
                (_, hint) if !hint.is_empty() => hint.to_owned(),
                (BaseUrlError::Scheme(_), _) => "use https".into(),
                _ => "write it as \"https://api.imbachat.com\"".into(),
            };
            walk.error(Fault::new(Code::BadUrl, &place, format!("{called}: {message}")).hint(hint));
            None
        }
    }
}

fn ca_file(walk: &mut Walk<'_>, part: &Part<'_>) -> Option<PathBuf> {
    let (path, place) = walk.path(part, "ca_file")?;
    if let Err(error) = std::fs::File::open(&path).and_then(|file| file.metadata()).and_then(|m| {
        if m.is_dir() { Err(std::io::ErrorKind::IsADirectory.into()) } else { Ok(()) }
    }) {
        let called = part.called("ca_file", &place);
        let message = format!("{called}: {} cannot be read: {}", path.display(), error.kind());
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::FileMissing,
            _ => Code::FileUnreadable,
        };
        walk.error(Fault::new(code, &place, message));
    }
    Some(path)
}

/// The same chat under two names gets every announcement twice.
fn warn_of_twins(walk: &mut Walk<'_>, parts: &[Part<'_>]) {
    let mut seen: HashMap<(String, String), Place> = HashMap::new();
    for part in parts {
        let Some(id) = part.get("id") else { continue };
        let url = part.get("base_url").and_then(|value| value.as_text()).unwrap_or_default();
        let address = (id.describe(), url.trim_end_matches('/').to_owned());
        match seen.get(&address).cloned() {
            Some(first) => {
                let called = part.called("id", &id.place);
                let message =
                    format!("{called}: another [[widget]] has the same id and the same base_url");
                let hint = "what goes to all widgets is posted there twice";
                let fault = Fault::new(Code::SameWidget, &id.place, message).hint(hint);
                walk.warn(fault.also(&first, "the other"));
            }
            None => {
                seen.insert(address, id.place.clone());
            }
        }
    }
}
