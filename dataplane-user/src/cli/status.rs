//! `adit status`: the running agent's state.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;

use super::exit::{Code, Failure};
use super::output::{self, Format};
use super::places::Places;
use crate::control::{self, ControlError};
use crate::status::Status;

/// Exits with 0 when the node is ready, 5 when it is not, 3 when no agent runs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit status\n  adit status -o json | jq .peers\n  adit status --wait --timeout 30"
)]
pub(super) struct Arguments {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Waits until the node is ready
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds; exits with 7 after it
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    let status = if arguments.wait {
        wait(places, arguments.timeout).await?
    } else {
        ask(places).await?
    };
    match arguments.output {
        Format::Json => output::json(&status)?,
        Format::Text => print(&status),
    }
    if status.ready {
        Ok(())
    } else {
        Err(Failure::silent(Code::Degraded))
    }
}

async fn ask(places: &Places) -> Result<Status, Failure> {
    control::status(&places.run_dir).await.map_err(|error| {
        let code = if matches!(error, ControlError::NotRunning { .. }) {
            Code::NotFound
        } else {
            Code::Error
        };
        Failure::new(
            code,
            anyhow!(error).context("start one by `adit run -f PATH`, or say where by --run-dir"),
        )
    })
}

async fn wait(places: &Places, seconds: u64) -> Result<Status, Failure> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let last = ask(places).await;
        if let Ok(status) = &last
            && status.ready
        {
            return last;
        }
        if Instant::now() >= deadline {
            let why = match last {
                Err(failure) => failure.to_string(),
                Ok(status) => {
                    let first = status.problems.first();
                    first.map_or_else(|| "it has not finished a pass".to_owned(), |p| p.message.clone())
                }
            };
            return Err(Failure::new(
                Code::TimedOut,
                anyhow!("not ready after {seconds} s: {why}"),
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn print(status: &Status) {
    let ready = if status.ready { "ready" } else { "not ready" };
    println!(
        "node {}: {ready} (adit {}, Linux {})",
        status.node, status.version, status.kernel
    );
    let pass = &status.pass;
    println!(
        "pass {}: {} changed, {} failed, {} left to do, in {:.1} ms",
        pass.number,
        pass.changed,
        pass.failed,
        pass.residual,
        Duration::from_micros(pass.duration_us).as_secs_f64() * 1e3,
    );
    for network in &status.networks {
        println!(
            "network {}: {}, MTU {}",
            network.name,
            network.prefixes.join(" "),
            network.mtu
        );
    }
    if !status.peers.is_empty() {
        println!();
        let rows = status.peers.iter().map(|peer| {
            [
                peer.node.clone(),
                peer.network.clone(),
                peer.encapsulation.clone(),
                peer.remote.clone(),
                peer.mtu.to_string(),
            ]
        });
        output::table(
            ["PEER", "NETWORK", "ENCAPSULATION", "REMOTE", "MTU"],
            &rows.collect::<Vec<_>>(),
        );
    }
    for problem in &status.problems {
        println!("\n{}: {} ({})", problem.severity, problem.subject, problem.reason);
        println!("  {}", problem.message.replace('\n', "\n  "));
        println!("  {}", problem.remedy);
    }
}
