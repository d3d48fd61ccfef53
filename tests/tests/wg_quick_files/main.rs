//! Typical files of wg-quick (`tests/wg-quick`), compared with the real tools. If `wg-quick strip`, `wg setconf` and, for
//! the keys of wg-quick, `wg-quick up` accept a file, `adit wg up` and `adit peer list` accept it with the same result.
//! If they refuse it, Adit refuses it with file, line and reason. No file states the expected result. Adit refuses the
//! files in `stricter`, although the tools accept them, because the tools read them differently from people.

#![expect(
    clippy::unwrap_used,
    reason = "clippy takes only test functions themselves for tests"
)]

mod case;
mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use adit_tests::{require_module, require_program};
use serde_json::Value;

use self::case::{Case, cases, variants};
use self::machine::{Lists, Machine};

const FEWEST: usize = 60;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The machines on which only the WireGuard configuration is compared, one case after the other.
struct Bench<'a> {
    lists: &'a Lists,
    theirs: Machine<'a>,
    ours: Machine<'a>,
    /// The number of created machines.
    made: usize,
}

/// The result of the tools for a file.
struct Verdict {
    /// Their error.
    refused: Option<String>,
    /// Whether the error was a name that is not found, which parsing alone does not notice.
    by_lookup: bool,
    /// Whether `wg setconf` accepted it.
    sets: bool,
    configuration: String,
    /// Of what `wg-quick up` made, where it has a say.
    whole: Option<String>,
}

impl<'a> Bench<'a> {
    fn new(lists: &'a Lists) -> Bench<'a> {
        let [theirs, ours] = [0, 1].map(|number| Machine::new(lists, number));
        theirs.netns.ip("link add wg0 type wireguard");
        Bench {
            lists,
            theirs,
            ours,
            made: 2,
        }
    }

    fn fresh(&mut self) -> Machine<'a> {
        self.made += 1;
        Machine::new(self.lists, self.made)
    }

    fn judge(&mut self, case: &Case, path: &str) -> Verdict {
        let stripped = self.theirs.tool(&format!("wg-quick strip {path}"), "");
        let mut verdict = Verdict {
            refused: None,
            by_lookup: false,
            sets: false,
            configuration: String::new(),
            whole: None,
        };
        let mut last = stripped;
        if last.status.success() {
            last = self.theirs.tool("wg setconf wg0 /dev/stdin", &text(&last.stdout));
            verdict.sets = last.status.success();
        }
        if verdict.sets {
            verdict.configuration = self.theirs.configuration(case.has_port());
            if case.is_whole() {
                let machine = self.fresh();
                last = machine.tool(&format!("wg-quick up {path}"), "");
                verdict.whole = Some(machine.whole(case.has_port()));
            }
        }
        let complaint = text(&last.stderr);
        let lookups = ["Name or service not known", "name resolution", "hostname"];
        verdict.by_lookup = lookups.iter().any(|words| complaint.contains(words));
        verdict.refused = (!last.status.success()).then_some(complaint);
        verdict
    }

    /// What is wrong with what Adit makes of a file.
    fn compare(&mut self, case: &Case) -> Result<bool, String> {
        let (_directory, path) = case.put();
        let verdict = self.judge(case, &path);
        let fresh = verdict.whole.is_some().then(|| self.fresh());
        let machine = fresh.as_ref().unwrap_or(&self.ours);
        let up = machine.adit(&["wg", "up", &path, "--allow-hooks"]);
        let list = machine.adit(&["peer", "list", "--config", &path, "-o", "json"]);
        let result = match &verdict.refused {
            Some(complaint) => {
                refused(&path, &up, &list, &verdict).map_err(|why| format!("{why}; they say {complaint}"))
            }
            None => accepted(machine, case, (&up, &list), &verdict),
        };
        if fresh.is_none() && up.status.success() {
            machine.netns.ip("link delete wg0");
        }
        result.map(|()| verdict.refused.is_none())
    }
}

