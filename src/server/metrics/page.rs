//! Page: the metrics in the text format of Prometheus.

use std::fmt::{Display, Write};

use super::{Counts, Histogram, Metrics, cluster::ClusterGauges, process::Process, short_name};
use crate::server::expiry::Expiry;

/// What is known only at the moment.
#[derive(Debug, Default)]
pub(in crate::server) struct Gauges {
    pub(in crate::server) connections: usize,
    pub(in crate::server) members: usize,
    /// Members so far behind the log that they keep it long.
    pub(in crate::server) slow_readers: usize,
    /// What the log in memory takes, in bytes.
    pub(in crate::server) log_bytes: u64,
    /// What waits in the buffers of all connections, in bytes.
    pub(in crate::server) buffered_bytes: u64,
    /// Senders wait for readers.
    pub(in crate::server) is_paused: bool,
    /// The room is kept on disk.
    pub(in crate::server) has_store: bool,
    /// The disk has no space to keep another chat.
    pub(in crate::server) is_store_full: bool,
    /// On a node of a cluster: whether it takes part.
    pub(in crate::server) is_in_cluster: Option<bool>,
    /// When the server began, in seconds since 1970.
    pub(in crate::server) start_unix_s: f64,
    /// Until when the certificate is valid, if the server has one.
    pub(in crate::server) expiry: Option<Expiry>,
}

/// The page of all metrics.
pub(in crate::server) fn page(metrics: &Metrics, counts: &Counts, gauges: &Gauges) -> String {
    let mut page = Page(String::new());
    let Gauges {
        log_bytes,
        buffered_bytes,
        ..
    } = gauges;
    page.one(
        "chat_connections",
        "gauge",
        "Connections, registered or not.",
        gauges.connections,
    );
    page.labelled(
        "chat_connections_total",
        "counter",
        "Connections that were accepted, by transport.",
        "transport",
        counts
            .connections
            .iter()
            .map(|(name, count)| (*name, *count)),
    );
    page.one(
        "chat_members",
        "gauge",
        "Members of the room.",
        gauges.members,
    );
    page.one(
        "chat_messages_total",
        "counter",
        "Messages that were accepted.",
        counts.messages,
    );
    page.one(
        "chat_deliveries_total",
        "counter",
        "Members that accepted messages were for, summed over the messages.",
        counts.deliveries,
    );
    page.one(
        "chat_received_bytes_total",
        "counter",
        "Bytes of frames that clients sent, without encryption and headers.",
        metrics.received_bytes(),
    );
    page.one(
        "chat_sent_bytes_total",
        "counter",
        "Bytes of frames that transports took, without encryption and headers.",
        metrics.sent_bytes(),
    );
    page.labelled(
        "chat_refusals_total",
        "counter",
        "Errors that were sent to clients, by code.",
        "code",
        counts
            .refusals
            .iter()
            .map(|(code, count)| (short_name(*code), *count)),
    );
    page.one(
        "chat_slow_readers",
        "gauge",
        "Members so far behind that they keep the log long.",
        gauges.slow_readers,
    );
    page.one(
        "chat_log_bytes",
        "gauge",
        "Memory that the log takes.",
        log_bytes,
    );
    page.one(
        "chat_buffered_bytes",
        "gauge",
        "Memory of replies that are not sent and frames that are not whole.",
        buffered_bytes,
    );
    page.one(
        "chat_read_paused",
        "gauge",
        "1 while senders wait for readers or for the disk.",
        u8::from(gauges.is_paused),
    );
    page.histogram(
        "chat_delivery_seconds",
        "From the commit of a message until a member's transport has taken it; one message in \
         each tenth of a second is measured.",
        &metrics.deliveries.histogram,
    );
    if gauges.has_store {
        page.one(
            "chat_store_full",
            "gauge",
            "1 while the disk has no space for another message.",
            u8::from(gauges.is_store_full),
        );
        page.histogram(
            "chat_store_commit_seconds",
            "How long the disk takes for a commit.",
            &metrics.commits,
        );
    }
    if let Some(expiry) = gauges.expiry {
        let ends = [
            ("server", Some(expiry.server_unix_s)),
            ("issuers", expiry.issuers_unix_s),
        ];
        page.labelled(
            "chat_certificate_expiry_timestamp_seconds",
            "gauge",
            "When the certificate ends, and the first of those of its issuers, in seconds since \
             1970.",
            "certificate",
            ends.into_iter()
                .filter_map(|(name, end)| Some((name, u64::try_from(end?).unwrap_or(0)))),
        );
    }
    if let Some(is_in) = gauges.is_in_cluster {
        page.cluster(metrics, is_in);
    }
    page.one_labelled(
        "chat_build_info",
        "The version of the server; the value is 1.",
        "version",
        env!("CARGO_PKG_VERSION"),
    );
    page.process(&Process::read(), gauges.start_unix_s);
    page.0
}

