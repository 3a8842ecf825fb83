//! What of a widget's server matters, by asking for its lists as the daemon does: whether it is
//! reached, by whom the key is accepted, how large and odd the lists are, which filters it honours,
//! and whether the store remembers the same. Asks one list after the other and posts nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use imbabot_bot::ActivitySignal;
use imbabot_core::{
    Api, Error, ErrorKind, GetRooms, GetUsers, ListSummary, NetCode, RawElement, RoomKind,
    Timestamp, TransportErrorKind, User, UserStatus, WidgetId, decode_room, decode_user,
    is_senseless, repeats_itself,
};
use imbabot_scheduler::{Clock, is_round};
use imbabot_store::{Capabilities, Honoured, ListFacts, ListKind, Quirk, Source, Store};

use super::super::Result;
use super::{Finding, filters, foreign};
use crate::config::{Config, RoomsAuth, Widget};
use crate::exit::Exit;
use crate::setup;

/// Clocks that differ by less do no harm anywhere.
const SKEW: i64 = 60;
/// A list that takes longer is not asked for ten times more to try filters.
const SLOW: Duration = Duration::from_secs(10);
/// How long a token of ours is valid.
const TOKEN: Duration = Duration::from_secs(900);
/// After nothing that is there: a server that honours it has nothing to say.
const FAR_AHEAD: &str = "2100-01-01 00:00:00";

/// A list as it came, as far as it is looked at.
struct Came {
    summary: ListSummary,
    took: Duration,
    /// Rows that are not deleted, by number, with what filters are about.
    rows: BTreeMap<u64, Traits>,
    read: u64,
    bad: u64,
    first_bad: Option<String>,
    deleted: u64,
    widgets: BTreeSet<WidgetId>,
}

/// What the filters of a row are about.
#[derive(Clone, Default)]
struct Traits {
    kind: Option<RoomKind>,
    login: Option<String>,
    status: Option<UserStatus>,
}

impl Came {
    fn ids(&self) -> BTreeSet<u64> {
        self.rows.keys().copied().collect()
    }

    fn ids_where(&self, is: impl Fn(&Traits) -> bool) -> BTreeSet<u64> {
        self.rows.iter().filter(|(_, traits)| is(traits)).map(|(id, _)| *id).collect()
    }

    fn duplicates(&self) -> u64 {
        self.read.saturating_sub(self.deleted).saturating_sub(self.rows.len() as u64)
    }
}

/// Looks at one widget. What is known of its server afterwards, if it was reached.
pub(super) async fn examine(
    clock: &Arc<dyn Clock>,
    config: &Config,
    widget: &Widget,
    store: Option<&dyn Store>,
) -> Result<(Vec<Finding>, Option<Capabilities>)> {
    let api = setup::api(config, widget)?;
    let by_token = widget.rooms_auth == RoomsAuth::Jwt;
    let mut findings = Vec::new();
    let rooms = match rooms(clock, &api, &question(widget, clock)).await {
        Ok(rooms) => Some(rooms),
        Err(error) => {
            let was_reached = was_reached(&error);
            if was_reached {
                findings.push(reached(widget));
            }
            findings.push(failure(widget, "get_rooms", by_token, &error));
            if !was_reached {
                return Ok((findings, None));
            }
            None
        }
    };
    if rooms.is_some() {
        findings.push(reached(widget));
        let how = if by_token { "with a token of the sender" } else { "with the secret key" };
        findings.push(Finding::ok("key", format!("get_rooms is answered {how}")));
    }
    let users = match users(clock, &api, &GetUsers::new()).await {
        Ok(users) => Some(users),
        Err(error) => {
            findings.push(failure(widget, "get_users", false, &error));
            None
        }
    };
    if users.is_some() {
        findings.push(Finding::ok("key", "get_users is answered with the secret key"));
    }
    let mut known = Capabilities::default();
    let mut before = None;
    if let Some(store) = store {
        let learned = store.learned().await?;
        let polls =
            learned.into_iter().find(|l| l.widget == widget.name && l.source == Source::Polls);
        before = polls.map(|learned| learned.capabilities);
    }
    if let Some(before) = &before {
        known.updated_at_moves = before.updated_at_moves;
        known.activity = before.activity;
        known.silent_messages = before.silent_messages;
        findings.extend(activity(before));
    }
    let server_time = [&users, &rooms].into_iter().flatten().find_map(|c| c.summary.server_time);
    findings.extend(server_time.map(|server| skew(clock.now(), server, &mut known)));
    if let Some(rooms) = &rooms {
        let earlier = before.as_ref().and_then(|before| before.rooms.as_ref());
        let facts = list("rooms", rooms, earlier, widget, &mut findings);
        known.rooms = Some(facts);
        findings.push(room_filters(clock, &api, widget, rooms, &mut known).await);
    }
    if let Some(users) = &users {
        let earlier = before.as_ref().and_then(|before| before.users.as_ref());
        let facts = list("users", users, earlier, widget, &mut findings);
        known.users = Some(facts);
        findings.push(user_filters(clock, &api, users, &mut known).await);
    }
    if let (Some(store), Some(rooms)) = (store, &rooms) {
        findings.push(remembered(clock.now(), store, widget, rooms).await?);
    }
    let learned = rooms.is_some() || users.is_some();
    Ok((findings, learned.then_some(known)))
}

