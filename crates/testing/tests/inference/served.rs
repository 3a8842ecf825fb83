//! What the server says of the truth when it is asked: the list as it is, or one of the many things
//! that servers say instead. Writes JSON by hand.

use std::rc::Rc;

use super::random::Random;
use super::truth::{Room, State, Truth};

pub(crate) const WIDGET: u64 = 627;

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Nothing,
    /// No answer, a 5xx, a reset: there is no body to read.
    NoAnswer,
    /// A body that is no list, one of several.
    NoList(u64),
    /// Cut after so many thousandths of its bytes.
    Cut(u64),
    /// A list, and nothing in it.
    Empty,
    /// The list as it was so many changes ago.
    Stale(u64),
    /// The rows in another order.
    Shuffled(u64),
    /// Some rows come twice, the first time as they were some changes ago.
    Doubled(u64, u64),
    /// The row of this room cannot be read; one of several ways.
    BadRow(u64, u64),
    /// A list of another widget.
    Foreign,
    /// Half of the rows are left out.
    Half(u64),
    /// The row of this room is left out.
    Without(u64),
    /// The same in another spelling: numbers as texts, other blanks.
    Spelled(u64),
    /// PHP warns before the list and after it.
    Warned,
}

/// A row that was served, as it is meant.
#[derive(Debug, Clone)]
pub(crate) enum Row {
    Read(u64, Rc<Room>),
    /// It cannot be read; whose it is may be seen all the same.
    Bad(Option<u64>),
}

/// What was served: the bytes, and what they mean; no list is no rows.
pub(crate) struct Served {
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) rows: Option<Vec<Row>>,
}

impl Served {
    fn no_list(body: Option<Vec<u8>>) -> Self {
        Self { body, rows: None }
    }
}

/// Answers. `past` are the truths so far, the present one last.
pub(crate) fn serve(past: &[Truth], fault: Fault) -> Served {
    let present = past.last().unwrap();
    let mut rows = rows_of(present);
    let mut texts: Vec<String> = Vec::new();
    let text = |row: &Row| match row {
        Row::Read(id, room) => row_text(*id, room, WIDGET, 0),
        Row::Bad(_) => unreachable!(),
    };
    match fault {
        Fault::Nothing | Fault::Warned | Fault::Cut(_) => {}
        Fault::NoAnswer => return Served::no_list(None),
        Fault::NoList(n) => {
            let bodies = [
                "",
                "<html><h1>Whoops</h1></html>",
                "{\"success\":true,\"code\":200}",
                "{\"success\":true,\"data\":null,\"code\":200}",
                "{\"success\":true,\"data\":false,\"code\":200}",
                "{\"success\":false,\"data\":[],\"code\":200}",
                "{\"success\":true,\"data\":[],\"code\":500}",
                "{\"code\":401,\"error\":\"Authenticate required!\"}",
                "[]",
            ];
            let body = bodies[usize::try_from(n).unwrap() % bodies.len()];
            return Served::no_list(Some(body.into()));
        }
        Fault::Empty => rows.clear(),
        Fault::Stale(back) => {
            let back = usize::try_from(back).unwrap().min(past.len() - 1);
            rows = rows_of(&past[past.len() - 1 - back]);
        }
        Fault::Shuffled(seed) => {
            let mut random = Random(seed);
            for last in (1..rows.len()).rev() {
                let other = usize::try_from(random.below(last as u64 + 1)).unwrap();
                rows.swap(last, other);
            }
        }
        Fault::Doubled(seed, back) => {
            let mut random = Random(seed);
            let back = usize::try_from(back).unwrap().min(past.len() - 1);
            let mut doubled = rows_of(&past[past.len() - 1 - back]);
            doubled.retain(|_| random.below(3) == 0);
            // A row that is not there any more would be one of its own.
            doubled.retain(|row| match row {
                Row::Read(id, _) => present.rooms[id].state != State::Away,
                Row::Bad(_) => false,
            });
            doubled.append(&mut rows);
            rows = doubled;
        }
        Fault::BadRow(id, how) => {
            for row in &mut rows {
                let Row::Read(of, room) = &*row else { continue };
                if *of == id && room.state == State::There {
                    let (bytes, seen) = bad_row(id, how);
                    texts.push(bytes);
                    *row = Row::Bad(seen.then_some(id));
                }
            }
        }
        Fault::Foreign if rows.is_empty() => {}
        Fault::Foreign => {
            let foreign = rows.iter().map(|row| match row {
                Row::Read(id, room) => row_text(*id, room, WIDGET + 1, 0),
                Row::Bad(_) => unreachable!(),
            });
            let body = list(&foreign.collect::<Vec<_>>());
            return Served::no_list(Some(body.into_bytes()));
        }
        Fault::Half(seed) => {
            let mut random = Random(seed);
            rows.retain(|_| random.below(2) == 0);
        }
        Fault::Without(id) => rows.retain(|row| !matches!(row, Row::Read(of, _) if *of == id)),
        Fault::Spelled(how) => {
            texts = rows
                .iter()
                .map(|row| match row {
                    Row::Read(id, room) => row_text(*id, room, WIDGET, 1 + how % 2),
                    Row::Bad(_) => unreachable!(),
                })
                .collect();
        }
    }
    if texts.len() != rows.len() {
        let mut bad = texts.into_iter();
        texts = rows
            .iter()
            .map(|row| if let Row::Bad(_) = row { bad.next().unwrap() } else { text(row) })
            .collect();
    }
    let mut body = list(&texts).into_bytes();
    match fault {
        Fault::Cut(thousandths) => {
            let at = body.len() * usize::try_from(thousandths % 1000).unwrap() / 1000;
            body.truncate(at);
            return Served::no_list(Some(body));
        }
        Fault::Warned => {
            let warning = b"<br />\n<b>Warning</b>: in {closure}() on line 3<br />\n";
            body = [warning, &body[..], warning].concat();
        }
        _ => {}
    }
    Served { body: Some(body), rows: Some(rows) }
}

