//! The command line.

use std::num::{NonZeroU64, NonZeroUsize};

use clap::{Parser, Subcommand};
use kasper::logging::Logging;

use crate::connection::ConnectionArgs;
use crate::filter::FilterArgs;
use crate::replay::pace::Rate;
use crate::show::Position;

/// List, show and replay the letters of a Kafka dead letter topic
///
/// A letter is a message that could not be processed: the original key, value, headers and timestamp, and then headers
/// that say where it came from and what went wrong (`__dlq.errors.*` of KIP-1191, `kasper.error.*`). Kasper writes
/// them, and so do Kafka's share groups. Messages without these headers are counted, and left alone; so are, in a replay,
/// letters of share groups that don't copy the message (`errors.deadletterqueue.copy.record.enable`).
///
/// `list` and `show` change nothing: they join no consumer group and commit no offsets. Begin a replay with `--dry-run`.
///
/// Examples:
///   kasper-dlq --brokers kafka:9092 list orders-dlq
///   kasper-dlq --brokers kafka:9092 list orders-dlq --letters --kind 'process failed' --since 2026-12-01T00:00:00Z
///   kasper-dlq --brokers kafka:9092 show orders-dlq 0:17
///   kasper-dlq --brokers kafka:9092 replay orders-dlq --dry-run
///   kasper-dlq --brokers kafka:9092 replay orders-dlq --processor billing --rate 100
///
/// Exit codes: 0 done; 1 failed, or a letter to show is not there; 2 wrong arguments; 130 a replay was interrupted
/// by Ctrl-C or SIGTERM, and can be continued with the same command.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    /// Write the log of the library and of the Kafka client to standard error; RUST_LOG sets the levels
    #[arg(long, short, global = true, help_heading = "Connection")]
    verbose: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Replay(ReplayArgs),
}

impl Args {
    pub(crate) fn start_log(&self) -> anyhow::Result<()> {
        if self.verbose {
            Logging::basic().init()?;
        }
        Ok(())
    }
}

/// Count a topic's letters by source topic, error and processor, or list them
///
/// Reads the topic from its beginning to its present end. It joins no consumer group and commits nothing.
///
/// Examples:
///   kasper-dlq list orders-dlq
///   kasper-dlq list orders-dlq --since 2026-12-01T00:00:00Z --json
///   kasper-dlq list orders-dlq --letters --contains 'unknown currency'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ListArgs {
    /// The dead letter topic
    pub(crate) topic: String,

    /// List single letters, a line each: partition:offset, time of the error, source as topic/partition@offset, kind, message
    #[arg(long)]
    pub(crate) letters: bool,

    /// Print JSON: one document, or with --letters one object in each line
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// Show everything about single letters
///
/// Source, error, causes, headers, and key and value: JSON is indented, other text is shown as it is, and the rest as
/// a hex dump. It joins no consumer group and commits nothing.
///
/// Examples:
///   kasper-dlq show orders-dlq 0 17
///   kasper-dlq show orders-dlq 0:17 3:1204 --max-bytes 100000
///   kasper-dlq show orders-dlq 0:17 --json | jq -r .value.text
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ShowArgs {
    /// The dead letter topic
    pub(crate) topic: String,

    /// PARTITION OFFSET of one letter, or PARTITION:OFFSET of several
    #[arg(required = true, value_name = "POSITION")]
    pub(crate) positions: Vec<String>,

    /// The most bytes to show of a key, of a value and of each header; default: 65536, and 1024 for a hex dump
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_bytes: Option<NonZeroUsize>,

    /// Print JSON, one object in each line: bytes that are not UTF-8 in base64, and nothing cut off
    #[arg(long)]
    pub(crate) json: bool,
}

impl ShowArgs {
    pub(crate) fn parsed_positions(&self) -> anyhow::Result<Vec<Position>> {
        Position::parse_all(&self.positions)
    }
}

/// Send the original messages of letters to where they came from, or to another topic
///
/// Each message is sent with its original key, value, headers and timestamp, and two headers more: `kasper.redriven`,
/// the number of its replays, and `kasper.redriven.from`, where it was rejected first. It goes to the partition that it
/// came from, so that the order of a key's messages is kept; with --to, its key chooses the partition.
///
/// The letters stay in the dead letter topic. How far the replay is, is committed in a consumer group, after the
/// brokers have acknowledged what was sent: if it is interrupted, the same command continues behind the letters that
/// are done. After a crash, letters may be replayed twice: those sent since the last commit, a second at most.
/// The group's name is made from TOPIC, the filters and --to. A command with OTHER filters or another --to has a group
/// of its own: it begins at the beginning, and may replay letters that were replayed before. Several processes with
/// the same command share the partitions.
///
/// The replay ends where the topic ended when it began: messages that fail again become new letters, which the next
/// run replays.
///
/// Examples:
///   kasper-dlq replay orders-dlq --dry-run
///   kasper-dlq replay orders-dlq --kind 'process failed' --limit 10
///   kasper-dlq replay orders-dlq --yes --rate 50
///   kasper-dlq replay orders-dlq --to orders-repair
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ReplayArgs {
    /// The dead letter topic
    pub(crate) topic: String,

    /// Send to this topic, in place of each letter's source topic; keys choose the partitions
    #[arg(long, value_name = "TOPIC")]
    pub(crate) to: Option<String>,

    /// Let keys choose the partitions of the source topic too, as Java's clients do; for a topic whose number of
    /// partitions has changed
    #[arg(long)]
    pub(crate) repartition: bool,

    /// Say what would be sent, and send and commit nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Don't ask, and don't read the letters beforehand to count them; needed without a terminal
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// Send at most so many messages a second; default: without limit
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<Rate>,

    /// End after so many messages; the same command continues behind them
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroU64>,

    /// Leave letters whose message was replayed so often already: against loops
    ///
    /// They are counted, and passed over: to replay them, take another --group. Letters of kind `quarantined` are
    /// replayed in any case: what failed was another message.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) max_replays: u64,

    /// The consumer group that remembers how far the replay is; default: made from TOPIC, the filters and --to
    #[arg(long)]
    pub(crate) group: Option<String>,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_connection_may_be_given_before_or_behind_the_command() {
        for line in
            ["kasper-dlq --brokers a:1 list x", "kasper-dlq list x --brokers a:1 --property a=b"]
        {
            let args = Args::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(args.connection.brokers.as_deref(), Some("a:1"));
        }
    }
}
