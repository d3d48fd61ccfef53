//! The lab: hosts and pods in network namespaces, an agent on each host, traffic between all of them, and a capture of
//! the underlay. `cargo xtask lab` builds and runs it.
mod agents;
mod capture;
mod encapsulation;
mod hold;
mod links;
#[path = "../../xtask/src/lab/options.rs"]
pub mod options;
mod pairs;
mod plain;
mod probe;
#[path = "../../xtask/src/progress.rs"]
pub mod progress;
mod report;
mod requested;
mod sabotage;
mod shared;
mod site;
mod stage;
mod topology;
mod traffic;
mod verdict;

use std::env;
use std::panic;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::options::Options;

/// Exit code of a lab that could not run to its end, so that nothing is known about the dataplane.
const NOT_RUN: u8 = 125;

fn main() -> ExitCode {
    match panic::catch_unwind(run) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => {
            eprintln!("Error: {error:#}");
            ExitCode::from(NOT_RUN)
        }
        // The panic has printed its reason.
        Err(_) => ExitCode::from(NOT_RUN),
    }
}

/// `lab run OPTIONS` runs the lab. `lab probe OPTIONS` prints why it cannot run on this kernel, or nothing.
fn run() -> Result<u8> {
    let [_, what, options] = <[String; 3]>::try_from(env::args().collect::<Vec<_>>())
        .map_err(|_| anyhow::anyhow!("this program is run by `cargo xtask lab`: use that"))?;
    let options: Options = serde_json::from_str(&options).context("reading the options")?;
    match &what[..] {
        "run" => Ok(u8::from(!stage::run(&options)?)),
        "probe" => {
            if let Some(why) = probe::obstacle(&options)? {
                println!("{why}");
            }
            Ok(0)
        }
        _ => bail!("unknown command `{what}`: only `run` and `probe` exist"),
    }
}
