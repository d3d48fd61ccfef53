//! Random damage while traffic flows: all managed objects are restored, unmanaged objects stay, and each repair is
//! reported. `cargo xtask chaos` runs it longer.

use std::env;
use std::time::Duration;

use adit_tests::chaos::{Course, run};
use adit_tests::require;

#[test]
fn damage_to_managed_objects_is_repaired_and_reported() {
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
