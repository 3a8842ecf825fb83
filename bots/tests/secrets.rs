//! The secret key is nowhere but in the requests: not in what the program says at its most
//! talkative, not in its files, not on its pages, whatever goes wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;

use std::process::Stdio;

use imbabot_core::SecretKey;
use imbabot_simulator::Options;
use support::{Chat, Ended, Home, Signal, end_of, program, wait_until};

/// Has something to escape in every encoding.
const KEY: &str = "Tr0ub4dor&3/+ü\"x";
/// One that can stand in an address.
const PLAIN: &str = "Tr0ub4dor-und-3";
/// Of the same kind, and not the server's.
const WRONG: &str = "An0ther-wr0ng&key/+ö\"y";

const BOTS: &str = r#"
[[bot]]
name = "greeter"
kind = "greeter"
settings = { greeting = "Welcome!" }

[[bot]]
name = "digest"
kind = "digest"
settings = { room = 1536 }
"#;

/// Everything that was said, with where it was said.
#[derive(Default)]
struct Heard(Vec<(String, Vec<u8>)>);

impl Heard {
    fn ended(&mut self, what: &str, ended: &Ended) {
        self.0.push((format!("stdout of {what}"), ended.stdout.clone().into_bytes()));
        self.0.push((format!("stderr of {what}"), ended.stderr.clone().into_bytes()));
    }

    fn page(&mut self, home: &Home, path: &str) {
        let page = home.http().get(path).unwrap();
        self.0.push((path.to_owned(), format!("{}\n{}", page.head, page.body).into_bytes()));
    }

    /// Every file but the key's own.
    fn files(&mut self, home: &Home) {
        for entry in std::fs::read_dir(home.folder()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "secret_key" {
                let name = entry.file_name().to_string_lossy().into_owned();
                self.0.push((name, std::fs::read(entry.path()).unwrap()));
            }
        }
    }

    #[track_caller]
    fn is_clean_of(&self, keys: &[&str]) {
        for key in keys {
            let secret = SecretKey::parse(key).unwrap();
            for (place, bytes) in &self.0 {
                let text = String::from_utf8_lossy(bytes);
                if secret.leaks_into(&text) {
                    let line = text.lines().find(|line| secret.leaks_into(line)).unwrap_or(&text);
                    panic!("a key stands in {place}: {line}");
                }
            }
        }
    }

    #[track_caller]
    fn holds(&self, word: &str) {
        let found = self.0.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains(word));
        assert!(found, "nothing was heard of {word}: is anything heard at all?");
    }
}

fn chat() -> Chat {
    Chat::with(Options { secret: KEY.to_owned(), ..Options::default() })
}

