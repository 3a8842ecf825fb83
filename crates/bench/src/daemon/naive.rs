//! The loops that one writes first: ask, decode all, compare with a map of the last ones, wait.

use std::time::Duration;

use crate::lists::naive::Naive;

/// What the process of its own is started with.
pub(crate) const NAIVE: &str = "naive-daemon";
/// How long each waits between two polls.
pub(super) const PAUSE: Duration = Duration::from_millis(300);

/// In Python; address and pause are its arguments.
pub(super) const PYTHON: &str = r#"
import asyncio, sys, aiohttp

async def main():
    last = {}
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.post(sys.argv[1]) as answer:
                body = await answer.json()
            rooms = {room["id"]: room for room in body["data"]}
            news = sum(1 for id, room in rooms.items() if last.get(id) != room)
            gone = sum(1 for id in last if id not in rooms)
            last = rooms
            del body
            await asyncio.sleep(float(sys.argv[2]))

asyncio.run(main())
"#;

/// With python-telegram-bot and its own way to ask; address and pause are its arguments.
pub(super) const TELEGRAM: &str = r#"
import asyncio, json, sys
from telegram.ext import ApplicationBuilder

async def main():
    last = {}
    async with ApplicationBuilder().token("1:a").build().bot.request as request:
        while True:
            body = json.loads(await request.retrieve(sys.argv[1]))
            rooms = {room["id"]: room for room in body["data"]}
            news = sum(1 for id, room in rooms.items() if last.get(id) != room)
            last = rooms
            await asyncio.sleep(float(sys.argv[2]))

asyncio.run(main())
"#;

/// For Node.js; the address is its argument.
pub(super) const NODE: &str = r#"
(async () => {
  let last = new Map();
  for (;;) {
    const answer = await fetch(process.argv[1], { method: "POST" });
    const rooms = new Map((await answer.json()).data.map((room) => [room.id, room]));
    last = rooms;
    await new Promise((done) => setTimeout(done, 300));
  }
})();
"#;

/// In Rust: reqwest, serde_json, a `HashMap`.
pub(crate) fn run() -> anyhow::Result<()> {
    let url = std::env::args().nth(2).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().tls_certs_only([]).build()?;
        let mut naive = Naive::default();
        loop {
            let body = client.post(&url).send().await?.bytes().await?;
            naive.poll(&body)?;
            drop(body);
            tokio::time::sleep(PAUSE).await;
        }
    })
}