struct Page(String);

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn one_labelled(&mut self, name: &str, help: &str, label: &str, value: &str) {
        self.head(name, "gauge", help);
        self.line(format_args!("{name}{{{label}=\"{value}\"}} 1"));
    }

    /// A number for each value of a label. The values are words of this program.
    fn labelled(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'static str, u64)>,
    ) {
        self.head(name, kind, help);
        for (value, count) in values {
            self.line(format_args!("{name}{{{label}=\"{value}\"}} {count}"));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut total = 0;
        for (bound_us, count) in histogram.cumulative() {
            let bound = seconds(bound_us);
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
            total = count;
        }
        total += histogram.above();
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {total}"));
        self.line(format_args!("{name}_sum {}", seconds(histogram.sum_us())));
        self.line(format_args!("{name}_count {total}"));
    }

    fn cluster(&mut self, metrics: &Metrics, is_in: bool) {
        let ClusterGauges {
            applied,
            behind,
            checkpoint,
            nodes,
            cuts,
            node_downs,
            past_messages,
        } = metrics.cluster.gauges();
        let help = "1 while this node takes part in the cluster: it reaches NATS and the others.";
        self.one("chat_cluster_reachable", "gauge", help, u8::from(is_in));
        let help = "Nodes that take part, as far as this one knows.";
        self.one("chat_cluster_nodes", "gauge", help, nodes);
        let help = "The position of the last record that this node has applied.";
        self.one("chat_cluster_applied_position", "gauge", help, applied);
        let help = "Records that NATS has and this node has not applied.";
        self.one("chat_cluster_behind_records", "gauge", help, behind);
        let help = "The position of the last checkpoint that this node knows of; 0 for none.";
        self.one(
            "chat_cluster_checkpoint_position",
            "gauge",
            help,
            checkpoint,
        );
        let help = "How often this node was cut off and has ended its sessions.";
        self.one("chat_cluster_cut_off_total", "counter", help, cuts);
        let help = "How often another node was declared gone.";
        self.one("chat_cluster_node_downs_total", "counter", help, node_downs);
        let help = "Messages that this node had missed and has got from another one.";
        self.one(
            "chat_cluster_past_messages_total",
            "counter",
            help,
            past_messages,
        );
        self.histogram(
            "chat_cluster_batch_seconds",
            "From the first publication of a batch until this node has applied it.",
            &metrics.cluster.batches,
        );
    }

    fn process(&mut self, process: &Process, start_unix_s: f64) {
        if let Some(seconds) = process.cpu_seconds {
            let help = "Processor time that the process has used.";
            self.one("process_cpu_seconds_total", "counter", help, seconds);
        }
        if let Some(bytes) = process.resident_bytes {
            let help = "Memory of the process that is resident.";
            self.one("process_resident_memory_bytes", "gauge", help, bytes);
        }
        if let Some(count) = process.open_fds {
            let help = "File descriptors that are open.";
            self.one("process_open_fds", "gauge", help, count);
        }
        if let Some(count) = process.max_fds {
            let help = "File descriptors that may be open.";
            self.one("process_max_fds", "gauge", help, count);
        }
        let help = "When the process began, in seconds since 1970.";
        self.one("process_start_time_seconds", "gauge", help, start_unix_s);
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1_000_000.0
}