/// The question as the daemon asks it.
fn question(widget: &Widget, clock: &Arc<dyn Clock>) -> GetRooms {
    let mut request = GetRooms::new();
    if widget.rooms_auth == RoomsAuth::Jwt {
        let expires = clock.now() + TOKEN;
        request.auth = imbabot_core::RoomsAuth::Jwt { user: widget.sender.clone(), expires };
    }
    request
}

async fn rooms(
    clock: &Arc<dyn Clock>,
    api: &Api,
    request: &GetRooms,
) -> std::result::Result<Came, Error> {
    let begun = clock.elapsed();
    let mut came = Came::empty();
    let mut sink = |element: RawElement<'_>| match decode_room(element.bytes) {
        Ok(room) => {
            let traits = Traits { kind: Some(room.kind), ..Traits::default() };
            came.take(room.id.0, room.deleted_at, room.widget, traits)
        }
        Err(why) => came.set_aside(&why.to_string()),
    };
    let summary = api.list_rooms(request, &mut sink).await?;
    Ok(came.whole(summary, clock.elapsed().saturating_sub(begun)))
}

async fn users(
    clock: &Arc<dyn Clock>,
    api: &Api,
    request: &GetUsers,
) -> std::result::Result<Came, Error> {
    let begun = clock.elapsed();
    let mut came = Came::empty();
    let mut sink = |element: RawElement<'_>| match decode_user(element.bytes) {
        Ok(User { id, deleted_at, widget, login, status, .. }) => {
            came.take(id.0, deleted_at, widget, Traits { login, status: Some(status), kind: None })
        }
        Err(why) => came.set_aside(&why.to_string()),
    };
    let summary = api.list_users(request, &mut sink).await?;
    Ok(came.whole(summary, clock.elapsed().saturating_sub(begun)))
}

/// A list on its way.
#[derive(Default)]
struct Coming {
    rows: BTreeMap<u64, Traits>,
    read: u64,
    bad: u64,
    first_bad: Option<String>,
    deleted: u64,
    widgets: BTreeSet<WidgetId>,
}

impl Came {
    fn empty() -> Coming {
        Coming::default()
    }
}

