//! Two targets in one run, turn by turn, so that both meet the same machine.

use crate::error::LoadError;
use crate::report::{self, Row};
use crate::scenario::Scenario;
use crate::target::Target;

/// Runs every scenario against the first target, then against the second; answers the rows of both.
///
/// # Errors
/// When preparing a scenario fails.
pub async fn alternate(
    scenarios: &[Scenario],
    first: &Target,
    second: &Target,
) -> Result<(Vec<Row>, Vec<Row>), LoadError> {
    let mut rows = (Vec::new(), Vec::new());
    for scenario in scenarios {
        rows.0.extend(scenario.run(first).await?);
        rows.1.extend(scenario.run(second).await?);
    }
    Ok(rows)
}

/// The tables of a comparison.
#[must_use]
pub fn tables(first: &[Row], second: &[Row]) -> String {
    let mut rows = first.to_vec();
    rows.extend_from_slice(second);
    format!("{}\nThe second beside the first:\n\n{}", report::table(&rows), report::ratios(first, second))
}
