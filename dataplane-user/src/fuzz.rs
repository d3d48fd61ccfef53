//! Random input for parsers of external input: they must not panic or hang, their memory is limited, and
//! formats that Adit also writes must survive a round trip.
//!
//! Each input is a valid example with a few mutations, so that most inputs pass the first check. A test run
//! uses a few hundred cases of a fixed seed; `cargo xtask fuzz` uses other seeds, for as long as requested.

#![expect(clippy::print_stdout, reason = "it is a test")]

use std::cell::Cell;
use std::fmt::Debug;
use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, process};

use allocation_counter::measure;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Memory in bytes that each case may use in addition to its share: tables and buffers of constant size.
const ROOM: u64 = 4 << 20;
/// Bytes of memory that a case may use for each byte of input.
const SHARE: u64 = 2_000;
/// A case that takes longer than this hangs: it is a thousand times the time of the slowest case.
const PATIENCE: Duration = Duration::from_secs(60);
/// Cases of each round; without a duration, a run has one round.
const CASES: u32 = 400;
/// Maximum number of mutations of an example.
const MUTATIONS: usize = 6;

/// The result of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was parsed.
    Accepted,
    /// It was rejected, or contains nothing that the parser looks for.
    Refused,
}

impl Verdict {
    /// Accepted, if something was read.
    pub(crate) fn of<T>(read: Option<&T>) -> Verdict {
        if read.is_some() {
            Verdict::Accepted
        } else {
            Verdict::Refused
        }
    }
}

/// Runs a check with mutated examples.
///
/// # Panics
/// With the smallest input found for which the check fails, panics or uses too much memory; and when no input
/// was accepted or none was refused. A case that hangs aborts the process.
pub(crate) fn feed(
    examples: &[Vec<u8>],
    words: &[&[u8]],
    check: impl Fn(&[u8]) -> Result<Verdict, TestCaseError>,
) {
    let strategy = mutated(examples, words);
    let run_settings = Run::from_environment();
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let watch = Watch::start();
    let (accepted, refused) = (Cell::new(0u64), Cell::new(0u64));
    let began = Instant::now();
    for round in 0u64.. {
        let seed = [run_settings.seed, round, 0, 0].map(u64::to_le_bytes).concat();
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(config.clone(), random);
        let run = runner.run(&strategy, |input| {
            watch.begin(&input);
            let verdict = bounded(&input, &check);
            watch.end();
            let count = match verdict? {
                Verdict::Accepted => &accepted,
                Verdict::Refused => &refused,
            };
            count.set(count.get() + 1);
            Ok(())
        });
        if let Err(failure) = run {
            panic!("seed {}: {failure}", run_settings.seed);
        }
        if run_settings
            .seconds
            .is_none_or(|seconds| began.elapsed() >= seconds)
        {
            break;
        }
    }
    println!("{} accepted, {} refused", accepted.get(), refused.get());
    assert!(
        accepted.get() > 0 && refused.get() > 0,
        "{} accepted, {} refused: such cases test nothing",
        accepted.get(),
        refused.get()
    );
}

/// Accepted if two values are equal, otherwise a failure.
pub(crate) fn same<T: PartialEq + Debug>(first: &T, again: &T) -> Result<Verdict, TestCaseError> {
    if first == again {
        return Ok(Verdict::Accepted);
    }
    let text = format!("the values differ after a round trip:\n{first:?}\n{again:?}");
    Err(TestCaseError::fail(text))
}

/// Seed and duration of a run.
struct Run {
    seed: u64,
    /// `None`: one round.
    seconds: Option<Duration>,
}

impl Run {
    fn from_environment() -> Run {
        let number = |name| env::var(name).ok().map(|text| text.parse().expect("a number"));
        Run {
            seed: number("ADIT_FUZZ_SEED").unwrap_or(1),
            seconds: number("ADIT_FUZZ_SECONDS").map(Duration::from_secs),
        }
    }
}

/// Runs a check, and fails if it panics or uses more memory than allowed for its input.
fn bounded(
    input: &[u8],
    check: impl Fn(&[u8]) -> Result<Verdict, TestCaseError>,
) -> Result<Verdict, TestCaseError> {
    let mut result = None;
    let used = measure(|| result = Some(panic::catch_unwind(AssertUnwindSafe(|| check(input)))));
    let verdict = result.expect("it ran").map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()));
        TestCaseError::fail(format!("it panicked: {}", text.unwrap_or_default()))
    })?;
    let most = ROOM + SHARE * u64::try_from(input.len()).expect("inputs are small");
    if used.bytes_max > most {
        let text = format!("{} bytes of memory for {} of input", used.bytes_max, input.len());
        return Err(TestCaseError::fail(text));
    }
    verdict
}

/// The running case: its start and its input.
type Running = Option<(Instant, Vec<u8>)>;