impl Coming {
    fn take(
        &mut self,
        id: u64,
        deleted_at: Option<Timestamp>,
        widget: Option<WidgetId>,
        traits: Traits,
    ) -> ControlFlow<()> {
        self.read += 1;
        self.widgets.extend(widget);
        if deleted_at.is_some() {
            self.deleted += 1;
        } else {
            self.rows.insert(id, traits);
        }
        if repeats_itself(self.read - self.deleted, self.rows.len() as u64) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn set_aside(&mut self, why: &str) -> ControlFlow<()> {
        self.bad += 1;
        self.first_bad.get_or_insert_with(|| foreign(why));
        if is_senseless(self.bad, self.read) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn whole(self, summary: ListSummary, took: Duration) -> Came {
        let Self { rows, read, bad, first_bad, deleted, widgets } = self;
        Came { summary, took, rows, read, bad, first_bad, deleted, widgets }
    }
}

fn reached(widget: &Widget) -> Finding {
    let url = &widget.base_url;
    if url.is_https() {
        return Finding::ok("reached", format!("{url} answers, and its certificate is trusted"));
    }
    if url.is_loopback() {
        return Finding::ok("reached", format!("{url} answers, on this machine"));
    }
    Finding::warning("reached", format!("{url} answers, unencrypted"))
        .hint("use https: the secret key can be read on the way")
}

/// Whether there is a server at all: a request that never left says nothing of it.
fn was_reached(error: &Error) -> bool {
    let code = error.transport_error().map(imbabot_core::TransportError::net_code);
    !matches!(
        code,
        Some(
            NetCode::Dns
                | NetCode::Refused
                | NetCode::Unreachable
                | NetCode::ConnectTimeout
                | NetCode::Tls
                | NetCode::Connect
                | NetCode::ClosedBeforeWrite
                | NetCode::Unsendable
                | NetCode::Timeout
                | NetCode::Interrupted
        )
    )
}

/// Why a list did not come, and what to do.
fn failure(widget: &Widget, endpoint: &str, by_token: bool, error: &Error) -> Finding {
    let code = error.code();
    if error.is_credentials() {
        let what =
            if by_token { "the token that is made with the secret key" } else { "the secret key" };
        let text = format!("{endpoint} refuses {what} for the widget {}: {error}", widget.id);
        return Finding::error("key", Exit::Credentials, text).code(code).hint(
            "compare `id` and the file of the secret key with ImbaChat's dashboard; the key is \
             called \"Secret key\" there",
        );
    }
    if let Some(cause) = error.transport_error().filter(|_| !was_reached(error)) {
        let (check, hint) = net_hint(widget, cause.net_code(), cause.message());
        let text = format!("{}: {cause}", widget.base_url);
        return Finding::error(check, Exit::Unavailable, text).code(code).hint(hint);
    }
    let hint = match error.kind() {
        ErrorKind::Redirect { .. } => {
            "set `base_url` to the origin that is named, if it is ImbaChat's"
        }
        ErrorKind::Status(404) => "check the path of `base_url`, and `id`",
        ErrorKind::Status(500..) => "the server is in trouble: try again later",
        ErrorKind::Status(429) => "the server asks for fewer requests: raise `[poll] rooms`",
        ErrorKind::TooLarge => "raise `[poll] max_body`",
        ErrorKind::Truncated => "passes by itself; if not, a proxy cuts answers",
        ErrorKind::Transport(TransportErrorKind::Encoding) => {
            "a proxy compresses answers in a way that was not asked for, or breaks them"
        }
        ErrorKind::PagesElsewhere => {
            "check `base_url`: the server may believe that it is reached under another name"
        }
        ErrorKind::Refused { .. } => "read the server's words",
        _ => {
            "is `base_url` that of an ImbaChat API? A page of HTML, a proxy or a login has other words"
        }
    };
    let cause = error.transport_error().map(|cause| format!(": {cause}")).unwrap_or_default();
    let text = format!("{endpoint}: {error}{cause}");
    Finding::error("list", Exit::Unavailable, text).code(code).hint(hint)
}

/// What to do about a request that got no answer; which step it was.
fn net_hint(widget: &Widget, code: NetCode, message: &str) -> (&'static str, String) {
    let host = widget.base_url.host();
    match code {
        NetCode::Dns => {
            ("name", format!("check `base_url`, and whether this host can look up {host}"))
        }
        NetCode::Refused => {
            let port = widget.base_url.port();
            (
                "connect",
                format!("nobody listens on port {port} of {host}: is it down, or the port wrong?"),
            )
        }
        NetCode::Unreachable | NetCode::ConnectTimeout | NetCode::Connect => {
            ("connect", "check routes and firewalls from this host to the server".into())
        }
        NetCode::Tls => ("tls", tls_hint(widget, message).into()),
        NetCode::Timeout => {
            ("connect", "it accepts connections and does not answer: try again later".into())
        }
        _ => (
            "connect",
            "something between here and the server ends connections: look at proxies".into(),
        ),
    }
}

/// Trouble with a certificate, in words.
fn tls_hint(widget: &Widget, message: &str) -> &'static str {
    let words = message.to_lowercase();
    let has = |part: &str| words.contains(part);
    if has("not valid yet") {
        "the certificate begins later than this host's clock: is the clock right?"
    } else if has("expired") {
        "the certificate has expired: whoever runs the server has to renew it (or this host's clock is ahead)"
    } else if has("not valid for name") {
        "the certificate is for another name: write that name in `base_url`, if it is the right server"
    } else if has("unknownissuer") || has("unknown issuer") {
        if widget.ca_file.is_some() {
            "neither the system nor `ca_file` knows who signed the certificate"
        } else {
            "nobody whom this host trusts signed the certificate: install ca-certificates, or name the \
             authority's certificate in `ca_file`"
        }
    } else {
        "no TLS came about: does this port speak https, and no proxy answer in its place?"
    }
}

fn skew(now: Timestamp, server: Timestamp, known: &mut Capabilities) -> Finding {
    let ahead = (server.as_micros() - now.as_micros()) / 1_000_000;
    // A `Date` counts whole seconds, and was written before the list was read.
    let ahead = if ahead.abs() <= 2 { 0 } else { ahead };
    known.server_ahead_seconds = Some(ahead);
    match ahead {
        0 => Finding::ok("clocks", "the server's clock and ours agree"),
        _ if ahead.abs() < SKEW => Finding::note("clocks", apart(ahead)),
        _ => Finding::warning("clocks", apart(ahead)).hint(
            "schedules go by this host's clock, which NTP should keep; if it is right, the server's is \
             wrong, which does no harm here",
        ),
    }
}

/// Whether the lists tell that somebody writes, as the daemon found out by its own messages.
fn activity(known: &Capabilities) -> Option<Finding> {
    match known.activity {
        ActivitySignal::Seen => Some(Finding::ok(
            "activity",
            "`updated_at` of rooms moves, so bots are told of `touched`",
        )),
        ActivitySignal::Absent => {
            let text = "no_activity_signal: after several messages of ours no list showed `updated_at` of \
                        their rooms to move";
            Some(Finding::note("activity", text).hint(
                "a bot that waits for `touched`, or takes a room without it for a quiet one, does not \
                 work here; it can ask `ctx.activity_signal()`",
            ))
        }
        _ => None,
    }
}

fn apart(ahead: i64) -> String {
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    format!("the server's clock is {} s {side} ours", ahead.abs())
}

/// The size and shape of a list.
fn list(
    name: &'static str,
    came: &Came,
    earlier: Option<&ListFacts>,
    widget: &Widget,
    findings: &mut Vec<Finding>,
) -> ListFacts {
    let Came { summary, took, .. } = came;
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let mut text =
        format!("{} {name}, {} bytes in {milliseconds} ms", came.rows.len(), summary.bytes);
    if came.deleted > 0 {
        text.push_str(&format!(", and {} that are deleted", came.deleted));
    }
    findings.push(Finding::ok(name, text));
    if came.widgets.iter().any(|other| *other != widget.id) {
        let others: Vec<String> = came.widgets.iter().map(ToString::to_string).collect();
        findings.push(
            Finding::error(
                name,
                Exit::Config,
                format!(
                    "the list is of the widget {}, and `id` is {}",
                    others.join(", "),
                    widget.id
                ),
            )
            .code("IMB-P-FOREIGN")
            .hint("check `id` and `base_url`"),
        );
    }
    let rows = summary.elements;
    let short = summary.total.filter(|total| *total > rows);
    // Polls saw the list come to its size, and know better than one look.
    let suspected = earlier.is_none_or(|facts| facts.suspected_limit == Some(rows));
    let limited = summary.pages <= 1 && is_round(rows) && suspected;
    if let Some(total) = short {
        let text = format!("the server says that there are {total}, and sends {rows}");
        findings.push(Finding::warning(name, text).code("IMB-P-LIMIT").hint(
            "compare with ImbaChat's dashboard; of the rest bots and announcements do not know",
        ));
    } else if limited {
        let text = format!("exactly {rows} rows: the server may cut the list there");
        findings.push(Finding::warning(name, text).code("IMB-P-LIMIT").hint(
            "compare with the number that ImbaChat's dashboard shows; if the site has just so many, all \
             is well",
        ));
    }
    if came.bad > 0 {
        let first = came.first_bad.as_deref().unwrap_or_default();
        let text = format!("{} rows cannot be read and are left out; the first: {first}", came.bad);
        findings.push(
            Finding::warning(name, text)
                .hint("the others are served; please report what such a row looks like"),
        );
    }
    let quirks = quirks(came);
    if !quirks.is_empty() {
        let words: Vec<&str> = quirks.iter().map(|quirk| in_words(*quirk)).collect();
        findings
            .push(Finding::note(name, format!("quirks, which do no harm: {}", words.join("; "))));
    }
    ListFacts {
        rows,
        most: earlier.map_or(rows, |facts| facts.most.max(rows)),
        bytes: summary.bytes,
        milliseconds,
        pages: summary.pages,
        quirks,
        suspected_limit: (short.is_some() || limited).then_some(rows),
    }
}

fn quirks(came: &Came) -> BTreeSet<Quirk> {
    let summary = &came.summary;
    let met = [
        (Quirk::TextAround, summary.salvaged),
        (Quirk::SuccessAsWord, summary.success_as_word),
        (Quirk::Map, summary.is_map),
        (Quirk::Pages, summary.pages > 1),
        (Quirk::BadRows, came.bad > 0),
        (Quirk::Duplicates, came.duplicates() > 0),
    ];
    met.into_iter().filter_map(|(quirk, met)| met.then_some(quirk)).collect()
}

fn in_words(quirk: Quirk) -> &'static str {
    match quirk {
        Quirk::TextAround => "text around the JSON, such as a warning of PHP",
        Quirk::SuccessAsWord => "`success` is a word",
        Quirk::Map => "the list is an object with numbers for keys",
        Quirk::Pages => "it comes in pages",
        Quirk::BadRows => "rows that cannot be read",
        Quirk::Duplicates => "numbers that are listed more than once",
    }
}

