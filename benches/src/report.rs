//! The report: a Markdown table, JSON, and the ratios between two targets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// One measurement of one target.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The target's name.
    pub target: String,
    /// The scenario.
    pub scenario: &'static str,
    /// Its size.
    pub detail: String,
    /// Operations that succeeded.
    pub ops: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Operations refused by a rate limit.
    pub limited: u64,
    /// How long it took.
    pub seconds: f64,
    /// Operations a second.
    pub per_second: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// CPU of the server's processes for each operation.
    pub cpu_ms_per_op: f64,
    /// CPU of what the server uses, by name, for each operation.
    pub beside_cpu_ms_per_op: BTreeMap<String, f64>,
    /// CPU of the load generator for each operation.
    pub own_cpu_ms_per_op: f64,
    /// Resident memory of the server's processes at the end.
    pub rss_mib: f64,
    /// What resident memory grew by.
    pub rss_delta_kib: f64,
    /// What was written to block devices for each operation.
    pub written_kib_per_op: f64,
    /// A figure only this scenario has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<String>,
    /// The first failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
}

/// The rows as a Markdown table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| target | scenario | size | ops | errors | 429 | ops/s | p50 ms | p95 ms | p99 ms | CPU ms/op | beside CPU ms/op | load CPU ms/op \
         | RSS MiB | written KiB/op | note |\n|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for row in rows {
        let beside = row.beside_cpu_ms_per_op.iter().map(|(name, cpu_ms)| format!("{name} {cpu_ms:.3}"));
        let beside = beside.collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {:.1} | {:.2} | {:.2} | {:.2} | {:.3} | {} | {:.3} | {:.0} | {:.2} | {} |",
            row.target,
            row.scenario,
            row.detail,
            row.ops,
            row.errors,
            row.limited,
            row.per_second,
            row.p50_ms,
            row.p95_ms,
            row.p99_ms,
            row.cpu_ms_per_op,
            beside,
            row.own_cpu_ms_per_op,
            row.rss_mib,
            row.written_kib_per_op,
            row.extra.as_deref().unwrap_or(""),
        );
    }
    out
}

/// How many times more the second target of each pair of like rows takes; a dash where either measured nothing.
#[must_use]
pub fn ratios(first: &[Row], second: &[Row]) -> String {
    let mut out = String::from("| scenario | size | CPU | p50 | p99 | throughput |\n|---|---|--:|--:|--:|--:|\n");
    for row in first {
        let like = |other: &&Row| other.scenario == row.scenario && other.detail == row.detail;
        let Some(other) = second.iter().find(like) else { continue };
        let times = |first: f64, second: f64| {
            if first > 0.0 && second > 0.0 { format!("{:.2}x", second / first) } else { "-".to_owned() }
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            row.scenario,
            row.detail,
            times(row.cpu_ms_per_op, other.cpu_ms_per_op),
            times(row.p50_ms, other.p50_ms),
            times(row.p99_ms, other.p99_ms),
            times(row.per_second, other.per_second),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cpu: f64) -> Row {
        Row {
            target: "a".into(),
            scenario: "send-hot",
            detail: "x".into(),
            ops: 10,
            errors: 1,
            limited: 2,
            seconds: 2.0,
            per_second: 5.0,
            p50_ms: 1.0,
            p95_ms: 2.0,
            p99_ms: 3.0,
            cpu_ms_per_op: cpu,
            beside_cpu_ms_per_op: [("store".to_owned(), 0.5), ("bus".to_owned(), 0.25)].into(),
            own_cpu_ms_per_op: 0.1,
            rss_mib: 60.4,
            rss_delta_kib: 8.0,
            written_kib_per_op: 4.0,
            extra: Some("n".into()),
            first_error: None,
        }
    }

    #[test]
    fn a_row_has_as_many_cells_as_the_head() {
        let text = table(&[row(0.25)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.matches('|').count() == 17), "{text}");
        assert_eq!(
            lines[2],
            "| a | send-hot | x | 10 | 1 | 2 | 5.0 | 1.00 | 2.00 | 3.00 | 0.250 | bus 0.250, store 0.500 | 0.100 | 60 | 4.00 | n |"
        );
    }

    #[test]
    fn ratios_are_second_by_first() {
        assert!(ratios(&[row(0.25)], &[row(25.0)]).contains("| send-hot | x | 100.00x | 1.00x | 1.00x | 1.00x |"));
        assert!(ratios(&[row(0.0)], &[row(25.0)]).contains("| - |"));
        assert_eq!(ratios(&[row(1.0)], &[]).lines().count(), 2);
    }
}
