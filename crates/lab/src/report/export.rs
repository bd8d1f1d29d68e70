//! The figures for other programs and other texts.

use super::ReportError;
use super::tables;
use crate::quantity::Quantity;
use crate::summary::ExperimentSummary;
use crate::text::{self, markdown as markdown_of};

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
                    text::csv(&summary.experiment).into_owned(),
                    text::csv(&row.model).into_owned(),
                    text::csv(&row.mechanism).into_owned(),
                    row.connections.to_string(),
                    row.place.x.to_string(),
                    number(row.place.by),
                    name(serde_json::to_value(row.status).unwrap_or_default()),
                    text::csv(row.reason.as_deref().unwrap_or_default()).into_owned(),
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
    let mut text = format!("## {}\n\n", markdown_of(&summary.question));
    for sentence in super::finding::sentences(summary) {
        text += &format!("{}\n\n", markdown_of(&sentence));
    }
    for table in tables::prices(summary).into_iter().chain(tables::figures(summary)) {
        let models: Vec<String> = table.models.iter().map(|model| markdown_of(model)).collect();
        let (title, label) = (markdown_of(&table.title), markdown_of(&table.label));
        text += &format!("**{title}**\n\n| {label} | {} |\n", models.join(" | "));
        text += &format!("|---:|{}\n", "---:|".repeat(table.models.len()));
        for (label, cells) in &table.rows {
            let cells: Vec<String> = cells.iter().map(|cell| markdown_of(&cell.text)).collect();
            text += &format!("| {} | {} |\n", markdown_of(label), cells.join(" | "));
        }
        text.push('\n');
    }
    text
}
