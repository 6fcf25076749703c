//! The inside of [`Builder::build`]: checks everything, connects.

use std::sync::Arc;

use super::Builder;
use crate::broker::kafka::{self, KafkaOptions};
use crate::error::Result;
use crate::processor::ProcessorFactory;
use crate::properties;
use crate::settings::{BatchLimits, FlightLimits, Settings, addable};
use crate::topic_processor::{Connected, TopicProcessor};
use crate::topics;

impl Builder {
    pub(super) async fn connect(self, factory: impl ProcessorFactory) -> Result<TopicProcessor> {
        let plan = properties::check(&self)?;
        #[cfg(feature = "admin")]
        let admin = crate::admin::OfBuilder::listen(self.admin.clone()).await?;
        let metadata = topics::look_up(&self, &plan).await?;
        let topics: Arc<[Arc<str>]> =
            self.topics.iter().map(|topic| topic.as_str().into()).collect();
        let assignment = topics::static_assignment(&self, &metadata)?;
        let numbers = topics::partition_numbers(&metadata, assignment.as_deref());
        let (consumer_properties, producer_properties) = plan.clients(&self, numbers, topics.len());
        let settings = Settings {
            name: self.name.as_str().into(),
            group_id: plan.group_id.clone(),
            topics: topics.clone(),
            is_static: assignment.is_some(),
            batch: BatchLimits {
                max_messages: self.max_batch_messages,
                max_bytes: self.max_batch_bytes,
                max_wait: addable(self.max_batch_wait),
            },
            in_flight: FlightLimits {
                max_batches: self.max_in_flight,
                max_bytes: self.max_in_flight_bytes,
            },
            commit_interval: addable(self.commit_interval),
            offset_refresh_interval: addable(self.offset_refresh_interval),
            drain_deadline: addable(plan.drain_deadline),
            commit_timeout: addable(plan.commit_timeout),
            stall_timeout: addable(self.stall_timeout),
            start_from: self.start_from,
            out_of_range: self.out_of_range,
            on_rebalance: self.on_rebalance.clone(),
            metrics: self.metrics.clone(),
            metrics_interval: addable(self.metrics_interval),
            lag_interval: addable(self.lag_interval),
            topic_check_interval: addable(self.topic_check_interval),
            needs_alignment: assignment.is_none()
                && !self.allow_unaligned_topics
                && self.topics.len() > 1,
        };
        let connected = kafka::connect(KafkaOptions {
            consumer_properties,
            producer_properties,
            topics,
            partitions: assignment,
            isolation_read_committed: plan.read_committed,
            token_provider: self.token_provider.clone(),
        })?;
        let (consumer, events, producer) = connected;
        let connected = Connected { consumer, events, producer, factory: Box::new(factory) };
        let processor = TopicProcessor::new(Arc::new(settings), connected);
        #[cfg(feature = "admin")]
        let processor = crate::admin::OfBuilder::serve(admin, processor)?;
        Ok(processor)
    }
}
