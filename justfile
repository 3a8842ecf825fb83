# What one does here, a line each. `just` lists them.

_list:
    @just --list --unsorted

# The whole check, the same for everybody: formatting, lints, tests, documents, the demo.
ci:
    .ci/run

# All tests; they need no server.
test *args:
    cargo test --workspace {{ args }}

# `kill -9` at random moments, a thousand times: ten minutes.
kill-test:
    cargo test --release -p imbabot-bots --test kill -- --ignored --nocapture

# A day of the daemon at a hundred times its pace, with reloads, outages and kills: a quarter of an hour.
soak:
    cargo test --release -p imbabot-bots --test soak -- --ignored --nocapture

# One simulated history, by its seed or as a line of crates/testing/reproductions; prints what happens.
sim history:
    cargo run --release -p imbabot-testing --example sim -- '{{ history }}'

# Simulated histories without end, or so many (`just sim-night 0..10000`); ten failures are enough.
sim-night seeds="0..":
    cargo run --release -p imbabot-testing --example sim -- '{{ seeds }}'

# Ten years of schedules in 25 zones, with kills at random: minutes.
years:
    cargo test --release -p imbabot-testing --test simulation_years -- --ignored --nocapture

# The lints, as strict as the check has them.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Formats everything.
fmt:
    cargo fmt --all

# The documents of all crates; a link that leads nowhere is an error.
doc *args:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked {{ args }}

# A simulated chat, the daemon and a page to watch them.
demo *args:
    cargo run --release -- demo {{ args }}

# The daemon, by config/imbabot.toml or by what is given with --config.
run *args:
    cargo run --release -- run {{ args }}

# Sample and book of the configuration, written anew from the tables of keys.
keys:
    IMBABOT_UPDATE=1 cargo test -p imbabot --test config_reference

# Licences, duplicates and sources of what we depend on; needs cargo-deny, not the network.
deny:
    cargo deny check licenses bans sources

# A table of docs/performance.md: lists, daemon, schedules, rehearse.
bench table:
    cargo build --release
    cargo run --release -p imbabot-bench -- {{ table }}
