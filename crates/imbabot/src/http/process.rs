//! What the process itself uses, as the kernel counts it, under the names that Prometheus' own
//! libraries use.

/// What the process itself uses, from the kernel.
pub(super) fn metrics() -> String {
    let mut text = String::new();
    let page = 4096.0;
    let ticks = 100.0;
    if let Ok(statm) = std::fs::read_to_string("/proc/self/statm")
        && let Some(pages) = statm.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok())
    {
        gauge(
            &mut text,
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            pages * page,
        );
    }
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat")
        && let Some((_, fields)) = stat.rsplit_once(')')
    {
        let fields: Vec<f64> = fields.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        // The state letter is no number: utime and stime are the 11th and 12th numbers.
        if let (Some(user), Some(system)) = (fields.get(10), fields.get(11)) {
            let seconds = (user + system) / ticks;
            gauge(&mut text, "process_cpu_seconds_total", "counter", "CPU time.", seconds);
        }
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let count = entries.count() as f64;
        gauge(&mut text, "process_open_fds", "gauge", "Open file descriptors.", count);
    }
    text
}

fn gauge(text: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    use std::fmt::Write;
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}
