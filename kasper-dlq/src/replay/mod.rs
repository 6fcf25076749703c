//! `replay`: sends original messages back.
//!
//! From top to bottom: the [group] that remembers how far it is; the [rules], which say what becomes of a letter; the
//! [plan], for `--dry-run` and for the question; [sending](send), at a [pace]; and the [tally] of what has been done.

mod group;
pub(crate) mod pace;
mod plan;
mod progress;
mod rules;
mod send;
mod tally;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use kasper::{ErrorKind, OutOfRange, TopicProcessor};

use self::pace::Pace;
use self::plan::Plan;
use self::progress::Progress;
use self::rules::Rules;
use self::send::{End, Enough, Replay, Run};
use crate::args::ReplayArgs;
use crate::cluster::{Cluster, Extent};
use crate::connection::{Connection, ConnectionArgs};
use crate::text::{complain, count};

/// How many letters of a partition may wait for their acks.
const IN_FLIGHT: usize = 1000;

/// How long acks are waited for at the end, and in a rebalance.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the group waits for a process that was killed. The client's default is 45 s.
const SESSION_MS: &str = "10000";

/// Interrupted by Ctrl-C, as shells report it.
const INTERRUPTED: u8 = 130;

pub(crate) fn run(connection: &ConnectionArgs, args: &ReplayArgs) -> Result<ExitCode> {
    if args.to.as_deref() == Some(args.topic.as_str()) {
        bail!("--to names the dead letter topic itself: its messages would be letters no more");
    }
    if !args.yes && !args.dry_run && !io::stdin().is_terminal() {
        bail!(
            "there is no terminal to ask at: give --yes to send, or --dry-run to see what would be sent"
        );
    }
    let connection = connection.connection()?;
    let default_group = || group::name(&args.topic, &args.filter, args.to.as_deref());
    let group = args.group.clone().unwrap_or_else(default_group);
    let cluster = Cluster::new(&connection, Some(&group))?;
    let extents = cluster.extents(&args.topic)?;
    if let Some(to) = &args.to {
        rules::check(to, None, cluster.partitions(to)?)?;
    }
    let left = left(&cluster, &args.topic, &extents)?;
    let total: u64 = left.iter().map(Extent::len).sum();
    if args.dry_run || (!args.yes && total > 0) {
        let plan = Plan::make(&cluster, &args.topic, &left, &rules_of(args))?;
        if let Some(code) = present(&plan, args, &group)? {
            return Ok(code);
        }
    }
    if total == 0 {
        println(&format!("nothing to replay: group {group} is at the end of {}", args.topic))?;
        return Ok(ExitCode::SUCCESS);
    }
    let ends = extents.iter().map(|extent| (extent.partition, extent.end)).collect();
    let pace = Pace::new(args.rate);
    let limit = args.limit.map(std::num::NonZero::get);
    let run = Run::new(rules_of(args), ends, limit, pace, Arc::new(cluster));
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(send_all(&run, &connection, args, &group, total))?;
    conclude(&run, args, &group, outcome)
}

fn rules_of(args: &ReplayArgs) -> Rules {
    Rules {
        filter: args.filter.clone(),
        to: args.to.clone(),
        repartition: args.repartition,
        max_replays: args.max_replays,
    }
}

/// What the group has not done yet. An offset beyond the end is one of a topic of that name that was deleted.
fn left(cluster: &Cluster, topic: &str, extents: &[Extent]) -> Result<Vec<Extent>> {
    let committed = cluster.committed(topic, extents.iter().map(|extent| extent.partition))?;
    let rest = |extent: &Extent| {
        let committed = committed.get(&extent.partition).filter(|next| **next <= extent.end);
        Extent { start: committed.map_or(extent.start, |next| extent.start.max(*next)), ..*extent }
    };
    Ok(extents.iter().map(rest).collect())
}

