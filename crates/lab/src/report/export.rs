//! The figures for other programs and other texts.

use super::ReportError;
use super::tables;
use crate::quantity::Quantity;
use crate::summary::ExperimentSummary;

/// A line for each figure of each model at each place.
pub(super) fn csv(summary: &ExperimentSummary) -> Result<String, ReportError> {
    let failed = |error: csv::Error| ReportError::Draw(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut header =
        vec!["experiment", "model", "mechanism", "connections", "x", "by", "status", "reason", "figure"];
    header.extend(["median", "low", "high", "rounds"]);
    writer.write_record(&header).map_err(failed)?;
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    for row in &summary.rows {
        let known = |figure: &Quantity| figure.of(row).map(|estimate| (*figure, estimate));
        for (figure, estimate) in Quantity::ALL.iter().filter_map(known) {
            writer
                .write_record([
                    summary.experiment.clone(),
                    row.model.clone(),
                    row.mechanism.clone(),
                    row.connections.to_string(),
                    row.place.x.to_string(),
                    number(row.place.by),
                    name(serde_json::to_value(row.status).unwrap_or_default()),
                    row.reason.clone().unwrap_or_default(),
                    name(serde_json::to_value(figure).unwrap_or_default()),
                    estimate.median.to_string(),
                    number(estimate.low),
                    number(estimate.high),
                    estimate.rounds.to_string(),
                ])
                .map_err(failed)?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| ReportError::Draw(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The question, the findings and the tables.
pub(super) fn markdown(summary: &ExperimentSummary) -> String {
    let mut text = format!("## {}\n\n", summary.question);
    for sentence in super::finding::sentences(summary) {
        text += &format!("{sentence}\n\n");
    }
    for table in tables::prices(summary).into_iter().chain(tables::figures(summary)) {
        text += &format!("**{}**\n\n| {} | {} |\n", table.title, table.label, table.models.join(" | "));
        text += &format!("|---:|{}\n", "---:|".repeat(table.models.len()));
        for (label, cells) in &table.rows {
            let cells: Vec<String> = cells.iter().map(|cell| cell.text.replace('|', "\\|")).collect();
            text += &format!("| {label} | {} |\n", cells.join(" | "));
        }
        text.push('\n');
    }
    text
}
