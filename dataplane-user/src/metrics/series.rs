//! Metric families that are built for one page, from values read at that moment.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

/// Names and labels are constants: a wrong one makes the first scrape of any test fail.
pub(super) fn valid<T>(result: prometheus::Result<T>) -> T {
    result.expect("names and labels of metrics are valid")
}

/// Gauges of one family, as rows of label values and a value. Rows with the same labels add up.
pub(super) fn gauges<const N: usize>(
    name: &str,
    help: &str,
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

/// Counters of one family, in the form of [`gauges`].
pub(super) fn counters<const N: usize>(
    name: &str,
    help: &str,
    labels: [&str; N],
    rows: impl IntoIterator<Item = ([String; N], u64)>,
) -> Vec<MetricFamily> {
    let family = valid(IntCounterVec::new(Opts::new(name, help), &labels));
    for (values, value) in rows {
        family.with_label_values(&values).inc_by(value);
    }
    family.collect()
}
