//! `adit status`: the running agent's state.

mod text;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::{Args, ValueEnum};

use super::exit::{Code, Failure};
use super::output::{self, Paint};
use super::places::Places;
use crate::limits;
use crate::serve::control::{self, ControlError};
use crate::status::Status;

/// Exits with 0 when the node is ready, 5 when it is not, 3 when no agent runs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit status\n  adit status -o wide --watch\n  adit status -o json | jq .peers\n  adit status --wait --timeout 30"
)]
pub(super) struct Arguments {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: View,
    /// Shows it again every second, until interrupted
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
    /// Waits until the node is ready
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds; exits with 7 after it
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
}

/// How much is shown, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum View {
    /// For people.
    #[default]
    Text,
    /// For people with wide terminals: also local addresses and exact counts.
    Wide,
    /// JSON, for programs.
    Json,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    if arguments.watch {
        return watch(places, arguments.output).await;
    }
    let status = if arguments.wait {
        wait(places, arguments.timeout).await?
    } else {
        ask(places).await?
    };
    output::show(&render(&status, arguments.output, false)?)?;
    if status.ready {
        Ok(())
    } else {
        Err(Failure::silent(Code::Degraded))
    }
}

pub(super) async fn ask(places: &Places) -> Result<Status, Failure> {
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

/// Shows it again and again: redrawn on a terminal, one after the other else. Ends when nobody reads any more.
async fn watch(places: &Places, view: View) -> Result<(), Failure> {
    let redraw = io::stdout().is_terminal();
    loop {
        let shown = match ask(places).await {
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

/// The status as text; JSON in one line where many follow each other.
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
