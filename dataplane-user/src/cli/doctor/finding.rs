//! Findings: the results of checks.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::output::Paint;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// Nothing to do.
    Ok,
    /// An agent works, but with less performance, fewer functions or less safety.
    Warning,
    /// An agent can't work.
    Error,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The stable name of the check.
    pub(super) check: &'static str,
    /// The severity.
    pub(super) level: Level,
    /// What the check saw.
    pub(super) evidence: String,
    /// What to do; `None` for `Ok`.
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, evidence: impl Into<String>) -> Finding {
        Finding {
            check,
            level: Level::Ok,
            evidence: evidence.into(),
            remedy: None,
        }
    }

    pub(super) fn warning(
        check: &'static str,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            check,
            level: Level::Warning,
            evidence: evidence.into(),
            remedy: Some(remedy.into()),
        }
    }

    pub(super) fn error(
        check: &'static str,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            level: Level::Error,
            ..Finding::warning(check, evidence, remedy)
        }
    }
}

/// The findings in lines, and the numbers of errors and warnings.
pub(super) fn render(findings: &[Finding], paint: Paint) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => paint.good("ok     "),
            Level::Warning => paint.doubtful("warning"),
            Level::Error => paint.bad("error  "),
        };
        let _infallible = writeln!(text, "{level}  {}: {}", finding.check, finding.evidence);
        if let Some(remedy) = &finding.remedy {
            let _infallible = writeln!(text, "         remedy: {remedy}");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let plural = |number: usize| if number == 1 { "" } else { "s" };
    let _infallible = writeln!(
        text,
        "{errors} error{}, {warnings} warning{}",
        plural(errors),
        plural(warnings)
    );
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The level of a check, which must have exactly one finding.
    pub(in super::super) fn level(findings: &[Finding], check: &str) -> Level {
        let mut of_check = findings.iter().filter(|finding| finding.check == check);
        let found = of_check
            .next()
            .unwrap_or_else(|| panic!("no {check} in {findings:#?}"));
        assert_eq!(of_check.next(), None);
        assert_eq!(found.level == Level::Ok, found.remedy.is_none());
        found.level
    }

    #[test]
    fn remedies_are_printed_below_their_findings() {
        let findings = [
            Finding::ok("jit", "on"),
            Finding::error("bpffs", "not mounted", "mount it"),
        ];
        let expected = "\
ok       jit: on
error    bpffs: not mounted
         remedy: mount it
1 error, 0 warnings
";
        assert_eq!(render(&findings, Paint::NEVER), expected);
    }
}