/// Both refuse, and say where and why.
fn refused(path: &str, up: &Output, list: &Output, verdict: &Verdict) -> Result<(), String> {
    let place = |said: &str| {
        let mut after = said.match_indices(path).map(|(at, _)| &said[at + path.len()..]);
        after.any(|rest| {
            rest.strip_prefix(':')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let said = text(&up.stderr);
    if up.status.success() {
        return Err("`adit wg up` accepts it".to_owned());
    }
    // If a command of the file fails, the error names the command.
    if !place(&said) && !said.contains("PostUp: `") {
        return Err(format!("`adit wg up` names no line: {said}"));
    }
    if !verdict.sets && !verdict.by_lookup && (list.status.success() || !place(&text(&list.stderr))) {
        return Err(format!(
            "`adit peer list` accepts it, or names no line: {}",
            text(&list.stderr)
        ));
    }
    Ok(())
}

/// Both make the same of it.
fn accepted(
    machine: &Machine<'_>,
    case: &Case,
    (up, list): (&Output, &Output),
    verdict: &Verdict,
) -> Result<(), String> {
    if !up.status.success() || !list.status.success() {
        return Err(format!("refused: {}{}", text(&up.stderr), text(&list.stderr)));
    }
    let (ours, theirs) = match &verdict.whole {
        Some(theirs) => (machine.whole(case.has_port()), theirs),
        None => (machine.configuration(case.has_port()), &verdict.configuration),
    };
    if ours != *theirs {
        let only = |one: &str, other: &str| {
            let lines = one.lines().filter(|line| !other.contains(line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (ours, theirs) = (only(&ours, theirs), only(theirs, &ours));
        return Err(format!("only ours {ours:#?}, only theirs {theirs:#?}"));
    }
    let known = text(&machine.tool("wg show wg0 allowed-ips", "").stdout);
    let known = known
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(key, list)| {
            let list = list.split_whitespace().filter(|prefix| *prefix != "(none)");
            (key.to_owned(), list.map(str::to_owned).collect::<BTreeSet<_>>())
        });
    let rows = serde_json::from_slice::<Vec<Value>>(&list.stdout).map_err(|error| error.to_string())?;
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = rows.iter().map(|row| {
        let prefixes = row["allowed_ips"].as_array().into_iter().flatten().map(words);
        (words(&row["public_key"]), prefixes.collect::<BTreeSet<_>>())
    });
    // Of two lines with one key, the last one counts.
    let (known, listed) = (
        known.collect::<BTreeMap<_, _>>(),
        listed.collect::<BTreeMap<_, _>>(),
    );
    match known == listed {
        true => Ok(()),
        false => Err(format!("listed {listed:?}, known {known:?}")),
    }
}

fn ready() -> bool {
    require_module("wireguard") && require_program("wg-quick")
}

#[test]
fn typical_files_have_the_meaning_that_they_have_for_wg_quick() {
    if !ready() {
        return;
    }
    let mut all = cases("wg-quick");
    assert!(all.len() >= FEWEST, "{} files", all.len());
    let plain = all
        .iter()
        .find(|case| case.name == "plain")
        .expect("the corpus has it");
    all.extend(variants(plain));
    let lists = Lists::new();
    let mut bench = Bench::new(&lists);
    let mut wrong = Vec::new();
    let mut accepted = 0;
    for case in &all {
        match bench.compare(case) {
            Ok(is_accepted) => accepted += usize::from(is_accepted),
            Err(why) => wrong.push(format!("{}: {why}", case.name)),
        }
    }
    println!("{} files, {accepted} of them accepted", all.len());
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
    assert!(
        accepted > FEWEST / 2 && all.len() - accepted > FEWEST / 3,
        "both kinds are there"
    );
}

#[test]
fn values_that_the_tools_read_differently_from_people_are_refused() {
    if !ready() {
        return;
    }
    let lists = Lists::new();
    let mut bench = Bench::new(&lists);
    for case in cases("wg-quick/stricter") {
        let (_directory, path) = case.put();
        let verdict = bench.judge(&case, &path);
        assert_eq!(
            verdict.refused, None,
            "{}: it belongs among the others",
            case.name
        );
        let up = bench.ours.adit(&["wg", "up", &path]);
        let list = bench.ours.adit(&["peer", "list", "--config", &path]);
        let verdict = Verdict {
            sets: false,
            ..verdict
        };
        refused(&path, &up, &list, &verdict).unwrap_or_else(|why| panic!("{}: {why}", case.name));
    }
}
