//! `adit route withdraw` and `adit route restore`: asks the running agent, which remembers it beyond its own end.

use anyhow::anyhow;
use clap::Args;

use super::super::exit::{Code, Failure};
use super::super::output;
use super::super::places::Places;
use crate::serve::Withdrawal;
use crate::serve::control::{self, ControlError};

/// What is so already is fine. Lasts until the opposite is asked for, also over restarts.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The peer's name
    #[arg(value_name = "PEER")]
    peer: String,
}

pub(super) async fn run(places: &Places, arguments: &Arguments, withdraw: bool) -> Result<(), Failure> {
    let peer = &arguments.peer;
    let answer = control::set_withdrawn(&places.run_dir, peer, withdraw).await;
    let answer = answer.map_err(|error| {
        let code = match error {
            ControlError::NotRunning { .. } => Code::NotFound,
            _ => Code::Error,
        };
        Failure::new(
            code,
            anyhow!(error).context("start one by `adit run -f PATH`, or say where by --run-dir"),
        )
    })?;
    match answer {
        Withdrawal::Done if withdraw => {
            output::report(&format!("{peer} is withdrawn: nothing is sent to it.\n"))
        }
        Withdrawal::Done => output::report(&format!("{peer} is restored.\n")),
        Withdrawal::Unknown(hint) => Err(Failure::new(
            Code::NotFound,
            anyhow!("no peer is named `{peer}`; {hint}"),
        )),
        Withdrawal::Failed(why) => Err(anyhow!(why).into()),
    }
}