/// The verbs that talk, at their most talkative.
fn verbs(home: &Home, heard: &mut Heard) {
    for words in [
        &["send", "--room", "1536", "--wait", "2s", "hello"][..],
        &["send", "--room", "1536", "--wait", "2s", "--json", "hello"],
        &["rooms"],
        &["rooms", "--json"],
        &["users"],
        &["check"],
        &["check", "--json"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["schedules"],
        &["deliveries"],
        &["deliveries", "--json"],
        &["events"],
        &["ledger", "export"],
        &["ledger", "verify"],
        &["version", "--verbose"],
    ] {
        for format in ["text", "json"] {
            let mut arguments = vec!["--log", "trace", "--log-format", format];
            arguments.extend(words);
            let mut command = home.command(&arguments);
            command.env("RUST_BACKTRACE", "full").env("RUST_LOG", "trace");
            heard.ended(&words.join(" "), &end_of(command, ""));
        }
    }
}

/// Runs the daemon through its paces, as talkative as it can be.
fn daemon(home: &Home, heard: &mut Heard, meanwhile: impl FnOnce(&support::Daemon)) {
    let mut command = home.command(&["run", "--log", "trace,hyper=trace,reqwest=trace"]);
    command.env("RUST_BACKTRACE", "full").env("RUST_LOG", "trace");
    let daemon = support::Daemon::spawn(command, home);
    wait_until("it answers", || daemon.http().get("/livez").is_some());
    meanwhile(&daemon);
    for path in ["/readyz", "/livez", "/metrics", "/api/status", "/", "/no/such"] {
        heard.page(home, path);
    }
    daemon.stop();
}

#[test]
fn the_key_is_nowhere_when_all_goes_well() {
    let chat = chat();
    chat.open_room("Team 1");
    let home = Home::at(&chat, BOTS);
    home.secret(KEY);
    let mut heard = Heard::default();
    daemon(&home, &mut heard, |daemon| {
        daemon.wait_ready();
        let room = chat.open_room("New");
        wait_until("greeted", || chat.texts(room) == ["Welcome!"]);
        verbs_are_clean(&home);
        daemon.signal(Signal::HUP);
        wait_until("reloaded", || daemon.log().contains("was reloaded"));
    });
    verbs(&home, &mut heard);
    heard.files(&home);
    heard.holds("delivered");
    heard.is_clean_of(&[KEY]);
}

/// Verbs beside the daemon are judged on the spot.
fn verbs_are_clean(home: &Home) {
    let mut heard = Heard::default();
    verbs(home, &mut heard);
    heard.is_clean_of(&[KEY]);
}

#[test]
fn the_key_is_nowhere_when_it_is_refused() {
    let chat = chat();
    chat.open_room("Team 1");
    let home = Home::at(&chat, BOTS);
    home.secret(WRONG);
    let mut heard = Heard::default();
    daemon(&home, &mut heard, |daemon| daemon.wait_reason("credentials_rejected"));
    verbs(&home, &mut heard);
    heard.files(&home);
    heard.holds("IMB-API-CREDENTIALS");
    heard.is_clean_of(&[KEY, WRONG]);
}

#[test]
fn the_key_is_nowhere_when_the_server_is_not_there_or_mad() {
    let chat = chat();
    chat.open_room("Team 1");
    let home = Home::at(&chat, BOTS);
    home.secret(KEY);
    let mut heard = Heard::default();
    // Refused ports.
    home.configure(&format!("http://127.0.0.1:{}", support::free_port()), BOTS);
    daemon(&home, &mut heard, |daemon| daemon.wait_reason_among("api_unreachable"));
    verbs(&home, &mut heard);
    home.configure(chat.url(), BOTS);
    // Garbage, and the key itself thrown back in several disguises.
    let basic = "Basic NjI3OlRyMHViNGRvciYzLyvDvCJ4";
    for spec in [
        "any:not-http=garbage garbage:always".to_owned(),
        "any:body=@html:always".to_owned(),
        "any:body=@die:always".to_owned(),
        "any:truncate=20:always".to_owned(),
        "any:status=500:body=@warning:always".to_owned(),
        "any:status=308:location=http\\://elsewhere.example/?key=secret:always".to_owned(),
        format!("any:status=400:body={KEY}:always"),
        format!("any:status=422:body={{\"code\"\\:422,\"error\"\\:\"you sent {basic}\"}}:always"),
        format!(
            "any:body={{\"code\"\\:500,\"error\"\\:\"{}\"}}:always",
            KEY.replace('"', "\\\\\"")
        ),
        format!("any:header=X-Echo={}:status=404:always", "Tr0ub4dor&3/+x"),
    ] {
        chat.faults().clear();
        chat.fault(&spec);
        let asked = chat.log().len();
        daemon(&home, &mut heard, |_| {
            wait_until("it asks", || chat.log().len() > asked + 1);
        });
        for words in [&["rooms"][..], &["users"], &["send", "--room", "1536", "--wait", "1s", "x"]]
        {
            let mut arguments = vec!["--log", "trace"];
            arguments.extend(words);
            heard.ended(&format!("{words:?} with {spec}"), &home.imbabot(&arguments));
        }
    }
    heard.files(&home);
    heard.is_clean_of(&[KEY]);
}

/// The key as somebody may throw it back.
fn disguises() -> Vec<String> {
    use std::fmt::Write;
    let hex = |upper: bool| {
        KEY.bytes().fold(String::new(), |mut hex, byte| {
            let _ = if upper { write!(hex, "{byte:02X}") } else { write!(hex, "{byte:02x}") };
            hex
        })
    };
    let url = KEY.bytes().fold(String::new(), |mut url, byte| {
        let _ = match byte.is_ascii_alphanumeric() {
            true => write!(url, "{}", char::from(byte)),
            false => write!(url, "%{byte:02X}"),
        };
        url
    });
    vec![
        KEY.to_owned(),
        KEY.replace('"', "\\\""),
        KEY.replace('"', "&quot;").replace('/', "\\/"),
        // Of the key, and of "627:" with it, as the header has it.
        "VHIwdWI0ZG9yJjMvK8O8Ing=".to_owned(),
        "NjI3OlRyMHViNGRvciYzLyvDvCJ4".to_owned(),
        url,
        hex(false),
        hex(true),
    ]
}

/// Answers in which it comes.
fn echoes(key: &str) -> Vec<String> {
    // Colons and backslashes mean something in a fault's words.
    let key = key.replace('\\', "\\\\").replace(':', "\\:");
    let mut specs = vec![
        format!("any:status=400:body={key}:always"),
        format!("any:status=401:body={key}:always"),
        format!("any:status=500:body=<html>{key}</html>:always"),
        format!("any:body={key}:always"),
        format!("any:body={{\"code\"\\:403,\"error\"\\:\"{}\"}}:always", key.replace('"', "'")),
        format!(
            "any:body={{\"success\"\\:true,\"data\"\\:[\"{}\"]}}:always",
            key.replace('"', "'")
        ),
        format!("any:not-http={key}:always"),
    ];
    if key.is_ascii() && !key.contains('"') {
        specs.push(format!("any:status=307:location=http\\://{key}.example/{key}?{key}:always"));
        specs.push(format!("any:status=422:header=X-Echo={key}:always"));
    }
    specs
}

#[test]
fn the_key_is_nowhere_on_two_hundred_ways_to_fail_at_the_most_talkative() {
    let specs: Vec<String> = disguises().iter().flat_map(|key| echoes(key)).collect();
    let verbs: [&[&str]; 4] = [
        &["rooms"],
        &["users", "--json"],
        &["doctor"],
        &["send", "--room", "1536", "--wait", "200ms", "x"],
    ];
    let paths = specs.len() * verbs.len();
    assert!(paths >= 200, "{paths}");
    // The machine has more than one core, and each way takes its own time.
    let (share, verbs) = (specs.len().div_ceil(4), &verbs);
    std::thread::scope(|scope| {
        for specs in specs.chunks(share) {
            scope.spawn(move || {
                let chat = chat();
                chat.open_room("Team 1");
                let home = Home::at(&chat, BOTS);
                home.secret(KEY);
                for spec in specs {
                    chat.faults().clear();
                    chat.fault(spec);
                    let mut heard = Heard::default();
                    for words in verbs {
                        let mut arguments = vec!["--log", "trace"];
                        arguments.extend(*words);
                        let mut command = home.command(&arguments);
                        command.env("RUST_BACKTRACE", "full").env("RUST_LOG", "trace");
                        let ended = end_of(command, "");
                        assert!(ended.code != Some(101), "a panic: {words:?} with {spec}");
                        heard.ended(&format!("{words:?} with {spec}"), &ended);
                    }
                    heard.files(&home);
                    heard.is_clean_of(&[KEY]);
                }
            });
        }
    });
    println!("{paths} ways to fail");
}

#[test]
fn the_key_is_nowhere_when_it_is_misplaced() {
    let home = Home::new("http://127.0.0.1:9", "");
    let mut heard = Heard::default();
    let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
    let literal = KEY.replace('"', "\\\"");
    // In the file instead of beside it, under several names, and with a file that all can read.
    for (change, mode) in [
        (format!("secret_key = \"{literal}\"\n"), 0o600),
        (format!("secret = \"{literal}\"\n"), 0o600),
        (format!("base_url = \"http://627:{PLAIN}@127.0.0.1:9\"\n"), 0o600),
        ("secret_key_file = \"secret_key\"\n".to_owned(), 0o644),
    ] {
        let name = change.split(' ').next().unwrap();
        let kept: Vec<&str> = file.lines().filter(|line| !line.starts_with(name)).collect();
        let changed = kept.join("\n").replacen("[[widget]]\n", &format!("[[widget]]\n{change}"), 1);
        home.write("imbabot.toml", changed, 0o600);
        home.write("secret_key", KEY, mode);
        for words in [&["check"][..], &["check", "--json"], &["run"], &["config", "show"]] {
            let ended = home.imbabot(words).expect(78);
            heard.ended(&format!("{words:?} with {name}"), &ended);
        }
    }
    heard.is_clean_of(&[KEY, PLAIN]);
}

#[test]
fn a_key_from_the_environment_is_not_left_there_and_reaches_no_child() {
    let chat = chat();
    chat.open_room("Team 1");
    let home = Home::at(&chat, "");
    std::fs::remove_file(home.path("secret_key")).unwrap();
    let file = std::fs::read_to_string(home.path("imbabot.toml")).unwrap();
    home.write("imbabot.toml", file.replace("secret_key_file = \"secret_key\"\n", ""), 0o600);
    let mut command = home.command(&["run", "--log", "trace"]);
    command.env("IMBABOT_SECRET_KEY", KEY).stdin(Stdio::null());
    let daemon = support::Daemon::spawn(command, &home);
    daemon.wait_ready();
    let mut heard = Heard::default();
    heard.page(&home, "/metrics");
    heard.page(&home, "/api/status");
    let shown = home.command(&["config", "show", "--json"]);
    let mut shown = shown;
    shown.env("IMBABOT_SECRET_KEY", KEY);
    heard.ended("config show", &end_of(shown, "").expect(0));
    daemon.stop();
    heard.files(&home);
    heard.is_clean_of(&[KEY]);
}

#[test]
fn no_flag_takes_a_key() {
    let help = end_of(program(&["--help"]), "").stdout;
    let send = end_of(program(&["send", "--help"]), "").stdout;
    let run = end_of(program(&["run", "--help"]), "").stdout;
    for text in [help, send, run] {
        assert!(!text.to_lowercase().contains("secret") || text.contains("secret key is refused"));
        assert!(!text.contains("--secret"), "{text}");
    }
}
