//! Tells the program what it was built with, for `version --verbose`. Downloads nothing.

use std::process::Command;

fn main() {
    let said = |program: &str, arguments: &[&str]| -> Option<String> {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let text = text.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let rustc = said(&rustc, &["--version"]).unwrap_or_else(|| "rustc unknown".into());
    let revision =
        said("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=IMBABOT_RUSTC={rustc}");
    println!("cargo::rustc-env=IMBABOT_REVISION={revision}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../.git/HEAD");
}
