//! `completions` and `man`: what a shell and a reader want to know of the command line, made from the
//! command line itself.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Result;
use super::args::Arguments;
use crate::exit::{Exit, Failure};
use crate::output;

/// The words of the command line, for a shell.
pub(crate) fn completions(shell: Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "imbabot", &mut text);
    output::bytes(&text);
    Exit::Ok
}

/// The manual as one page: the program, then each verb with its own.
pub(crate) fn man() -> Result {
    let mut text = Vec::new();
    write(&mut text).map_err(|error| {
        Failure::new(Exit::Internal, "IMB-X-MANUAL", format!("no manual: {}", error.kind()))
    })?;
    output::bytes(&text);
    Ok(Exit::Ok)
}

fn write(text: &mut Vec<u8>) -> std::io::Result<()> {
    let mut command = Arguments::command();
    command.build();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(text)?;
    page.render_name_section(text)?;
    page.render_synopsis_section(text)?;
    page.render_description_section(text)?;
    page.render_options_section(text)?;
    verbs(text, &command, "")?;
    page.render_extra_section(text)?;
    write!(text, "{FILES}")?;
    page.render_version_section(text)
}

/// The verbs in their order, those of a verb after it.
fn verbs(text: &mut Vec<u8>, command: &clap::Command, before: &str) -> std::io::Result<()> {
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    for verb in shown.filter(|verb| verb.get_name() != "help") {
        let name = format!("{before}{}", verb.get_name());
        writeln!(text, ".SH \"IMBABOT {}\"", name.to_uppercase())?;
        let page = clap_mangen::Man::new(verb.clone());
        let mut section = Vec::new();
        page.render_synopsis_section(&mut section)?;
        page.render_description_section(&mut section)?;
        page.render_options_section(&mut section)?;
        // Inside of the section of a verb they are parts of it.
        text.write_all(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").as_bytes())?;
        verbs(text, verb, &format!("{name} "))?;
    }
    Ok(())
}

const FILES: &str = "\
.SH FILES
.TP
.I config/imbabot.toml, /etc/imbabot/imbabot.toml
The configuration, where \\fB\\-\\-config\\fR names no other.
.TP
.I imbabot.db, imbabot.db\\-wal, imbabot.db\\-shm, imbabot.db.lock, imbabot.db.seen
The store, and what belongs to it, where it is a file.
.SH ENVIRONMENT
.TP
.B IMBABOT_SECRET_KEY, IMBABOT_SECRET_KEY_<NAME>
The \\[dq]Secret key\\[dq] of the widget, or of the widget of that name. A file is safer.
.TP
.B IMBABOT_DATABASE_URL
The URL of the PostgreSQL server, where the store is on one. A file is safer.
.TP
.B IMBABOT__SECTION__KEY
Any key of the configuration.
.TP
.B NO_COLOR
No colours.
";
