//! A clock for a process that shows what a test says: a small library in C, compiled here (SQLite needs
//! a C compiler anyway) and preloaded. Rust asks libc for the time, and finds this one first.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use imbabot_core::Timestamp;

use super::{Daemon, Home, now_micros, wait_until};

struct Shim {
    _folder: tempfile::TempDir,
    library: PathBuf,
}

static SHIM: LazyLock<Shim> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("stepping_clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/stepping_clock.c");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let compiled = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Shim { _folder: folder, library }
});

pub(crate) fn truth() -> Timestamp {
    Timestamp::from_micros(now_micros())
}

/// What a clock on the wall of the daemon shows.
pub(crate) struct Wall {
    file: File,
    path: PathBuf,
    set: i64,
    since: Timestamp,
    shown: Timestamp,
    speed: i64,
}

impl Wall {
    /// At first it shows the truth.
    pub(crate) fn new(home: &Home) -> Self {
        let path = home.write("clock", [0_u8; 4096], 0o600);
        let file = File::options().write(true).open(&path).unwrap();
        let now = truth();
        let mut wall = Self { file, path, set: 0, since: now, shown: now, speed: 1 };
        wall.set(now, 1);
        wall
    }

    pub(crate) fn set(&mut self, shown: Timestamp, speed: i64) {
        (self.since, self.shown, self.speed) = (truth(), shown, speed);
        self.set += 1;
        let place = 8 + 24 * u64::try_from(self.set % 2).unwrap();
        let nanos = |at: Timestamp| at.as_micros() * 1_000;
        let setting = [nanos(self.since), nanos(shown), speed].map(i64::to_ne_bytes).concat();
        self.file.write_all_at(&setting, place).unwrap();
        self.file.write_all_at(&self.set.to_ne_bytes(), 0).unwrap();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shown + truth().since(self.since) * u32::try_from(self.speed).unwrap()
    }

    pub(crate) fn forward(&mut self, by: Duration) {
        self.set(self.now() + by, 1);
    }

    pub(crate) fn back(&mut self, by: Duration) {
        self.set(self.now() - by, 1);
    }

    pub(crate) fn shown_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &SHIM.library).env("STEPPING_CLOCK", &self.path);
    }

    pub(crate) fn start(&self, home: &Home) -> Daemon {
        let mut command = home.command(&["run"]);
        self.shown_to(&mut command);
        let daemon = Daemon::spawn(command, home);
        daemon.wait_ready();
        daemon
    }

    pub(crate) fn reach(&self, at: Timestamp) {
        wait_until(&format!("the clock reaches {}", at.compact()), || self.now() >= at);
    }
}