async fn room_filters(
    clock: &Arc<dyn Clock>,
    api: &Api,
    widget: &Widget,
    all: &Came,
    known: &mut Capabilities,
) -> Finding {
    if all.took > SLOW {
        return Finding::note("filters", "get_rooms: not tried, since the list takes so long");
    }
    type Change = fn(&mut GetRooms);
    let tries: [(&'static str, Option<RoomKind>, Change); 7] = [
        ("room_type=0", Some(RoomKind::Dialogue), |r| r.room_type = Some(RoomKind::Dialogue)),
        ("room_type=1", Some(RoomKind::Conference), |r| r.room_type = Some(RoomKind::Conference)),
        ("room_type=3", Some(RoomKind::Support), |r| r.room_type = Some(RoomKind::Support)),
        ("status", None, |r| r.status = Some("1".into())),
        ("count_users", None, |r| r.count_users = Some("1000000".into())),
        ("last_message_date", None, |r| r.last_message_date = Some(FAR_AHEAD.into())),
        ("banned", None, |r| r.banned = Some("1".into())),
    ];
    let mut tried = Vec::new();
    for (name, kind, change) in tries {
        let mut request = question(widget, clock);
        change(&mut request);
        let expected = kind.map(|kind| all.ids_where(|traits| traits.kind == Some(kind)));
        let came = rooms(clock, api, &request).await;
        tried.push((name, verdict(all, expected.as_ref(), came.as_ref().ok())));
    }
    tried_filters("get_rooms", &tried, known)
}

async fn user_filters(
    clock: &Arc<dyn Clock>,
    api: &Api,
    all: &Came,
    known: &mut Capabilities,
) -> Finding {
    if all.took > SLOW {
        return Finding::note("filters", "get_users: not tried, since the list takes so long");
    }
    let first = all.rows.keys().next().copied();
    let login = all.rows.values().find_map(|traits| traits.login.clone());
    let mut tries: Vec<(&'static str, Option<BTreeSet<u64>>, GetUsers)> = Vec::new();
    let mut add = |name, expected, change: &dyn Fn(&mut GetUsers)| {
        let mut request = GetUsers::new();
        change(&mut request);
        tries.push((name, expected, request));
    };
    if let Some(id) = first {
        add("id", Some(BTreeSet::from([id])), &|r| r.id = Some(id.into()));
    }
    if let Some(login) = login {
        let expected = all.ids_where(|traits| traits.login.as_ref() == Some(&login));
        add("login", Some(expected), &|r| r.login = Some(login.clone()));
    }
    let admins = all.ids_where(|traits| traits.status == Some(UserStatus::Admin));
    add("status", Some(admins), &|r| r.status = Some(UserStatus::Admin));
    add("last_message_date", None, &|r| r.last_message_date = Some(FAR_AHEAD.into()));
    add("banned", None, &|r| r.banned = Some("1".into()));
    let mut tried = Vec::new();
    for (name, expected, request) in tries {
        let came = users(clock, api, &request).await;
        tried.push((name, verdict(all, expected.as_ref(), came.as_ref().ok())));
    }
    tried_filters("get_users", &tried, known)
}

/// What came of a question with a filter, beside the answer to the one without.
fn verdict(all: &Came, expected: Option<&BTreeSet<u64>>, came: Option<&Came>) -> Honoured {
    let judge = |came: &Came| filters::verdict(&all.ids(), expected, &came.ids());
    came.map_or(Honoured::Wrongly, judge)
}

/// Keeps and tells which filters of an endpoint the server honours.
fn tried_filters(
    endpoint: &str,
    tried: &[(&'static str, Honoured)],
    known: &mut Capabilities,
) -> Finding {
    known.filters.extend(tried.iter().map(|(name, it)| (format!("{endpoint}.{name}"), *it)));
    Finding::ok("filters", format!("{endpoint} {}", filters::line(tried)))
}

/// Whether the store's last list of rooms is the server's.
async fn remembered(
    now: Timestamp,
    store: &dyn Store,
    widget: &Widget,
    rooms: &Came,
) -> Result<Finding> {
    let index = store.snapshot_index(&widget.name, ListKind::Rooms).await?;
    let Some(last) = index.last_good_at else {
        return Ok(Finding::note("snapshot", "the store has no list of rooms yet")
            .hint("the first good poll of `imbabot run` brings it"));
    };
    let known: BTreeSet<u64> = index.listed.iter().map(|(id, _)| *id).collect();
    let now_there = rooms.ids();
    let (new, gone) = (now_there.difference(&known).count(), known.difference(&now_there).count());
    let ago = now.since(last).as_secs();
    if new == 0 && gone == 0 {
        return Ok(Finding::ok(
            "snapshot",
            format!("the store's list has the same rooms, {ago} s old"),
        ));
    }
    let text =
        format!("the store's list is {ago} s old; since then {new} rooms came and {gone} went");
    Ok(Finding::note("snapshot", text).hint("where the daemon runs, its next polls find them"))
}
