//! `demo`: a simulated chat, the daemon and a page to watch them, on loopback, in a folder that is
//! gone afterwards. The daemon is the real one, over real HTTP; only the people are played.

mod page;
mod people;

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use imbabot_scheduler::{Clock, Engine, OwnThreads, Parts};
use imbabot_simulator::{Loopback, LoopbackOptions, Options, Simulator};
use tokio::net::TcpListener;

use crate::cli::{self, Command, Result, Signals, args};
use crate::config::{Environment, LoadOptions, Loaded, load};
use crate::current::Current;
use crate::exit::{Exit, Failure};
use crate::http::{self, Access};
use crate::{output, stores, telemetry};

/// The daemon's own page, which is at the root where there is no demo.
const STATUS: &str = "/status";
/// As whom the bots speak in the demo.
const BOT_USER: u64 = 1;

pub(crate) async fn run(command: &Command, options: args::Demo) -> Result {
    if !options.listen.ip().is_loopback() {
        return Err(Failure::new(Exit::Usage, "IMB-V-LISTEN", "the demo listens on loopback only")
            .hint("its page can rule the simulated chat, and it asks nobody for a password"));
    }
    let mut signals = Signals::listen()?;
    let clock = cli::clock();
    let folder = tempfile::tempdir().map_err(|e| failed("no temporary folder", &e))?;
    let simulator = Simulator::new(
        Options { seed: clock.now().as_micros().unsigned_abs(), ..Options::default() },
        imbabot_simulator::Clock::system(),
    );
    people::move_in(&simulator, options.rooms);
    let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let chat = Loopback::bind(any_port, simulator.clone(), LoopbackOptions::default())
        .await
        .map_err(|e| failed("the simulated chat cannot listen", &e))?;
    let loaded = configure(command, folder.path(), &chat.url())?;
    telemetry::start(command.global.log.as_deref().unwrap_or("warn"), loaded.config.log.format);
    let engine = begin(command, &loaded, Arc::clone(&clock)).await?;

    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|e| failed(&format!("cannot listen on {}", options.listen), &e))?;
    let address = listener.local_addr().map_err(|e| failed("no address", &e))?;
    let access = Access::new(None, &[], Arc::clone(&clock));
    let shown = http::guarded(page::router(simulator.clone()), access.clone());
    let router = http::router(Current::new(engine.clone()), access, STATUS).merge(shown);

    let url = format!("http://{address}/");
    output::line(&format!("imbabot demo: open {url}"));
    output::line(
        "A simulated ImbaChat, the daemon and its bots run on this machine only. Ctrl-C ends it.",
    );
    if !options.no_open && std::io::stdout().is_terminal() {
        open_browser(&url);
    }
    let running = engine.run();
    tokio::pin!(running);
    let over = async {
        match options.duration {
            Some(duration) => clock.sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        end = &mut running => end?,
        served = async { axum::serve(listener, router).await } => {
            served.map_err(|e| failed("the page cannot be served", &e))?;
        }
        () = people::live(&simulator, &*clock) => {}
        () = signals.stop() => {}
        () = over => {}
    }
    engine.stop();
    running.await?;
    chat.shutdown().await;
    Ok(Exit::Ok)
}

fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Unavailable, "IMB-X-DEMO", format!("{what}: {}", error.kind()))
}

/// Writes the demo's configuration and loads it as any other.
fn configure(command: &Command, folder: &Path, base_url: &str) -> Result<Loaded> {
    let mut text = format!(
        r#"[[widget]]
id = 627
base_url = "{base_url}"
sender = {BOT_USER}

[poll]
rooms = "1s"
users = "2s"

[limits]
per_bot_and_room = "60/m"

[[schedule]]
id = "tick"
every = "1m"
rooms = {{ name = "^Team", kind = "conference" }}
text = "A minute has passed, {{{{ room.name }}}}."

[[schedule]]
id = "standup"
cron = "0 9 * * MON-FRI"
timezone = "Europe/Berlin"
rooms = {{ name = "^Team" }}
text = "Good morning, {{{{ room.name }}}}!"
"#
    );
    if command.registry.has("greeter") {
        text.push_str(
            r#"
[[bot]]
name = "greeter"
kind = "greeter"
settings = { greeting = "Welcome to {{ room.name }}!", follow_up = "Is everything clear?", after = "30s" }
"#,
        );
    }
    if command.registry.has("digest") {
        text.push_str(
            r#"
[[bot]]
name = "digest"
kind = "digest"
settings = { room = 1536, cron = "*/2 * * * *" }
"#,
        );
    }
    let file = folder.join("demo.toml");
    std::fs::write(&file, text).map_err(|e| failed("the demo's configuration", &e))?;
    let kinds = command.registry.kinds();
    let environment =
        Environment::from_iter([("IMBABOT_SECRET_KEY", Options::default().secret.as_str())]);
    let options =
        LoadOptions { config_path: Some(file), flags: Vec::new(), environment, kinds: &kinds };
    load(&options).map_err(|problems| command.problems(&problems))
}

async fn begin(command: &Command, loaded: &Loaded, clock: Arc<dyn Clock>) -> Result<Engine> {
    let config = &loaded.config;
    let store = stores::open(config, &*clock).await?;
    let seed = clock.now().as_micros().unsigned_abs();
    Ok(Engine::begin(Parts {
        clock,
        store,
        executor: Arc::new(OwnThreads::new()),
        settings: command.settings(config)?,
        version: env!("CARGO_PKG_VERSION").into(),
        seed,
    })
    .await?)
}

/// Asks the desktop, if there is one; the address was printed in any case.
fn open_browser(url: &str) {
    use std::process::{Command, Stdio};
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let _ = Command::new(opener)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
