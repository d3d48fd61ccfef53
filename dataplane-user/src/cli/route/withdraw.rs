//! `adit route withdraw` and `adit route restore`: ask the running agent, which remembers withdrawn peers
//! across restarts.

use anyhow::anyhow;
use clap::Args;

use super::super::directories::Directories;
use super::super::exit::{Code, Failure};
use super::super::output;
use super::super::status::unanswered;
use crate::serve::Withdrawal;
use crate::serve::control;

// No doc comment: `withdraw` and `restore` have texts of their own in `route.rs`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Name of the peer
    #[arg(value_name = "PEER")]
    peer: String,
}

pub(super) async fn run(
    directories: &Directories,
    arguments: &Arguments,
    withdraw: bool,
) -> Result<(), Failure> {
    let peer = &arguments.peer;
    let answer = control::set_withdrawn(&directories.run_dir, peer, withdraw).await;
    let answer = answer.map_err(unanswered)?;
    match answer {
        Withdrawal::Done if withdraw => {
            output::report(&format!("{peer} is withdrawn: no packets are sent to it.\n"))
        }
        Withdrawal::Done => output::report(&format!("{peer} is in use again.\n")),
        Withdrawal::Unknown(hint) => Err(Failure::new(
            Code::NotFound,
            anyhow!("no peer is named `{peer}`; {hint}"),
        )),
        Withdrawal::Failed(why) => Err(anyhow!(why).into()),
    }
}
