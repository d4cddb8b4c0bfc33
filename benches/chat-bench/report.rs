//! Report: the figures of a run, as a table for people or as JSON for programs.

use std::fmt::Write;

use crate::{files, follow, hostile, joining, latency::Histogram, load, resume};

/// The share of a core above which a process counts as busy.
const BUSY_SHARE: f64 = 0.9;

/// How late an idle machine may schedule a program, in milliseconds.
const LATE_MS_MAX: f64 = 1.0;

/// One figure.
struct Figure {
    /// The key in the JSON: words and, last, the unit.
    key: &'static str,
    label: &'static str,
    value: Option<f64>,
    unit: &'static str,
}

/// The title, figures and notes of a run.
pub struct Report {
    title: String,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Report {
    pub fn new(title: String) -> Self {
        Self {
            title,
            figures: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn add(
        &mut self,
        key: &'static str,
        label: &'static str,
        value: impl Into<Option<f64>>,
        unit: &'static str,
    ) {
        self.figures.push(Figure {
            key,
            label,
            // A division by zero has no result, and JSON no word for it.
            value: value.into().filter(|value| value.is_finite()),
            unit,
        });
    }

    pub fn note(&mut self, sentence: String) {
        self.notes.push(sentence);
    }

    pub fn add_load(&mut self, outcome: &load::Outcome) {
        let deliveries = outcome.deliveries as f64;
        let millions = deliveries / 1e6;
        self.add("messages", "messages", outcome.messages as f64, "");
        self.add("deliveries", "deliveries, all checked", deliveries, "");
        self.add("elapsed_s", "time", outcome.elapsed_s, "s");
        let per_s = deliveries / outcome.elapsed_s;
        self.add("deliveries_per_s", "deliveries", per_s, "/s");
        let per_million = outcome.server_cpu_s.map(|cpu_s| cpu_s / millions);
        self.add(
            "server_cpu_s_per_million",
            "server CPU per million deliveries",
            per_million,
            "s",
        );
        self.add_latency(&outcome.latency);
        self.add_memory(outcome.bytes_per_connection);
        self.add_shares(outcome.elapsed_s, outcome.server_cpu_s, outcome.own_cpu_s);
    }

    pub fn add_follow(&mut self, outcome: &follow::Outcome) {
        let followed = &outcome.followed;
        self.add_load(followed);
        let cost = |outcome: &load::Outcome| {
            let deliveries = outcome.deliveries as f64;
            outcome.server_cpu_s.map(|cpu_s| cpu_s / deliveries)
        };
        let each_s = cost(followed);
        let per_cpu_s = each_s.map(|each_s| 1.0 / each_s);
        self.add(
            "deliveries_per_cpu_s",
            "deliveries per second of the server's CPU",
            per_cpu_s,
            "/s",
        );
        let unfiltered_s = outcome.unfiltered.as_ref().and_then(cost);
        self.add(
            "unfiltered_cpu_s_per_million",
            "without filters: server CPU per million deliveries",
            unfiltered_s.map(|each_s| each_s * 1e6),
            "s",
        );
        let times = each_s
            .zip(unfiltered_s)
            .map(|(with, without)| with / without);
        self.add("times_unfiltered", "  times that, with filters", times, "");
        let unfollowed = outcome.unfollowed as f64;
        self.add(
            "unfollowed",
            "messages that no member follows",
            unfollowed,
            "",
        );
        let cpu_us = outcome
            .unfollowed_cpu_s
            .map(|cpu_s| cpu_s * 1e6 / unfollowed);
        self.add("unfollowed_cpu_us", "  server CPU of each", cpu_us, "us");
    }

    pub fn add_joining(&mut self, members: usize, outcome: &joining::Outcome) {
        let members = members as f64;
        self.add("members", "members", members, "");
        self.add("elapsed_s", "time", outcome.elapsed_s, "s");
        let per_s = members / outcome.elapsed_s;
        self.add("joins_per_s", "registrations", per_s, "/s");
        let per_thousand = outcome.server_cpu_s.map(|cpu_s| cpu_s / members * 1e3);
        self.add(
            "server_cpu_s_per_thousand_joins",
            "server CPU per thousand",
            per_thousand,
            "s",
        );
        self.add_memory(outcome.bytes_per_connection);
        self.add_shares(outcome.elapsed_s, outcome.server_cpu_s, outcome.own_cpu_s);
    }

    /// `memory_bytes_max` is the bound that the server's options add up to.
    pub fn add_hostile(&mut self, outcome: &hostile::Outcome, memory_bytes_max: u64) {
        let messages = outcome.messages as f64;
        self.add("messages", "messages of the pair, none lost", messages, "");
        let (quiet, attacked) = (&outcome.quiet, &outcome.attacked);
        let ms = |share| {
            (
                quiet.latency.share_ms(share),
                attacked.latency.share_ms(share),
            )
        };
        let ((quiet_p50, p50), (quiet_p99, p99), (quiet_max, max)) = (ms(0.5), ms(0.99), ms(1.0));
        self.add("quiet_p50_ms", "quiet: latency p50", quiet_p50, "ms");
        self.add("p50_ms", "attacked: latency p50", p50, "ms");
        self.add("p50_ratio", "  times the quiet one", p50 / quiet_p50, "");
        self.add("quiet_p99_ms", "quiet: latency p99", quiet_p99, "ms");
        self.add("p99_ms", "attacked: latency p99", p99, "ms");
        self.add("p99_ratio", "  times the quiet one", p99 / quiet_p99, "");
        self.add("quiet_max_ms", "quiet: latency max", quiet_max, "ms");
        self.add("max_ms", "attacked: latency max", max, "ms");
        let late = (quiet.late.share_ms(0.99), attacked.late.share_ms(0.99));
        self.add("quiet_late_ms", "quiet: late to send, p99", late.0, "ms");
        self.add("late_ms", "attacked: late to send, p99", late.1, "ms");
        if late.0.max(late.1) > LATE_MS_MAX {
            self.note(
                "the machine delayed this program, so the latencies above include its delays"
                    .to_owned(),
            );
        }
        for (key, label, run) in [
            ("quiet_server_cpu_percent", "quiet: server CPU", quiet),
            ("server_cpu_percent", "attacked: server CPU", attacked),
        ] {
            let percent = run.server_cpu_share.map(|share| share * 100.0);
            self.add(key, label, percent, "%");
        }
        let peak_bytes = outcome.peak_bytes.map(|bytes| bytes as f64);
        self.add("peak_bytes", "server peak memory", peak_bytes, "bytes");
        self.add(
            "memory_bytes_max",
            "  bound, by its options",
            memory_bytes_max as f64,
            "bytes",
        );
        for (kind, ends) in &outcome.ends {
            let ends: Vec<_> = ends
                .iter()
                .map(|(what, &count)| format!("{what} {}", shown(count as f64)))
                .collect();
            self.note(format!("{}: {}", kind.label(), ends.join(", ")));
        }
    }

    pub fn add_files(&mut self, file_bytes: u64, outcome: &files::Outcome) {
        let messages = outcome.messages as f64;
        self.add("messages", "messages of the pair, none lost", messages, "");
        let gigabytes = file_bytes as f64 / 1e9;
        let mut ways = Histogram::new();
        let mut late = Histogram::new();
        for (keys, labels, way) in [
            (
                ["upload_mb_per_s", "upload_cpu_s_per_gb", "upload_p99_ms"],
                [
                    "upload",
                    "  server CPU per GB",
                    "  latency of the pair, p99",
                ],
                &outcome.upload,
            ),
            (
                [
                    "download_mb_per_s",
                    "download_cpu_s_per_gb",
                    "download_p99_ms",
                ],
                [
                    "download",
                    "  server CPU per GB",
                    "  latency of the pair, p99",
                ],
                &outcome.download,
            ),
        ] {
            let per_s = gigabytes * 1e3 / way.elapsed_s;
            self.add(keys[0], labels[0], per_s, "MB/s");
            let cpu_s = way.server_cpu_s.map(|cpu_s| cpu_s / gigabytes);
            self.add(keys[1], labels[1], cpu_s, "s");
            self.add(keys[2], labels[2], way.latency.share_ms(0.99), "ms");
            ways.add(&way.latency);
            late.add(&way.late);
        }
        let quiet = &outcome.quiet;
        let quiet_ms = quiet.latency.share_ms(0.99);
        self.add("quiet_p99_ms", "quiet: latency p99", quiet_ms, "ms");
        self.add("p50_ms", "both ways: latency p50", ways.share_ms(0.5), "ms");
        self.add(
            "p99_ms",
            "both ways: latency p99",
            ways.share_ms(0.99),
            "ms",
        );
        self.add("max_ms", "both ways: latency max", ways.max_ms(), "ms");
        self.add_late(&late, "both ways: late to send, p99");
        let peak_bytes = outcome.peak_bytes.map(|bytes| bytes as f64);
        self.add("peak_bytes", "server peak memory", peak_bytes, "bytes");
    }

    pub fn add_resume(&mut self, outcome: &resume::Outcome) {
        let messages = outcome.messages as f64;
        self.add("messages", "messages of the pair, none lost", messages, "");
        self.add(
            "elapsed_s",
            "until all members were back",
            outcome.elapsed_s,
            "s",
        );
        let resumed = outcome.resumed as f64;
        self.add(
            "resumed",
            "messages that they had missed, each once",
            resumed,
            "",
        );
        let per_s = resumed / outcome.elapsed_s;
        self.add("resumed_per_s", "of these", per_s, "/s");
        let cpu_s = outcome.server_cpu_s.map(|cpu_s| cpu_s / (resumed / 1e6));
        self.add("cpu_s_per_million", "  server CPU per million", cpu_s, "s");
        let quiet_ms = outcome.quiet.latency.share_ms(0.99);
        self.add("quiet_p99_ms", "quiet: latency p99", quiet_ms, "ms");
        self.add_latency(&outcome.latency);
        self.add_late(&outcome.late, "late to send, p99");
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        let resident_bytes = bytes(outcome.resident_bytes);
        self.add(
            "resident_bytes",
            "server memory before",
            resident_bytes,
            "bytes",
        );
        self.add(
            "peak_bytes",
            "server peak memory",
            bytes(outcome.peak_bytes),
            "bytes",
        );
    }

    /// How late this program sent messages.
    fn add_late(&mut self, late: &Histogram, label: &'static str) {
        let late_ms = late.share_ms(0.99);
        self.add("late_ms", label, late_ms, "ms");
        if late_ms > LATE_MS_MAX {
            self.note(
                "the machine delayed this program, so the latencies above include its delays"
                    .to_owned(),
            );
        }
    }

    fn add_memory(&mut self, bytes_per_connection: Option<f64>) {
        let grown_bytes = bytes_per_connection.filter(|&bytes| bytes > 0.0);
        if grown_bytes != bytes_per_connection {
            self.note(
                "the server's memory has not grown, since it had spare memory from before: \
                 restart it to measure what a connection takes"
                    .to_owned(),
            );
        }
        self.add(
            "bytes_per_connection",
            "server memory per connection",
            grown_bytes,
            "bytes",
        );
    }

    fn add_latency(&mut self, latency: &Histogram) {
        if latency.count() == 0 {
            return;
        }
        self.add("p50_ms", "latency p50", latency.share_ms(0.5), "ms");
        self.add("p99_ms", "latency p99", latency.share_ms(0.99), "ms");
        self.add("p999_ms", "latency p99.9", latency.share_ms(0.999), "ms");
        self.add("max_ms", "latency max", latency.max_ms(), "ms");
    }

    fn add_shares(&mut self, elapsed_s: f64, server_cpu_s: Option<f64>, own_cpu_s: Option<f64>) {
        let server = server_cpu_s.map(|cpu_s| cpu_s / elapsed_s);
        let own = own_cpu_s.map(|cpu_s| cpu_s / elapsed_s);
        let percent = |share: Option<f64>| share.map(|share| share * 100.0);
        self.add("server_cpu_percent", "server CPU", percent(server), "%");
        self.add("own_cpu_percent", "generator CPU", percent(own), "%");
        let is_busy = |share: Option<f64>| share.is_some_and(|share| share >= BUSY_SHARE);
        if is_busy(own) && server.is_some() && !is_busy(server) {
            self.note("the generator was the bottleneck: the server could do more".to_owned());
        }
        if server.is_none() {
            self.note(
                "the server's process is unknown (see --server-pid), and so are its CPU time \
                 and memory"
                    .to_owned(),
            );
        }
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut table = format!("{}\n", self.title);
        let width = self.figures.iter().map(|figure| figure.label.len()).max();
        let width = width.unwrap_or(0);
        for Figure {
            label, value, unit, ..
        } in &self.figures
        {
            let value = value.map_or("unknown".to_owned(), shown);
            let _ = writeln!(table, "  {label:width$}  {value:>14} {unit}");
        }
        for note in &self.notes {
            let _ = writeln!(table, "  note: {note}");
        }
        table
    }

    /// One line of JSON for programs.
    pub fn json(&self) -> String {
        let mut fields = vec![format!("\"title\":{}", quoted(&self.title))];
        for Figure { key, value, .. } in &self.figures {
            let value = value.map_or("null".to_owned(), |value| value.to_string());
            fields.push(format!("\"{key}\":{value}"));
        }
        let notes: Vec<_> = self.notes.iter().map(|note| quoted(note)).collect();
        fields.push(format!("\"notes\":[{}]", notes.join(",")));
        format!("{{{}}}\n", fields.join(","))
    }
}

/// Formats a number with separators between thousands, and no more digits than are
/// significant.
pub fn shown(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    if value < 0.0 {
        format!("-{shown}")
    } else {
        shown
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (value, expected) in [
            (0.0, "0"),
            (0.25, "0.250"),
            (99.5, "99.500"),
            (100.4, "100"),
            (1_234_567.8, "1,234,568"),
            (-1_000.0, "-1,000"),
        ] {
            assert_eq!(shown(value), expected);
        }
    }

    #[test]
    fn an_object_for_programs() {
        let mut report = Report::new("a \"title\"".to_owned());
        report.add("known_s", "known", 1.5, "s");
        report.add("unknown_s", "unknown", None, "s");
        report.add("ratio", "nothing by nothing", f64::NAN, "");
        report.add_memory(Some(-262.0));
        report.note("back\\slash".to_owned());
        assert_eq!(
            report.json(),
            "{\"title\":\"a \\\"title\\\"\",\"known_s\":1.5,\"unknown_s\":null,\
             \"ratio\":null,\"bytes_per_connection\":null,\
             \"notes\":[\"the server's memory has not grown, since it had spare memory from before: \
             restart it to measure what a connection takes\",\"back\\\\slash\"]}\n"
        );
    }
}