/// Aborts the process if a case hangs.
struct Watch {
    current: Arc<Mutex<Running>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn start() -> Watch {
        let watch = Watch {
            current: Arc::default(),
            over: Arc::default(),
        };
        let (current, over) = (Arc::clone(&watch.current), Arc::clone(&watch.over));
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(200));
                let current = current.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((began, input)) = &*current
                    && began.elapsed() > PATIENCE
                {
                    // Bypasses the captured output of the test, which would be lost.
                    let _ignored =
                        writeln!(io::stderr(), "a case hangs on input \"{}\"", input.escape_ascii());
                    process::abort();
                }
            }
        });
        watch
    }

    fn begin(&self, input: &[u8]) {
        self.set(Some((Instant::now(), input.to_vec())));
    }

    fn end(&self) {
        self.set(None);
    }

    fn set(&self, case: Running) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = case;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A mutation of an example. Positions refer to its bytes at that time.
#[derive(Clone, Debug)]
enum Mutation {
    Bit(Index, u8),
    Byte(Index, u8),
    /// Sixteen bits at an even position: in netlink often a length or a type.
    Word(Index, u16),
    /// The rest is cut off.
    Cut(Index),
    Lose(Index, Index),
    Repeat(Index, Index),
    Insert(Index, Vec<u8>),
    /// The rest is replaced by the rest of another example.
    Join(Index, Index, Index),
}

impl Mutation {
    fn any(words: &[&[u8]]) -> BoxedStrategy<Mutation> {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        let position = any::<Index>;
        let number = prop_oneof![
            0u16..40,
            select(vec![0xff, 0x7fff, 0x8000, 0xfffe, 0xffff]),
            any::<u16>()
        ];
        let inserted = if words.is_empty() {
            vec(any::<u8>(), 1..12).boxed()
        } else {
            prop_oneof![4 => select(words), 1 => vec(any::<u8>(), 1..12)].boxed()
        };
        prop_oneof![
            (position(), 0u8..8).prop_map(|(at, bit)| Mutation::Bit(at, bit)),
            (position(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
            (position(), number).prop_map(|(at, word)| Mutation::Word(at, word)),
            position().prop_map(Mutation::Cut),
            (position(), position()).prop_map(|(from, to)| Mutation::Lose(from, to)),
            (position(), position()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
            (position(), inserted).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
            (position(), position(), position())
                .prop_map(|(at, other, from)| Mutation::Join(at, other, from)),
        ]
        .boxed()
    }

    fn apply(&self, bytes: &mut Vec<u8>, examples: &[Vec<u8>]) {
        let length = bytes.len();
        let position = |at: &Index| at.index(length + 1);
        let range =
            |from: &Index, to: &Index| position(from).min(position(to))..position(from).max(position(to));
        match self {
            Mutation::Bit(at, bit) => {
                if let Some(byte) = bytes.get_mut(position(at)) {
                    *byte ^= 1 << bit;
                }
            }
            Mutation::Byte(at, value) => {
                if let Some(byte) = bytes.get_mut(position(at)) {
                    *byte = *value;
                }
            }
            Mutation::Word(at, value) => {
                let at = position(at) & !1;
                if let Some(word) = bytes.get_mut(at..at + 2) {
                    word.copy_from_slice(&value.to_ne_bytes());
                }
            }
            Mutation::Cut(at) => bytes.truncate(position(at)),
            Mutation::Lose(from, to) => drop(bytes.drain(range(from, to))),
            Mutation::Repeat(from, to) => {
                let piece = bytes[range(from, to)].to_vec();
                let at = range(from, to).end;
                bytes.splice(at..at, piece);
            }
            Mutation::Insert(at, inserted) => {
                let at = position(at);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Mutation::Join(at, other, from) => {
                let other = &examples[other.index(examples.len())];
                bytes.truncate(position(at));
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

/// An example after zero to six mutations. Insertions are random bytes or `words`.
fn mutated(examples: &[Vec<u8>], words: &[&[u8]]) -> impl Strategy<Value = Vec<u8>> {
    let examples: Arc<[Vec<u8>]> = examples.into();
    let mutations = vec(Mutation::any(words), 0..=MUTATIONS);
    (any::<Index>(), mutations).prop_map(move |(which, mutations)| {
        let mut bytes = examples[which.index(examples.len())].clone();
        for mutation in mutations {
            mutation.apply(&mut bytes, &examples);
        }
        bytes
    })
}

mod tests {
    use super::*;

    fn outcome(check: impl Fn(&[u8]) -> Result<Verdict, TestCaseError>) -> String {
        let fed = panic::catch_unwind(AssertUnwindSafe(|| feed(&[b"an example".to_vec()], &[], check)));
        let failure = fed.expect_err("it fails");
        failure.downcast_ref::<String>().expect("with a text").clone()
    }

    #[test]
    fn a_check_that_panics_or_uses_too_much_memory_fails() {
        let panics = outcome(|input| {
            assert!(!input.ends_with(b"example"), "as it was");
            Ok(Verdict::Refused)
        });
        assert!(panics.contains("it panicked: as it was"), "{panics}");
        let hoards = outcome(|input| {
            let room = if input.len() < 4 { ROOM + SHARE * 4 } else { 1 };
            let hoard: Vec<u8> = Vec::with_capacity(usize::try_from(room).unwrap());
            Ok(Verdict::of(hoard.first()))
        });
        assert!(hoards.contains("bytes of memory for"), "{hoards}");
        let refuses = outcome(|_| Ok(Verdict::Refused));
        assert!(refuses.contains("such cases test nothing"), "{refuses}");
    }
}
