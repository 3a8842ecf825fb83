//! What the host does to the process: little of everything, nothing around it, a disk that is not its
//! own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "another process takes real time")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::{Chat, Daemon, Home, wait_until};

/// The daemon beneath a shell that first does this to itself.
fn beneath(home: &Home, first: &str) -> Daemon {
    let run = home.command(&["run"]);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{first}; exec \"$0\" \"$@\"")).arg(run.get_program());
    command.args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Daemon::spawn(command, home)
}

/// What the process computed so far, in clock ticks of a hundredth.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn p14_few_files_and_little_memory_are_enough_and_nothing_spins() {
    for limit in ["ulimit -n 40", "ulimit -v 1048576"] {
        let chat = Chat::open();
        let room = chat.open_room("Old");
        let home = Home::at(&chat, "[poll]\nrooms = \"1s\"\n");
        let daemon = beneath(&home, limit);
        daemon.wait_ready();
        let before = ticks(daemon.pid());
        std::thread::sleep(Duration::from_secs(2));
        let used = ticks(daemon.pid()) - before;
        assert!(used < 20, "{limit}: {used} hundredths of a second in two");
        home.imbabot(&["send", "--room", &room.to_string(), "--wait", "10s", "Hello"]).expect(0);
        daemon.stop();
    }
}

#[test]
fn p14_less_than_it_needs_ends_at_once_with_words() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let daemon = beneath(&home, "ulimit -n 8");
    let log = home.path("daemon.log");
    let code = daemon.end();
    let said = std::fs::read_to_string(log).unwrap();
    assert!(matches!(code, Some(69..=78)), "{code:?}: {said}");
    assert!(said.contains("IMB-"), "{said}");
}

#[test]
fn p23_without_home_zone_or_environment_it_works_with_a_path_for_its_store() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let mut command = home.command(&["run"]);
    command.env_clear().current_dir("/");
    let daemon = Daemon::spawn(command, &home);
    daemon.wait_ready();
    let room = chat.open_room("New").to_string();
    home.imbabot(&["send", "--room", &room, "--wait", "10s", "Hello"]).expect(0);
    daemon.stop();
}

#[test]
fn p8_a_folder_that_may_not_be_written_is_told_with_its_path_and_what_it_needs() {
    // Root may write everywhere: only a file system that is read-only keeps it from that.
    let read_only = Path::new("/sys/kernel");
    let chat = Chat::open();
    let path = read_only.join("imbabot.db");
    let home = Home::at(&chat, &format!("[store]\npath = \"{}\"\n", path.display()));
    let told = home.imbabot(&["run", "--json"]).expect(74).error();
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("/sys/kernel") && message.contains("writable"), "{told}");
}

#[test]
fn p13_a_second_daemon_names_the_first_and_changes_nothing_for_it() {
    let chat = Chat::open();
    let home = Home::at(&chat, "");
    let first = home.ready();
    let told = home.imbabot(&["run", "--json"]).expect(75).error();
    let pid = first.pid().to_string();
    assert!(told["message"].as_str().unwrap().contains(&pid), "{told}");
    wait_until("the first goes on", || first.http().is_ready());
    first.stop();
}
