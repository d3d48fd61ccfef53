//! `adit status`: the state of the running agent.

mod text;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::{Args, ValueEnum};

use super::directories::Directories;
use super::exit::{Code, Failure};
use super::output::{self, Paint};
use crate::limits;
use crate::serve::control::{self, ControlError};
use crate::status::Status;

/// Show the state of the running agent
///
/// Shows the node, its networks, its peers with encapsulation and MTU, and each problem with its remedy.
///
/// Exit codes: 0 if the node is ready, 5 if it is not, 3 if no agent runs, 7 if --wait times out.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit status\n  adit status -o wide --watch\n  adit status -o json | jq .peers\n  adit status --wait --timeout 30"
)]
pub(super) struct Arguments {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: View,
    /// Show the state every second, until interrupted
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
    /// Wait until the node is ready
    #[arg(long)]
    wait: bool,
    /// Time limit of --wait, in seconds; then the exit code is 7
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
}

/// The format of the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum View {
    /// Text for people
    #[default]
    Text,
    /// Text for wide terminals, also with local addresses and exact counts
    Wide,
    /// JSON for programs
    Json,
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.watch {
        return watch(directories, arguments.output).await;
    }
    let status = if arguments.wait {
        wait(directories, arguments.timeout).await?
    } else {
        ask(directories).await?
    };
    output::show(&render(&status, arguments.output, false)?)?;
    if status.ready {
        Ok(())
    } else {
        Err(Failure::silent(Code::Degraded))
    }
}

pub(super) async fn ask(directories: &Directories) -> Result<Status, Failure> {
    control::status(&directories.run_dir).await.map_err(unanswered)
}

/// The failure when an agent did not answer.
pub(super) fn unanswered(error: ControlError) -> Failure {
    match error {
        ControlError::NotRunning { .. } => {
            let text = "start an agent with `adit run -f PATH`, or name its run directory with --run-dir";
            Failure::new(Code::NotFound, anyhow!("{error}; {text}"))
        }
        error => anyhow!(error).into(),
    }
}

async fn wait(directories: &Directories, seconds: u64) -> Result<Status, Failure> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let last = ask(directories).await;
        if let Ok(status) = &last
            && status.ready
        {
            return last;
        }
        if Instant::now() >= deadline {
            let why = match last {
                Err(failure) => failure.to_string(),
                Ok(status) => status.unready().unwrap_or_default(),
            };
            return Err(Failure::new(
                Code::TimedOut,
                anyhow!("not ready after {seconds} s: {why}"),
            ));
        }
        tokio::time::sleep(limits::WAIT_PAUSE).await;
    }
}

/// Shows the status repeatedly: redrawn on a terminal, one after the other elsewhere. Ends when the output is
/// closed.
async fn watch(directories: &Directories, view: View) -> Result<(), Failure> {
    let redraw = io::stdout().is_terminal();
    loop {
        let shown = match ask(directories).await {
            Ok(status) => render(&status, view, true)?,
            Err(failure) if redraw => format!("{failure}\n"),
            Err(failure) => return Err(failure),
        };
        if redraw {
            output::redraw(&shown)?;
        } else {
            output::show(&shown)?;
        }
        tokio::time::sleep(limits::WATCH_PAUSE).await;
    }
}

/// The status as text or JSON. In a stream, each JSON document is one line.
fn render(status: &Status, view: View, stream: bool) -> Result<String, Failure> {
    Ok(match view {
        View::Json if stream => serde_json::to_string(status)? + "\n",
        View::Json => serde_json::to_string_pretty(status)? + "\n",
        View::Text | View::Wide => {
            let text = text::render(status, view == View::Wide, Paint::of_stdout());
            let separate = stream && !io::stdout().is_terminal();
            text + if separate { "\n" } else { "" }
        }
    })
}
