//! Random input for what reads input that others wrote: whatever comes, it neither panics nor hangs, its memory is bounded, and
//! formats that Adit also writes survive a round trip.
//!
//! Input begins as an example that is right and suffers a few mutations, so that most of it gets past the first check. Each run
//! feeds a few hundred cases of a fixed seed; `cargo xtask fuzz` feeds others for as long as one likes.

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

/// What a case may take beside its share: tables and buffers that are always there.
const ROOM: u64 = 4 << 20;
/// Bytes of memory for each byte of input.
const SHARE: u64 = 2_000;
/// After so long a case counts as one that hangs: a thousand times what the slowest one takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Cases of a run that is not told how long to take.
const CASES: u32 = 400;
/// Mutations of an example at most.
const MUTATIONS: usize = 6;

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It says something.
    Accepted,
    /// It was refused, or holds nothing that the reader looks for.
    Refused,
}

impl Verdict {
    /// Accepted, where something was read.
    pub(crate) fn of<T>(read: Option<&T>) -> Verdict {
        if read.is_some() {
            Verdict::Accepted
        } else {
            Verdict::Refused
        }
    }
}

/// Feeds mutated examples to a check.
///
/// # Panics
/// With the smallest input found for which the check fails, panics or needs too much memory, and where no input at all was
/// accepted or none was refused. A case that hangs ends the process.
pub(crate) fn feed(
    examples: &[Vec<u8>],
    words: &[&[u8]],
    check: impl Fn(&[u8]) -> Result<Verdict, TestCaseError>,
) {
    let strategy = mutated(examples, words);
    let course = Course::from_environment();
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
        let seed = [course.seed, round, 0, 0].map(u64::to_le_bytes).concat();
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
            panic!("seed {}: {failure}", course.seed);
        }
        if course.seconds.is_none_or(|seconds| began.elapsed() >= seconds) {
            break;
        }
    }
    println!("{} accepted, {} refused", accepted.get(), refused.get());
    assert!(
        accepted.get() > 0 && refused.get() > 0,
        "{} accepted, {} refused: such cases show nothing",
        accepted.get(),
        refused.get()
    );
}

/// Two things that are to be the same, as a verdict.
pub(crate) fn same<T: PartialEq + Debug>(first: &T, again: &T) -> Result<Verdict, TestCaseError> {
    if first == again {
        return Ok(Verdict::Accepted);
    }
    let text = format!("it came out as another one:\n{first:?}\n{again:?}");
    Err(TestCaseError::fail(text))
}

/// How long, and from which seed.
struct Course {
    seed: u64,
    /// `None`: once.
    seconds: Option<Duration>,
}

impl Course {
    fn from_environment() -> Course {
        let number = |name| env::var(name).ok().map(|text| text.parse().expect("a number"));
        Course {
            seed: number("ADIT_FUZZ_SEED").unwrap_or(1),
            seconds: number("ADIT_FUZZ_SECONDS").map(Duration::from_secs),
        }
    }
}

/// Runs a check, and fails where it panics or takes more memory than its input is worth.
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

/// A case that runs: since when, and its input.
type Running = Option<(Instant, Vec<u8>)>;

/// Ends the process where a case hangs.
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
                    // Past the test's kept output, which nobody would see.
                    let _told = writeln!(io::stderr(), "it hangs on \"{}\"", input.escape_ascii());
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

/// One thing that happens to an example; places are taken from the bytes that are there then.
#[derive(Clone, Debug)]
enum Mutation {
    Bit(Index, u8),
    Byte(Index, u8),
    /// Sixteen bits at an even place: in netlink often a length or a kind.
    Word(Index, u16),
    /// What follows is lost.
    Cut(Index),
    Lose(Index, Index),
    Repeat(Index, Index),
    Insert(Index, Vec<u8>),
    /// From here on it is another example, from there on.
    Join(Index, Index, Index),
}

impl Mutation {
    fn any(words: &[&[u8]]) -> BoxedStrategy<Mutation> {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        let place = any::<Index>;
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
            (place(), 0u8..8).prop_map(|(at, bit)| Mutation::Bit(at, bit)),
            (place(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
            (place(), number).prop_map(|(at, word)| Mutation::Word(at, word)),
            place().prop_map(Mutation::Cut),
            (place(), place()).prop_map(|(from, to)| Mutation::Lose(from, to)),
            (place(), place()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
            (place(), inserted).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
            (place(), place(), place()).prop_map(|(at, other, from)| Mutation::Join(at, other, from)),
        ]
        .boxed()
    }

    fn happen(&self, bytes: &mut Vec<u8>, examples: &[Vec<u8>]) {
        let length = bytes.len();
        let place = |at: &Index| at.index(length + 1);
        let range = |from: &Index, to: &Index| place(from).min(place(to))..place(from).max(place(to));
        match self {
            Mutation::Bit(at, bit) => {
                if let Some(byte) = bytes.get_mut(place(at)) {
                    *byte ^= 1 << bit;
                }
            }
            Mutation::Byte(at, value) => {
                if let Some(byte) = bytes.get_mut(place(at)) {
                    *byte = *value;
                }
            }
            Mutation::Word(at, value) => {
                let at = place(at) & !1;
                if let Some(word) = bytes.get_mut(at..at + 2) {
                    word.copy_from_slice(&value.to_ne_bytes());
                }
            }
            Mutation::Cut(at) => bytes.truncate(place(at)),
            Mutation::Lose(from, to) => drop(bytes.drain(range(from, to))),
            Mutation::Repeat(from, to) => {
                let piece = bytes[range(from, to)].to_vec();
                let at = range(from, to).end;
                bytes.splice(at..at, piece);
            }
            Mutation::Insert(at, inserted) => {
                let at = place(at);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Mutation::Join(at, other, from) => {
                let other = &examples[other.index(examples.len())];
                bytes.truncate(place(at));
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

/// An example after zero to six mutations. Besides random bytes, `words` are inserted.
fn mutated(examples: &[Vec<u8>], words: &[&[u8]]) -> impl Strategy<Value = Vec<u8>> {
    let examples: Arc<[Vec<u8>]> = examples.into();
    let mutations = vec(Mutation::any(words), 0..=MUTATIONS);
    (any::<Index>(), mutations).prop_map(move |(which, mutations)| {
        let mut bytes = examples[which.index(examples.len())].clone();
        for mutation in mutations {
            mutation.happen(&mut bytes, &examples);
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
    fn what_panics_and_what_takes_too_much_memory_fails() {
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
        assert!(refuses.contains("such cases show nothing"), "{refuses}");
    }
}
