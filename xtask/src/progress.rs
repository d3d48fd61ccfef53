//! Progress lines on standard error; standard output belongs to what a command produces.
use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Prints one line with the seconds since the first progress line.
pub fn say(text: impl std::fmt::Display) {
    let seconds = START.elapsed().as_secs_f64();
    eprintln!("[{seconds:6.1} s] {text}");
}