/// Says what would be done, and asks whether to do it. The exit code, if that is all.
fn present(plan: &Plan, args: &ReplayArgs, group: &str) -> Result<Option<ExitCode>> {
    let limit = args.limit.map(std::num::NonZero::get);
    let mut out = io::stdout().lock();
    plan.print(limit, args.max_replays, &mut out)?;
    writeln!(out, "group {group}")?;
    out.flush()?;
    if !plan.problems.is_empty() {
        plan.problems.iter().for_each(|problem| complain(problem));
        return Ok(Some(ExitCode::FAILURE));
    }
    if args.dry_run {
        writeln!(out, "dry run: nothing was sent")?;
        return Ok(Some(ExitCode::SUCCESS));
    }
    if plan.counts.replayed == 0 {
        // To go on commits that the others need not be looked at again.
        return Ok(None);
    }
    write!(
        out,
        "Send {}? [y/N] ",
        count(limit.unwrap_or(u64::MAX).min(plan.counts.replayed), "message")
    )?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(None);
    }
    writeln!(out, "nothing was sent")?;
    Ok(Some(ExitCode::SUCCESS))
}

/// # Errors
/// It could not begin. How it ended is inside.
async fn send_all(
    run: &Arc<Run>,
    connection: &Connection,
    args: &ReplayArgs,
    group: &str,
    total: u64,
) -> Result<kasper::Result<()>> {
    let mut builder = TopicProcessor::builder("kasper-dlq", [args.topic.as_str()])
        .brokers(&connection.brokers)
        .group_id(group)
        .max_batch_messages(1)
        .max_in_flight(IN_FLIGHT)
        .drain_deadline(DRAIN)
        .out_of_range(OutOfRange::Earliest)
        .kafka("session.timeout.ms", SESSION_MS);
    for (name, value) in connection.properties() {
        builder = builder.kafka(name, value);
    }
    let replay = run.clone();
    let processor = builder.build(move |_| Replay(replay.clone())).await;
    let processor = processor.map_err(|error| anyhow!("{error:#}"))?;
    let handle = processor.handle();
    let mut progress = Progress::new(total);
    let outcome = tokio::select! {
        outcome = processor.run_until_caught_up() => outcome,
        never = run.watch(handle, &mut progress) => match never {},
        never = run.listen() => match never {},
    };
    progress.end();
    Ok(outcome.map(drop))
}

/// Says what was done, and how it ended.
fn conclude(
    run: &Run,
    args: &ReplayArgs,
    group: &str,
    outcome: kasper::Result<()>,
) -> Result<ExitCode> {
    let committed = run.cluster.committed(&args.topic, run.ends.keys().copied());
    let committed: BTreeMap<i32, i64> = committed.unwrap_or_default();
    let mut tally = run.tally();
    for (partition, next) in committed {
        tally.finished(partition, next);
    }
    let (counts, unconfirmed) = (tally.counts(), tally.unconfirmed());
    drop(tally);
    let (failure, is_letters) = match outcome {
        Ok(()) => (None, false),
        Err(error) if error.find::<Enough>().is_some() => {
            (run.failure().map(|text| anyhow!("{text}")), true)
        }
        Err(error) => (Some(explained(run, &error)), is_letters(&error)),
    };
    println(&counts.to_string())?;
    for line in counts.left(args.max_replays) {
        println(&line)?;
    }
    if failure.is_some() && is_letters {
        println("1 failed")?;
    }
    if unconfirmed > 0 {
        let messages = count(unconfirmed, "message");
        println(&format!(
            "{messages} sent, but not known to have arrived: the next run sends them again"
        ))?;
    }
    let (why, code) = match (&failure, run.why_ended()) {
        (Some(_), _) => ("stopped", ExitCode::FAILURE),
        (None, Some(End::Interrupted)) => ("interrupted", ExitCode::from(INTERRUPTED)),
        (None, Some(End::Limit)) => ("ended at --limit", ExitCode::SUCCESS),
        (None, _) => return Ok(ExitCode::SUCCESS),
    };
    println(&format!("{why}; the same command continues there, with group {group}"))?;
    failure.map_or(Ok(code), Err)
}

/// Whether it is the error of a single letter.
fn is_letters(error: &kasper::Error) -> bool {
    matches!(error.kind(), ErrorKind::Process | ErrorKind::Panic | ErrorKind::Delivery)
}

/// A letter that was refused says itself what to do.
fn explained(run: &Run, error: &kasper::Error) -> anyhow::Error {
    match run.failure() {
        Some(text) if error.kind() == ErrorKind::Process => anyhow!("{text}"),
        _ => anyhow!("{error:#}"),
    }
}

fn println(line: &str) -> Result<()> {
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}
