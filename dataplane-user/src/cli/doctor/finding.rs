//! What a check came to.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::output::Paint;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// An agent works, but not as well or not as safely as it could.
    Warning,
    /// An agent can't do its work.
    Error,
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The check's stable name.
    pub(super) check: &'static str,
    /// How bad it is.
    pub(super) level: Level,
    /// What was seen.
    pub(super) evidence: String,
    /// What to do; none where all is well.
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

/// The findings in lines, and their sum.
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
    let _infallible = writeln!(text, "{errors} errors, {warnings} warnings");
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The level that a check came to, which must be among them exactly once.
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
    fn remedies_stand_below_what_they_mend() {
        let findings = [
            Finding::ok("jit", "on"),
            Finding::error("bpffs", "not mounted", "mount it"),
        ];
        let expected = "\
ok       jit: on
error    bpffs: not mounted
         remedy: mount it
1 errors, 0 warnings
";
        assert_eq!(render(&findings, Paint::NEVER), expected);
    }
}
