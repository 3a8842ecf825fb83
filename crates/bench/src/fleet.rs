//! Several instances on one PostgreSQL, processes of their own: how many messages a second leave with
//! one, two and four of them, beside one instance on SQLite in the same run, and what a widget costs where
//! two instances poll two thousand. All on one machine with the database, so what is seen is the price
//! of sharing; more machines are not seen here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::daemon::binary;
use crate::process;
use crate::server::Server;
use crate::table::say;

/// Sites that messages go to, and rooms of each.
const SITES: (usize, u64) = (16, 500);
/// Sites of the large fleet, and rooms of each.
const MANY: (usize, u64) = (2_000, 100);
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures and prints.
pub(crate) fn run() -> anyhow::Result<()> {
    let url = std::env::var("IMBABOT_DATABASE_URL")
        .context("IMBABOT_DATABASE_URL names no database; it has to be empty")?;
    let binary = binary()?;
    say("\nMessages a second, each durable before it leaves and after it is confirmed\n");
    let alone = sends(&binary, None, 1, 0)?;
    say(&format!("SQLite, one instance: {alone:.0}/s"));
    for (run, instances) in [1, 2, 4].into_iter().enumerate() {
        let rate = sends(&binary, Some(&url), instances, run + 1)?;
        say(&format!(
            "PostgreSQL, {instances} of them: {rate:.0}/s, {:.2} of SQLite",
            rate / alone
        ));
    }
    many(&binary, &url)
}

/// An instance; it is killed with this.
struct Instance {
    child: Child,
    folder: TempDir,
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Instance {
    fn start(
        binary: &Path,
        server: &Server,
        url: Option<&str>,
        widgets: &[String],
        more: &str,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("imbabot-bench").tempdir_in(".")?;
        private(&folder.path().join("secret_key"), "bench")?;
        let mut text = String::from("widgets_file = \"widgets.toml\"\n");
        text.push_str(more);
        if let Some(url) = url {
            private(&folder.path().join("database_url"), url)?;
            text.push_str(
                "[store]\nkind = \"postgres\"\nurl_file = \"database_url\"\nlease = \"5s\"\n",
            );
        }
        text.push_str("[http]\nlisten = \"off\"\n[log]\nlevel = \"warn\"\n");
        let mut sites = String::new();
        for name in widgets {
            // Under this id the server's lists are the widget's own.
            sites.push_str(&format!(
                "[[widget]]\nname = \"{name}\"\nid = 627\nsender = 1\nbase_url = \"{}\"\n\
                 secret_key_file = \"secret_key\"\n",
                server.url(name)
            ));
        }
        private(&folder.path().join("widgets.toml"), &sites)?;
        private(&folder.path().join("imbabot.toml"), &text)?;
        let mut command = program(binary);
        command.arg("run").arg("--config").arg(folder.path().join("imbabot.toml"));
        Ok(Self { child: command.spawn()?, folder })
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("imbabot.toml")
    }

    fn verb(&self, binary: &Path, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = program(binary);
        command.args(arguments).arg("--config").arg(self.config()).stdout(Stdio::null());
        let status = command.status()?;
        anyhow::ensure!(status.success(), "{arguments:?} ended with {status}");
        Ok(())
    }

    fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

/// The program; its configuration says which store it is about, and not our environment.
fn program(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_remove("IMBABOT_DATABASE_URL");
    command
}

fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// Messages a second while every room of every site has one due.
fn sends(binary: &Path, url: Option<&str>, instances: usize, run: usize) -> anyhow::Result<f64> {
    let server = Server::start(SITES.1)?;
    // The database is the same in each run: the names are not.
    let widgets: Vec<String> = (0..SITES.0).map(|n| format!("r{run}w{n}")).collect();
    let mut more = String::from(
        "[poll]\nrooms = \"60s\"\n[delivery]\nrate = \"1000/s\"\nrate_per_room = \"1000/s\"\n\
         concurrency = 16\n",
    );
    for widget in &widgets {
        more.push_str(&format!(
            "[[schedule]]\nid = \"{widget}\"\nat = \"2099-01-01T00:00:00\"\nwidgets = [\"{widget}\"]\n\
             rooms = {{ all = true }}\ntext = \"Hello!\"\n"
        ));
    }
    let started: Vec<Instance> = (0..instances)
        .map(|_| Instance::start(binary, &server, url, &widgets, &more))
        .collect::<anyhow::Result<_>>()?;
    for widget in &widgets {
        server.wait_for(widget, 1, PATIENCE)?;
    }
    // Until what they own is shared out, and every list is stored.
    std::thread::sleep(Duration::from_secs(if instances > 1 { 12 } else { 3 }));
    let first = started.first().context("an instance")?;
    for widget in &widgets {
        first.verb(binary, &["schedules", "trigger", widget])?;
    }
    let all = SITES.0 as u64 * SITES.1;
    let begun = Instant::now();
    let (from, before) = (Instant::now(), server.messages());
    while server.messages() < all {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{} of {all}", server.messages());
        std::thread::sleep(Duration::from_millis(5));
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = (all - before) as f64 / from.elapsed().as_secs_f64();
    started.into_iter().try_for_each(Instance::stop)?;
    Ok(rate)
}

/// What a widget costs two instances that poll it every thirty seconds.
fn many(binary: &Path, url: &str) -> anyhow::Result<()> {
    let server = Server::start(MANY.1)?;
    let widgets: Vec<String> = (0..MANY.0).map(|n| format!("many{n}")).collect();
    let more = "[poll]\nrooms = \"30s\"\n";
    let started: Vec<Instance> = (0..2)
        .map(|_| Instance::start(binary, &server, Some(url), &widgets, more))
        .collect::<anyhow::Result<_>>()?;
    for widget in &widgets {
        server.wait_for(widget, 2, PATIENCE)?;
    }
    let asked = || widgets.iter().map(|widget| server.requests(widget)).sum::<u64>();
    let cpu = || -> anyhow::Result<f64> {
        started.iter().map(|instance| process::cpu(instance.child.id())).sum()
    };
    let (polls, used, begun) = (asked(), cpu()?, Instant::now());
    std::thread::sleep(Duration::from_secs(60));
    let (polls, used, length) = (asked() - polls, cpu()? - used, begun.elapsed().as_secs_f64());
    let mut resident = 0.0;
    for instance in &started {
        resident += process::memory(instance.child.id(), "VmRSS:")?;
    }
    let sites = f64::from(u32::try_from(MANY.0)?);
    say(&format!(
        "\n{} widgets of {} rooms on two instances, polled every 30 s: {polls} polls in {length:.0} s; \
         {:.1} % of a core in all, {:.2} ms of CPU a widget and minute; {resident:.1} MiB in all, \
         {:.1} KiB a widget",
        MANY.0,
        MANY.1,
        used / length * 100.0,
        used / length * 60.0 / sites * 1_000.0,
        resident * 1_024.0 / sites,
    ));
    started.into_iter().try_for_each(Instance::stop)
}