fn rows_of(truth: &Truth) -> Vec<Row> {
    let listed = truth.rooms.iter().filter(|(_, room)| room.state != State::Away);
    listed.map(|(id, room)| Row::Read(*id, room.clone())).collect()
}

fn list(texts: &[String]) -> String {
    format!("{{\"success\":\"true\",\"data\":[{}],\"code\":200}}", texts.join(","))
}

fn row_text(id: u64, room: &Room, widget: u64, spelling: u64) -> String {
    let view = &room.view;
    let name = serde_json::to_string(&view.name).unwrap();
    let (kind, status, public, admin) =
        (view.kind, view.status, i32::from(view.public), view.admin);
    let time = date(view.updated);
    let deleted = match room.state {
        State::Marked => "\"2026-03-02 00:00:00\"",
        _ => "null",
    };
    let extra = room.extra;
    match spelling {
        0 => format!(
            "{{\"id\":{id},\"imba_id\":{widget},\"name\":{name},\"type\":{kind},\"status\":{status},\
             \"is_public\":{public},\"admin_id\":{admin},\"updated_at\":\"{time}\",\
             \"deleted_at\":{deleted},\"tab\":{extra}}}"
        ),
        1 => format!(
            "{{\"tab\":\"{extra}\",\"id\":\"{id}\",\"imba_id\":\"{widget}\",\"name\":{name},\
             \"type\":\"{kind}\",\"status\":\"{status}\",\"is_public\":\"{public}\",\
             \"admin_id\":\"{admin}\",\"updated_at\":\"{time}\",\"deleted_at\":{deleted}}}"
        ),
        _ => format!(
            "{{ \"name\" : {name} , \"id\" : {id},\n \"type\": {kind}, \"status\": {status},\
             \"meta\": {{\"a\": [{{}}]}}, \"is_public\": {}, \"admin_id\": {admin},\
             \"updated_at\": \"{time}\", \"deleted_at\": {deleted}, \"tab\": {extra}}}",
            view.public
        ),
    }
}

/// A row that cannot be read, and whether it still says whose it is.
fn bad_row(id: u64, how: u64) -> (String, bool) {
    match how % 10 {
        0 => (format!("{{\"id\":{id},\"name\":{{\"deep\":[]}},\"type\":1}}"), true),
        1 => (format!("{{\"id\":{id},\"name\":\"x\",\"type\":[]}}"), true),
        2 => (format!("{{\"id\":\"{id}\",\"name\":\"x\",\"type\":\"many\"}}"), true),
        // What a PHP float that is none, a broken string or half a row look like.
        3 => (format!("{{\"id\":{id},\"name\":\"x\",\"type\":NaN}}"), true),
        4 => (format!("{{\"id\": {id} ,\"name\":\"\t\u{1}\",\"type\":1}}"), true),
        5 => (format!("{{\"name\":\"\\ud800\",\"id\":\"{id}\",\"type\":1}}"), true),
        6 => (format!("{{\"id\":{id},\"name\":{}}}", "[".repeat(70) + &"]".repeat(70)), true),
        7 => ("null".into(), false),
        8 => ("[]".into(), false),
        _ => ("{\"name\":\"x\",\"type\":1}".into(), false),
    }
}

fn date(seconds: i64) -> String {
    let of_march = seconds - 1_772_323_200;
    let (day, rest) = (1 + of_march / 86_400, of_march % 86_400);
    format!("2026-03-{day:02} {:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}
