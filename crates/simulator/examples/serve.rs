//! A simulator on 127.0.0.1:6270 (or the port given first), with the vendor's sample rooms and the
//! faults given after the port, until Ctrl-C or a signal ends it.

use std::io::Write;

use imbabot_simulator::{Clock, Loopback, LoopbackOptions, Options, Simulator};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(6270), |port| port.parse())?;
    let simulator = Simulator::new(Options::default(), Clock::system());
    simulator.load_vendor_sample();
    for spec in arguments {
        simulator.faults().push_spec(&spec)?;
    }
    let options = LoopbackOptions {
        log_file: std::env::var_os("SIMULATOR_LOG").map(Into::into),
        control: true,
    };
    let door = Loopback::bind(([127, 0, 0, 1], port).into(), simulator, options).await?;
    writeln!(std::io::stdout(), "serving {}", door.url())?;
    std::future::pending::<()>().await;
    Ok(())
}
