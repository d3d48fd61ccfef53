//! Families made for one page: what is read at that moment, and forgotten after it.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

/// A name and its labels are constants: either they are right or the first scrape of any test fails.
pub(super) fn valid<T>(result: prometheus::Result<T>) -> T {
    result.expect("our metrics' names and labels are valid")
}

/// Gauges of one family: labels' values, and a value each. Those of the same labels add up.
pub(super) fn gauges<const N: usize>(
    (name, help): (&str, &str),
    labels: [&str; N],
    rows: impl IntoIterator<Item = ([String; N], u64)>,
) -> Vec<MetricFamily> {
    let family = valid(IntGaugeVec::new(Opts::new(name, help), &labels));
    for (values, value) in rows {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        family.with_label_values(&values).add(value);
    }
    family.collect()
}

/// Counters of one family, as [`gauges`].
pub(super) fn counters<const N: usize>(
    (name, help): (&str, &str),
    labels: [&str; N],
    rows: impl IntoIterator<Item = ([String; N], u64)>,
) -> Vec<MetricFamily> {
    let family = valid(IntCounterVec::new(Opts::new(name, help), &labels));
    for (values, value) in rows {
        family.with_label_values(&values).inc_by(value);
    }
    family.collect()
}
