//! The inside of [`Builder::build`]: checks everything, connects.

use std::sync::Arc;

use super::check::check;
use super::{Builder, memory, properties, target, topics};
use crate::broker::kafka::{self, KafkaOptions};
use crate::error::Result;
use crate::on_error::LetterWriter;
use crate::processor::ProcessorFactory;
use crate::settings::{BatchLimits, FlightLimits, Settings, addable};
use crate::topic_processor::{Connected, TopicProcessor};

impl Builder {
    pub(super) async fn connect(self, factory: impl ProcessorFactory) -> Result<TopicProcessor> {
        #[cfg_attr(not(feature = "admin"), allow(unused_mut, reason = "nothing adds to it"))]
        let mut options = self.options;
        #[cfg(feature = "admin")]
        options.faults.extend(self.admin.fault());
        let options = &options;
        let plan = check(options)?;
        #[cfg(feature = "admin")]
        let admin = self.admin.listen().await?;
        let (metadata, letter_partitions) = topics::look_up(options, &plan).await?;
        let topics: Arc<[Arc<str>]> =
            options.topics.iter().map(|topic| topic.as_str().into()).collect();
        let assignment = topics::static_assignment(options, &metadata)?;
        let numbers = topics::partition_numbers(&metadata, assignment.as_deref());
        let (consumer_properties, producer_properties) =
            properties::clients(options, &plan, numbers, topics.len());
        let settings = Settings {
            name: options.name.as_str().into(),
            group_id: plan.group_id.clone(),
            topics: topics.clone(),
            is_static: assignment.is_some(),
            batch: BatchLimits {
                max_messages: options.max_batch_messages,
                max_bytes: options.max_batch_bytes,
                max_wait: addable(options.max_batch_wait),
                // Who waits for more wants large batches.
                is_fixed: !options.max_batch_wait.is_zero(),
            },
            in_flight: FlightLimits {
                max_batches: options.max_in_flight,
                max_bytes: memory::in_flight(options, numbers),
            },
            tick_interval: options.tick_interval.map(addable),
            commit_interval: addable(target::commit_interval(options)),
            target_latency: options.target_latency.map(addable),
            offset_refresh_interval: addable(options.offset_refresh_interval),
            drain_deadline: addable(plan.drain_deadline),
            commit_timeout: addable(plan.commit_timeout),
            stall_timeout: addable(options.stall_timeout),
            start_from: options.start_from,
            out_of_range: options.out_of_range,
            on_rebalance: options.on_rebalance.clone(),
            letters: Arc::new(LetterWriter::new(
                options.on_error.clone(),
                options.name.as_str().into(),
                plan.group_id.clone(),
                letter_partitions,
            )),
            metrics: options.metrics.clone(),
            metrics_interval: addable(options.metrics_interval),
            lag_interval: addable(options.lag_interval),
            topic_check_interval: addable(options.topic_check_interval),
            needs_alignment: options.is_joined(),
        };
        let connected = kafka::connect(KafkaOptions {
            consumer_properties,
            producer_properties,
            topics,
            partitions: assignment,
            isolation_read_committed: plan.read_committed,
            token_provider: options.token_provider.clone(),
        })?;
        let (consumer, events, producer) = connected;
        let connected = Connected { consumer, events, producer, factory: Box::new(factory) };
        let processor = TopicProcessor::new(Arc::new(settings), connected);
        #[cfg(feature = "admin")]
        let processor = crate::admin::AdminSettings::serve(admin, processor)?;
        Ok(processor)
    }
}
