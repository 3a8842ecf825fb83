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
