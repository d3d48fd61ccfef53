//! A seeded hand meddles with everything while traffic flows: all of ours returns, nothing foreign is touched, and each
//! repair is told. `cargo xtask chaos` runs it longer.

use std::env;
use std::time::Duration;

use adit_tests::chaos::{Course, run};
use adit_tests::require;

#[test]
fn whatever_is_done_to_ours_is_repaired_and_told() {
    require!(modules: "dummy", "geneve", "wireguard");
    let number = |name| {
        env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    let minutes = number("ADIT_CHAOS_MINUTES");
    let course = Course {
        seed: number("ADIT_CHAOS_SEED").unwrap_or(4),
        steps: minutes.is_none().then_some(24),
        time: minutes.map(|minutes| Duration::from_secs(60 * minutes)),
    };
    match run(course) {
        Ok(tally) => println!("{tally}"),
        Err(difference) => panic!("seed {}: {difference:#}", course.seed),
    }
}
