//! Reading the files of a configuration: text, of a bounded size, or a sentence that says why not.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::code::Code;

/// A hundred thousand schedules are smaller; a larger file is another file.
const MAX: u64 = 16 << 20;

/// The text of a file, without a byte order mark; or why not, to follow the file's name.
pub(crate) fn read(path: &Path) -> Result<String, (Code, String)> {
    let failed = |error: &std::io::Error| match error.kind() {
        ErrorKind::NotFound => (Code::FileMissing, "does not exist".to_owned()),
        ErrorKind::IsADirectory => (Code::FileUnreadable, "is a directory".to_owned()),
        kind => (Code::FileUnreadable, format!("cannot be read: {kind}")),
    };
    let file = File::open(path).map_err(|error| failed(&error))?;
    if file.metadata().map_err(|error| failed(&error))?.is_dir() {
        return Err((Code::FileUnreadable, "is a directory".into()));
    }
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > MAX {
        return Err((Code::TooLarge, "is larger than 16 MiB".into()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        (Code::NotText, format!("is not UTF-8: the first wrong byte is in line {line}"))
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
