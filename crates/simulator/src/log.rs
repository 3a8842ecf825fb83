//! The log of requests: what a checker compares with a client's own account. Entries are only
//! ever added; what the server did is written down before the answer leaves.

use std::fs::File;
use std::io::Write;

use serde_json::json;

use crate::endpoints::Endpoint;

/// One request as the server met it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When it had arrived, in unix microseconds of the true clock.
    pub at: i64,
    /// Which of the three endpoints; `None` for any other path.
    pub endpoint: Option<Endpoint>,
    /// `GET`, `POST` …
    pub method: String,
    /// The path as it was asked for, without its query.
    pub path: String,
    /// Whether the whole request arrived.
    pub complete: bool,
    /// Whether it changed anything: a message is in its room. Always false for lists.
    pub applied: bool,
    /// `room_id`, where it is a number.
    pub room: Option<i64>,
    /// `user_id`: the site's id of the sender.
    pub user_id: Option<String>,
    /// `message`: the text.
    pub text: Option<String>,
    /// The header `X-Imbabot-Delivery`.
    pub delivery: Option<String>,
    /// The header `X-Imbabot-Attempt`.
    pub attempt: Option<String>,
    /// The HTTP status of the answer, if one was begun.
    pub status: Option<u16>,
    /// What was done with the connection: `answered`, `closed unread`, `closed unanswered`,
    /// `never answered`, `cut` …
    pub outcome: String,
    /// The fault that took the request, in the words of the fault grammar.
    pub fault: Option<String>,
    /// The id of the message, if applied: as stored, whatever the answer said.
    pub message_id: Option<i64>,
    /// The uuid of the message, if applied: as stored, whatever the answer said.
    pub uuid: Option<String>,
}

impl LogEntry {
    /// The entry as one line of JSON, without the line's end.
    #[must_use]
    pub fn to_json_line(&self) -> String {
        json!({
            "seq": self.seq,
            "at": self.at,
            "endpoint": self.endpoint.map(Endpoint::name),
            "method": self.method,
            "path": self.path,
            "complete": self.complete,
            "applied": self.applied,
            "room": self.room,
            "user_id": self.user_id,
            "text": self.text,
            "delivery": self.delivery,
            "attempt": self.attempt,
            "status": self.status,
            "outcome": self.outcome,
            "fault": self.fault,
            "message_id": self.message_id,
            "uuid": self.uuid,
        })
        .to_string()
    }
}

/// The entries, and the file they are appended to.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Vec<LogEntry>,
    written: u64,
    file: Option<File>,
}

impl Log {
    pub(crate) fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(crate) fn append_to(&mut self, file: File) {
        self.file = Some(file);
    }

    /// Numbers the entry and keeps it.
    pub(crate) fn push(&mut self, mut entry: LogEntry) {
        self.written += 1;
        entry.seq = self.written;
        self.append(&entry);
        self.entries.push(entry);
    }

    /// One `write` without a buffer of ours: from here on the line outlives this process.
    fn append(&mut self, entry: &LogEntry) {
        let Some(file) = &mut self.file else { return };
        let mut line = entry.to_json_line();
        line.push('\n');
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::error!(%error, "the request log cannot be written any more");
            self.file = None;
        }
    }
}
