//! Completions and the manual, made from the command line itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use support::{end_of, program};

fn printed(words: &[&str]) -> String {
    end_of(program(words), "").expect(0).stdout
}

/// Feeds a text to another program; `None` where that is not installed.
fn fed(words: &[&str], text: &str) -> Option<(bool, String)> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    // It may have seen enough before all was written.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    Some((output.status.success(), said.into_owned()))
}

#[test]
fn every_shell_gets_completions_that_it_can_read() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = printed(&["completions", shell]);
        assert!(text.contains("deliveries") && text.contains("migrate"), "{shell}: {text}");
        if let Some((good, said)) = fed(&[shell, "-n"], &text) {
            assert!(good || !["bash", "zsh", "fish"].contains(&shell), "{shell}: {said}");
        }
    }
    end_of(program(&["completions", "tcsh"]), "").expect(2);
}

#[test]
fn the_manual_has_a_section_for_every_verb_and_is_a_page_that_man_can_show() {
    let text = printed(&["man"]);
    assert!(text.contains(".TH imbabot 1"), "{text}");
    let help = printed(&["--help"]);
    let verbs = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for line in verbs.lines() {
        let verb = line.split_whitespace().next().unwrap();
        if verb != "help" {
            let section = format!(".SH \"IMBABOT {}\"", verb.to_uppercase());
            assert!(text.contains(&section), "{verb} is not in the manual");
        }
    }
    assert!(!help.contains("\n  man "), "it is for packagers");
    if let Some((good, said)) = fed(&["groff", "-man", "-Tutf8", "-ww"], &text) {
        assert!(good && !said.contains("warning"), "{said}");
    }
}

#[test]
fn the_version_says_what_it_was_built_with() {
    let text = printed(&["version", "--verbose", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in ["version", "revision", "rustc", "sqlite", "tzdb", "features", "bots"] {
        assert!(!told[key].is_null(), "{key}");
    }
    let bots: Vec<&str> =
        told["bots"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert!(bots.contains(&"rules"), "{bots:?}");
}
