//! `adit route flush`.

use clap::Args;

use super::{failures, lock};
use crate::apply::apply;
use crate::cli::exit::Failure;
use crate::cli::places::Places;
use crate::cli::privilege::{self, NET_ADMIN};
use crate::diff::diff;
use crate::kernel::{Kernel, LinuxKernel, Wanted};
use crate::model::{Change, KernelState};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only of this table
    #[arg(long, value_name = "NUMBER")]
    table: Option<u32>,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let _lock = lock(places)?;
    let mut kernel = LinuxKernel::without_bpf()?;
    kernel.look_for(&Wanted::default()).await?;
    let set = diff(&kernel.observe().await?, &KernelState::default());
    let in_table = |change: &Change| match change.bare() {
        Change::DeleteRoute(key, _) => arguments.table.is_none_or(|table| key.table == table),
        _ => false,
    };
    let report = apply(&mut kernel, set.only(in_table)).await;
    println!("{} routes removed.", report.done());
    failures(&report)
}
